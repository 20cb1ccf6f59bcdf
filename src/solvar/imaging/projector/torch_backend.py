"""The projector in torch, for GPUs and as a second opinion on the numba kernels.

Same lattice as `lattice.py` without its padding: one row of 2·C real values a lattice point, rows
in the order kz, ky, kx. Reading a slice is a weighted bag of w³ rows a pixel (`embedding_bag`); the
adjoint adds w³ weighted rows (`index_add_`). On a GPU those sums run in no fixed order, so they
repeat to rounding and not to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

from solvar.errors import InputError
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector.kernel import KERNELS, InterpolationKernel
from solvar.imaging.projector.lattice import Lattice

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]

# Values of the largest temporary array; images are taken in chunks that stay below it
_CHUNK_VALUES = 1 << 22


class TorchProjector:
    """Slices of a lattice and their adjoint on a torch device; implements `Projector`.

    Parameters
    ----------
    lattice : Lattice
    disc : HalfDisc
    device : str
        As torch spells it: "cpu", "cuda", "cuda:1", "mps".
    dtype : torch.dtype
        float32, or float64 for tests.

    Raises
    ------
    InputError
        When the device does not exist here.
    """

    def __init__(
        self, lattice: Lattice, disc: HalfDisc, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        self.lattice, self.disc = lattice, disc
        self._device, self._dtype = _existing_device(device), dtype
        self._complex = torch.complex(*torch.zeros(2, 1, dtype=dtype)).dtype
        self._rows = lattice.side * lattice.side * lattice.depth
        frequency = np.stack([disc.kx, disc.ky]).astype(np.float32) * np.float32(lattice.upsampling)
        self._frequency = self._tensor(frequency)
        # "nearest" has no slope of its own (`InterpolationKernel.slope_width`)
        kernel = lattice.kernel
        self._slope_kernel = kernel if kernel.width > 1 else KERNELS["trilinear"]
        self._matrix = torch.as_tensor(lattice.axis_matrix).to(self._device, self._complex)

    def prepare(self, volumes: Float32) -> torch.Tensor:
        """Lattice of (C, box, box, box) volumes, (points, 2·C) on the device."""
        grid = self.lattice
        along_z = self._matrix, self._matrix, self._matrix[grid.reach - grid.margin :]
        v = self._tensor(volumes).to(self._complex)
        for axis, matrix in zip((3, 2, 1), reversed(along_z), strict=True):
            v = torch.movedim(torch.tensordot(v, matrix, dims=([axis], [1])), -1, axis)
        return torch.view_as_real(torch.movedim(v, 0, -1).contiguous()).reshape(self._rows, -1)

    def collect(self, scattered: torch.Tensor) -> Float32:
        """Volumes (C, box, box, box) of an accumulator: the adjoint of `prepare`."""
        grid = self.lattice
        shape = (grid.side, grid.side, grid.depth, -1, 2)
        v = torch.movedim(torch.view_as_complex(scattered.reshape(shape)), -1, 0)
        back = self._matrix.conj()
        for axis, matrix in zip(
            (1, 2, 3), (back, back, back[grid.reach - grid.margin :]), strict=True
        ):
            v = torch.movedim(torch.tensordot(v, matrix, dims=([axis], [0])), -1, axis)
        return np.ascontiguousarray(v.real.cpu().numpy())

    def zeros(self, channels: int) -> torch.Tensor:
        """An empty accumulator for `scatter`, (points, 2·channels) on the device."""
        return torch.zeros(self._rows, 2 * channels, dtype=self._dtype, device=self._device)

    def channels(self, prepared: torch.Tensor) -> int:
        """Number C of volumes that were prepared."""
        return prepared.shape[1] // 2

    def project(
        self,
        prepared: torch.Tensor,
        rotation: Float32,
        scale: Float32,
        out: Complex64 | None = None,
    ) -> Complex64:
        """Slices (B, C, n) times `scale`; see `Projector.project`."""
        channels = self.channels(prepared)
        if out is None:
            kind = np.complex64 if self._dtype == torch.float32 else np.complex128
            out = np.empty((len(rotation), channels, len(self.disc)), dtype=kind)
        for images in self._chunks(len(rotation), channels):
            window, sign = self._windows(rotation[images], self.lattice.kernel)
            weight = window.weight()
            bags = embedding_bag(window.rows, prepared, per_sample_weights=weight, mode="sum")
            values = bags.reshape(*sign.shape, channels, 2)
            values *= self._factor(scale[images], sign)
            slices = torch.view_as_complex(values).transpose(1, 2)
            out[images] = slices.cpu().numpy()
        return out

    def scatter(
        self, images: Complex64, rotation: Float32, scale: Float32, into: torch.Tensor
    ) -> None:
        """Add the adjoint of `project` at (B, C, n) images to an accumulator."""
        channels = images.shape[1]
        for some in self._chunks(len(rotation), channels):
            window, sign = self._windows(rotation[some], self.lattice.kernel)
            weight = window.weight()
            values = torch.as_tensor(np.ascontiguousarray(images[some])).to(self._device)
            values = torch.view_as_real(values.transpose(1, 2).contiguous()).to(self._dtype)
            rows = (values * self._factor(scale[some], sign)).reshape(-1, 2 * channels)
            for corner in range(window.rows.shape[1]):
                into.index_add_(0, window.rows[:, corner], rows * weight[:, corner, None])

    def differentiate(
        self,
        prepared: torch.Tensor,
        rotation: Float32,
        scale: Float32,
        first_moment: Float64,
        residual: Complex64,
    ) -> tuple[Complex64, Float64]:
        """Rotation derivatives; see `Projector.differentiate`."""
        count, channels, pixels = residual.shape
        tangent = np.empty((count, 3, pixels), dtype=np.complex64)
        torque = np.empty((count, 3))
        for some in self._chunks(count, 3 * channels):
            window, sign = self._windows(rotation[some], self._slope_kernel)
            slopes = [
                embedding_bag(window.rows, prepared, per_sample_weights=weight, mode="sum")
                for weight in (window.weight(axis) for axis in (2, 1, 0))
            ]
            # ω moves κ by ω × κ
            gradient = torch.stack(slopes).reshape(3, *sign.shape, channels, 2)
            place = window.position.flip(0).reshape(3, *sign.shape, 1, 1)
            turned = torch.linalg.cross(place.expand_as(gradient), gradient, dim=0)
            turned = turned * self._factor(scale[some], sign)
            moment = self._tensor(first_moment[some])
            sums = torch.einsum("dbncr,bc->bdnr", turned, moment).contiguous()
            tangent[some] = torch.view_as_complex(sums).cpu().numpy()
            pull = torch.as_tensor(np.ascontiguousarray(residual[some])).to(self._device)
            pull = torch.view_as_real(pull).to(self._dtype)
            torque[some] = torch.einsum("dbncr,bcnr->bd", turned, pull).cpu().numpy()
        return tangent, torque

    def _windows(
        self, rotation: Float32, kernel: InterpolationKernel
    ) -> tuple[_Windows, torch.Tensor]:
        """The window of each pixel, and sign (B, n).

        The sign is -1 where the conjugate at the opposite point is read instead, because x < 0.
        """
        grid = self.lattice
        position = self._tensor(rotation)[:, :, :2] @ self._frequency
        sign = torch.where(position[:, 0] < 0, -1.0, 1.0).to(self._dtype)
        # axes z, y, x from here on, as in the lattice
        position = (position * sign[:, None]).flip(1).transpose(0, 1).reshape(3, -1)
        return _Windows(grid, kernel, position), sign

    def _factor(self, scale: Float32, sign: torch.Tensor) -> torch.Tensor:
        """What real and imaginary parts are multiplied by, (B, n, 1, 2)."""
        real = self._tensor(scale)
        return torch.stack([real, sign * real], dim=-1)[:, :, None]

    def _chunks(self, count: int, channels: int) -> Iterator[slice]:
        values = len(self.disc) * self._slope_kernel.width**3 * max(4, 2 * channels)
        step = max(1, _CHUNK_VALUES // values)
        return (slice(first, first + step) for first in range(0, count, step))

    def _tensor(self, array: NDArray[np.floating]) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(array)).to(self._device, self._dtype)


class _Windows:
    """Windows around positions (3, n), axes z, y, x, in units of the lattice.

    Attributes
    ----------
    position : (3, n)
    rows : (n, w³)
        Lattice rows of each window.
    """

    def __init__(self, grid: Lattice, kernel: InterpolationKernel, position: torch.Tensor) -> None:
        width = kernel.width
        middle = torch.floor(position + 0.5) if width % 2 else torch.floor(position) + 0.5
        self.position, self._kernel, self._distance = position, kernel, position - middle
        iz, iy, ix = (middle - (width - 1) / 2).to(torch.int64)
        plane, row = grid.side * grid.depth, grid.depth
        start = (iz + grid.reach) * plane + (iy + grid.reach) * row + ix + grid.margin
        point = torch.arange(width, device=position.device)
        offset = point[:, None, None] * plane + point[:, None] * row + point
        self.rows = start[:, None] + offset.reshape(-1)

    def weight(self, slope: int | None = None) -> torch.Tensor:
        """Weights (n, w³), or their derivatives along an axis."""
        taps, slopes = self._kernel.taps, self._kernel.slopes
        tz, ty, tx = (
            torch.stack((slopes if axis == slope else taps)(d), dim=-1)
            for axis, d in enumerate(self._distance)
        )
        return torch.einsum("pz,py,px->pzyx", tz, ty, tx).reshape(len(self.rows), -1)


def _existing_device(name: str) -> torch.device:
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError):
        cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        mps = ["mps"] if torch.backends.mps.is_available() else []
        raise InputError(
            f"torch finds no device {name!r} on this machine",
            column="device",
            remedy=f"choose one of {', '.join(['cpu', *cuda, *mps])}",
        ) from None
