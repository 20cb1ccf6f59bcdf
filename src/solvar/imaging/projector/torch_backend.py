"""The projector in torch, for GPUs and as a second opinion on the numba kernels.

Same lattice as `lattice.py` without its padding: one row of 2·C real values a lattice point, rows
in the order kz, ky, kx. `TorchProjector` moves arrays between host and device and cuts batches into
pieces; the arithmetic on tensors is that of a `TensorKernels`, here `BagKernels`.

Reading a slice is a weighted bag of w³ rows a pixel (`embedding_bag`); the adjoint adds w³ weighted
rows (`index_add_`). On a GPU those sums run in no fixed order, so they repeat to rounding and not to
the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector.devices import existing_device
from solvar.imaging.projector.kernel import KERNELS, InterpolationKernel
from solvar.imaging.projector.lattice import Lattice
from solvar.imaging.projector.pieces import Pieces, is_out_of_memory, uncut, values_of_a_piece
from solvar.imaging.projector.staging import to_device
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]


class TensorKernels(Protocol):
    """Slices, their adjoint and their derivatives on tensors of one device.

    frame (B, 3, 2) and scale (B, n) are real tensors, lattices (rows, 2·C) real tensors.
    """

    def values(self, channels: int) -> int:
        """Values of the temporary arrays per image."""

    def project(
        self, lattice: torch.Tensor, frame: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        """Slices (B, C, n) complex."""

    def spread(
        self, images: torch.Tensor, frame: torch.Tensor, scale: torch.Tensor
    ) -> Callable[[torch.Tensor], None]:
        """What adds (B, C, n) complex images to a lattice.

        All memory is taken before it is returned: adding must not fail halfway.
        """

    def differentiate(
        self,
        lattice: torch.Tensor,
        frame: torch.Tensor,
        scale: torch.Tensor,
        moment: torch.Tensor,
        residual: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tangent (B, 3, n) complex and torque (B, 3)."""


class TorchProjector:
    """Slices of a lattice and their adjoint on a torch device; implements `Projector`.

    Image-plane arrays may be numpy arrays or tensors; `empty` makes the latter, on the device, so that
    slices need not come back to the host.

    Parameters
    ----------
    lattice : Lattice
    disc : HalfDisc
    device : str
        As torch spells it: "cpu", "cuda", "cuda:1".
    dtype : torch.dtype
        float32, or float64 for tests.
    kernels : callable, optional
        Makes the `TensorKernels` of (lattice, disc, device, dtype); default `BagKernels`.

    Raises
    ------
    InputError
        When the device does not exist here.
    """

    def __init__(
        self,
        lattice: Lattice,
        disc: HalfDisc,
        device: str,
        dtype: torch.dtype = torch.float32,
        kernels: Callable[..., TensorKernels] | None = None,
    ) -> None:
        self.box, self.lattice, self.disc = lattice.box, lattice, disc
        self.device, self._dtype = existing_device(device), dtype
        self._complex = torch.complex(*torch.zeros(2, 1, dtype=dtype)).dtype
        self._rows = lattice.side * lattice.side * lattice.depth
        self._kernels = (kernels or BagKernels)(lattice, disc, self.device, dtype)
        self._matrix = self._tensor(lattice.axis_matrix)
        self._pieces = Pieces(values_of_a_piece(self.device))

    @uncut()
    def prepare(self, volumes: Float32) -> torch.Tensor:
        """Lattice of (C, box, box, box) volumes, (points, 2·C) on the device."""
        grid = self.lattice
        along_z = self._matrix, self._matrix, self._matrix[grid.reach - grid.margin :]
        v = self._tensor(volumes).to(self._complex)
        for axis, matrix in zip((3, 2, 1), reversed(along_z), strict=True):
            v = torch.movedim(torch.tensordot(v, matrix, dims=([axis], [1])), -1, axis)
        return torch.view_as_real(torch.movedim(v, 0, -1).contiguous()).reshape(self._rows, -1)

    @uncut()
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
        return np.ascontiguousarray(to_host(v.real))

    @uncut()
    def zeros(self, channels: int) -> torch.Tensor:
        """An empty accumulator for `scatter`, (points, 2·channels) on the device."""
        return torch.zeros(self._rows, 2 * channels, dtype=self._dtype, device=self.device)

    def empty(self, size: int) -> torch.Tensor:
        """Flat complex memory on the device; on the host where it does not fit there."""
        try:
            return torch.empty(size, dtype=self._complex, device=self.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        return torch.empty(size, dtype=self._complex)

    def channels(self, prepared: torch.Tensor) -> int:
        """Number C of volumes that were prepared."""
        return prepared.shape[1] // 2

    def project(
        self, prepared: torch.Tensor, frame: Float32, scale: Float32, out: Any = None
    ) -> Any:
        """Slices (B, C, n) times `scale`; see `Projector.project`."""
        self.lattice.refuse_stretching(frame)
        channels = self.channels(prepared)
        if out is None:
            kind = np.complex64 if self._dtype == torch.float32 else np.complex128
            out = np.empty((len(frame), channels, len(self.disc)), dtype=kind)

        def compute(some: slice) -> torch.Tensor:
            placing = self._tensor(frame[some]), self._tensor(scale[some])
            return self._kernels.project(prepared, *placing)

        values = self._kernels.values(channels)
        self._pieces.work(len(frame), values, compute, lambda some, made: _write(out, some, made))
        return out

    def scatter(self, images: Any, frame: Float32, scale: Float32, into: torch.Tensor) -> None:
        """Add the adjoint of `project` at (B, C, n) images to an accumulator."""
        self.lattice.refuse_stretching(frame)

        def compute(some: slice) -> Callable[[torch.Tensor], None]:
            placing = self._tensor(frame[some]), self._tensor(scale[some])
            return self._kernels.spread(self._tensor(images[some]), *placing)

        values = self._kernels.values(images.shape[1])
        self._pieces.work(len(frame), values, compute, lambda _, add: add(into))

    def differentiate(
        self,
        prepared: torch.Tensor,
        frame: Float32,
        scale: Float32,
        first_moment: Float64,
        residual: Any,
    ) -> tuple[Any, Float64]:
        """Rotation derivatives; see `Projector.differentiate`."""
        self.lattice.refuse_stretching(frame)
        count, channels, pixels = residual.shape
        tangent: Any = np.empty((count, 3, pixels), dtype=np.complex64)
        if isinstance(residual, torch.Tensor):
            tangent = self.empty(tangent.size).reshape(tangent.shape)
        torque = np.empty((count, 3))

        def compute(some: slice) -> tuple[torch.Tensor, torch.Tensor]:
            arrays = frame[some], scale[some], first_moment[some], residual[some]
            return self._kernels.differentiate(prepared, *(self._tensor(a) for a in arrays))

        def keep(some: slice, found: tuple[torch.Tensor, torch.Tensor]) -> None:
            _write(tangent, some, found[0])
            _write(torque, some, found[1])

        self._pieces.work(count, self._kernels.values(3 * channels), compute, keep)
        return tangent, torque

    def _tensor(self, array: Any) -> torch.Tensor:
        """Real or complex values on the device, in the projector's precision."""
        if isinstance(array, np.ndarray):
            array = np.ascontiguousarray(array)  # torch knows no negative strides
        tensor = torch.as_tensor(array)
        dtype = self._complex if tensor.is_complex() else self._dtype
        return to_device(tensor.to(dtype), self.device)


def to_host(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor as a numpy array; the one place where values leave the device."""
    return tensor.cpu().numpy()


def _write(out: Any, some: slice, values: torch.Tensor) -> None:
    out[some] = values if isinstance(out, torch.Tensor) else to_host(values)


class BagKernels:
    """`TensorKernels` made of torch's own operations."""

    def __init__(
        self, lattice: Lattice, disc: HalfDisc, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._lattice, self._dtype = lattice, dtype
        frequency = np.stack([disc.kx, disc.ky]).astype(np.float32) * np.float32(lattice.upsampling)
        self._frequency = torch.as_tensor(frequency).to(device, dtype)
        # "nearest" has no slope of its own (`InterpolationKernel.slope_width`)
        kernel = lattice.kernel
        self._slope_kernel = kernel if kernel.width > 1 else KERNELS["trilinear"]

    def values(self, channels: int) -> int:
        """Values of the temporary arrays per image."""
        return self._frequency.shape[1] * self._slope_kernel.width**3 * max(4, 2 * channels)

    def project(
        self, lattice: torch.Tensor, frame: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        """Slices (B, C, n) complex."""
        window, sign = self._windows(frame, self._lattice.kernel)
        bags = embedding_bag(window.rows, lattice, per_sample_weights=window.weight(), mode="sum")
        values = bags.reshape(*sign.shape, -1, 2)
        values *= _factor(scale, sign)
        return torch.view_as_complex(values).transpose(1, 2)

    def spread(
        self, images: torch.Tensor, frame: torch.Tensor, scale: torch.Tensor
    ) -> Callable[[torch.Tensor], None]:
        """What adds images to a lattice."""
        window, sign = self._windows(frame, self._lattice.kernel)
        values = torch.view_as_real(images.transpose(1, 2).contiguous())
        rows = (values * _factor(scale, sign)).reshape(sign.numel(), -1)
        index, weight = window.rows.T.contiguous(), window.weight()
        weighted = torch.empty_like(rows)

        def add(into: torch.Tensor) -> None:
            for corner, place in enumerate(index):
                torch.mul(rows, weight[:, corner, None], out=weighted)
                into.index_add_(0, place, weighted)

        return add

    def differentiate(
        self,
        lattice: torch.Tensor,
        frame: torch.Tensor,
        scale: torch.Tensor,
        moment: torch.Tensor,
        residual: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tangent (B, 3, n) complex and torque (B, 3)."""
        window, sign = self._windows(frame, self._slope_kernel)
        slopes = [
            embedding_bag(window.rows, lattice, per_sample_weights=weight, mode="sum")
            for weight in (window.weight(axis) for axis in (2, 1, 0))
        ]
        # ω moves κ by ω × κ
        gradient = torch.stack(slopes).reshape(3, *sign.shape, -1, 2)
        place = window.position.flip(0).reshape(3, *sign.shape, 1, 1)
        turned = torch.linalg.cross(place.expand_as(gradient), gradient, dim=0)
        turned = turned * _factor(scale, sign)
        sums = torch.einsum("dbncr,bc->bdnr", turned, moment).contiguous()
        torque = torch.einsum("dbncr,bcnr->bd", turned, torch.view_as_real(residual))
        return torch.view_as_complex(sums), torque

    def _windows(
        self, frame: torch.Tensor, kernel: InterpolationKernel
    ) -> tuple[_Windows, torch.Tensor]:
        """The window of each pixel, and sign (B, n).

        The sign is -1 where the conjugate at the opposite point is read instead, because x < 0.
        """
        position = frame[:, :, :2] @ self._frequency
        sign = torch.where(position[:, 0] < 0, -1.0, 1.0).to(self._dtype)
        # axes z, y, x from here on, as in the lattice
        position = (position * sign[:, None]).flip(1).transpose(0, 1).reshape(3, -1)
        return _Windows(self._lattice, kernel, position), sign


def _factor(scale: torch.Tensor, sign: torch.Tensor) -> torch.Tensor:
    """What real and imaginary parts are multiplied by, (B, n, 1, 2)."""
    return torch.stack([scale, sign * scale], dim=-1)[:, :, None]


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


def make(lattice: Lattice, disc: HalfDisc, device: str, team: ThreadTeam) -> TorchProjector:
    """The projector of `make_projector`; torch has threads of its own."""
    return TorchProjector(lattice, disc, device)
