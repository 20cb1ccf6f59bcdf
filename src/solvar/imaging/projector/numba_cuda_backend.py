"""The projector's hot loops as CUDA kernels, on the tensors of the torch backend.

Memory, transforms and pieces are those of `TorchProjector`; only reading slices and adding them is done
here, one thread a pixel and channel, channels fastest, so that the threads of a warp read neighbouring
values of the lattice. The arithmetic of a pixel is that of the CPU's kernels (`pixel.py`).

The adjoint adds with atomic operations, in no fixed order: volumes repeat to rounding and not to the last
bit. Slices and derivatives repeat.

Bytes of one pixel and channel, w = 3: forward 27 · 8 read, scatter 27 · 8 read and written. With
`NUMBA_ENABLE_CUDASIM=1` numba's simulator runs the kernels on the CPU, far too slowly for anything but
tests (docs/gpu.md).

More than seven arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import cuda
from numba.core import config

from solvar.errors import InputError
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import pixel
from solvar.imaging.projector.lattice import Lattice
from solvar.imaging.projector.torch_backend import TorchProjector
from solvar.threads import ThreadTeam

_THREADS = 128

# numba complains of small batches, such as those on which kernels are tried first. numba and numba-cuda have
# classes of their own for that, and colour codes before the text
warnings.filterwarnings("ignore", r"(\x1b\[\d+m)*Grid size \d+ will likely")


class Compiled(NamedTuple):
    """The kernels of one width of window; `body` holds the functions they are compiled from."""

    forward: Any
    scatter: Any
    differentiate: Any
    body: tuple[Callable[..., None], ...]


@cuda.jit(device=True)
def _whole(x):  # type: ignore[no-untyped-def]
    return np.float32(math.floor(x))


def _on_device(function: Any) -> Any:
    """Device function of one of `pixel.py`, with a `whole` of its own.

    CUDA's compiler has no np.floor, and takes what the CPU's compiler was told of `pixel.whole` for its own
    once a process has compiled that for the CPU.
    """
    own = vars(pixel) | {"whole": _whole}
    return cuda.jit(device=True)(FunctionType(function.__code__, own, function.__name__))


def _window_of(width: int) -> Any:
    """Device function: position and sign of a pixel, first row of its window, weights along x, y, z."""
    turned, offset, locate = (
        _on_device(f) for f in (pixel.turned, pixel.offset, pixel.LOCATE[width - 1])
    )

    @cuda.jit(device=True)
    def window(shape, upsampling, turn, u, v):  # type: ignore[no-untyped-def]
        side, depth, reach, margin = shape
        x, y, z, sign = turned(
            turn[0, 0] * upsampling, turn[0, 1] * upsampling, turn[1, 0] * upsampling,
            turn[1, 1] * upsampling, turn[2, 0] * upsampling, turn[2, 1] * upsampling, u, v,
        )  # fmt: skip
        ix, wx = locate(x, 0)
        iy, wy = locate(y, 0)
        iz, wz = locate(z, 0)
        origin = (reach * side + reach) * depth + margin
        first = offset(int(ix), int(iy), int(iz), 1, depth, side * depth, origin)
        return x, y, z, sign, first, wx, wy, wz

    return window


def _forward_of(width: int) -> Callable[..., None]:
    window = _window_of(width)

    def forward(lattice, shape, upsampling, frame, kx, ky, scale, out):  # type: ignore[no-untyped-def]
        """out (B, C, n, 2) = scale · slices of a lattice (rows, 2·C); shape: side, depth, reach, margin."""
        channels, pixels = out.shape[1], out.shape[2]
        job = cuda.grid(1)
        if job >= out.shape[0] * channels * pixels:
            return
        b, p, c = job // channels // pixels, job // channels % pixels, job % channels
        _, _, _, sign, first, wx, wy, wz = window(shape, upsampling, frame[b], kx[p], ky[p])
        side, depth = shape[0], shape[1]
        real, imaginary = np.float32(0), np.float32(0)
        for jz in range(width):
            for jy in range(width):
                weight = wz[jz] * wy[jy]
                row = first + (jz * side + jy) * depth
                for jx in range(width):
                    real += weight * wx[jx] * lattice[row + jx, 2 * c]
                    imaginary += weight * wx[jx] * lattice[row + jx, 2 * c + 1]
        out[b, c, p, 0] = scale[b, p] * real
        out[b, c, p, 1] = sign * scale[b, p] * imaginary

    return forward


def _scatter_of(width: int) -> Callable[..., None]:
    window = _window_of(width)

    def scatter(lattice, shape, upsampling, frame, kx, ky, scale, image):  # type: ignore[no-untyped-def]
        """The adjoint of `forward`, added to the lattice."""
        channels, pixels = image.shape[1], image.shape[2]
        job = cuda.grid(1)
        if job >= image.shape[0] * channels * pixels:
            return
        b, p, c = job // channels // pixels, job // channels % pixels, job % channels
        _, _, _, sign, first, wx, wy, wz = window(shape, upsampling, frame[b], kx[p], ky[p])
        side, depth = shape[0], shape[1]
        real = scale[b, p] * image[b, c, p, 0]
        imaginary = sign * scale[b, p] * image[b, c, p, 1]
        for jz in range(width):
            for jy in range(width):
                weight = wz[jz] * wy[jy]
                row = first + (jz * side + jy) * depth
                for jx in range(width):
                    cuda.atomic.add(lattice, (row + jx, 2 * c), weight * wx[jx] * real)
                    cuda.atomic.add(lattice, (row + jx, 2 * c + 1), weight * wx[jx] * imaginary)

    return scatter


def _differentiate_of(slope_width: int) -> Callable[..., None]:
    window = _window_of(slope_width)
    slope = _on_device(pixel.SLOPE[slope_width - 1])

    def differentiate(  # type: ignore[no-untyped-def]
        lattice, shape, upsampling, frame, kx, ky, scale, moment, residual, tangent, pull
    ):
        """tangent (B, 3, n, 2) and pull (B, 3, n), the summands of the torque; a thread a pixel."""
        channels, pixels = residual.shape[1], residual.shape[2]
        job = cuda.grid(1)
        if job >= residual.shape[0] * pixels:
            return
        b, p = job // pixels, job % pixels
        x, y, z, sign, first, wx, wy, wz = window(shape, upsampling, frame[b], kx[p], ky[p])
        dx, dy, dz = slope(x, 0), slope(y, 0), slope(z, 0)
        side, depth = shape[0], shape[1]
        for d in range(3):
            tangent[b, d, p, 0] = tangent[b, d, p, 1] = pull[b, d, p] = np.float32(0)
        for q in range(2 * channels):
            gx, gy, gz = np.float32(0), np.float32(0), np.float32(0)
            for jz in range(slope_width):
                for jy in range(slope_width):
                    row = first + (jz * side + jy) * depth
                    plain, along = np.float32(0), np.float32(0)
                    for jx in range(slope_width):
                        value = lattice[row + jx, q]
                        plain += wx[jx] * value
                        along += dx[jx] * value
                    gx += wz[jz] * wy[jy] * along
                    gy += wz[jz] * dy[jy] * plain
                    gz += dz[jz] * wy[jy] * plain
            c, part = q // 2, q % 2
            factor = scale[b, p] * (sign if part == 1 else np.float32(1))
            zeta, other = moment[b, c], residual[b, c, p, part]
            # ω moves κ by ω × κ
            turn0, turn1, turn2 = y * gz - z * gy, z * gx - x * gz, x * gy - y * gx
            tangent[b, 0, p, part] += factor * zeta * turn0
            tangent[b, 1, p, part] += factor * zeta * turn1
            tangent[b, 2, p, part] += factor * zeta * turn2
            pull[b, 0, p] += factor * other * turn0
            pull[b, 1, p] += factor * other * turn1
            pull[b, 2, p] += factor * other * turn2

    return differentiate


@cache
def kernels_of_width(width: int) -> Compiled:
    """Kernels whose windows are `width` points wide; those of `differentiate` at least 2."""
    body = _forward_of(width), _scatter_of(width), _differentiate_of(max(width, 2))
    forward, scatter, differentiate = (cuda.jit(function) for function in body)
    return Compiled(forward, scatter, differentiate, body)


class CudaKernels:
    """`TensorKernels` made of CUDA kernels."""

    def __init__(
        self, lattice: Lattice, disc: HalfDisc, device: torch.device, dtype: torch.dtype
    ) -> None:
        if dtype != torch.float32:
            raise ValueError("CUDA kernels compute in float32")
        self._kernels = kernels_of_width(lattice.kernel.width)
        self._shape = lattice.side, lattice.depth, lattice.reach, lattice.margin
        self._upsampling, self._device = np.float32(lattice.upsampling), device
        self._kx, self._ky = (
            torch.as_tensor(k.astype(np.float32)).to(device) for k in (disc.kx, disc.ky)
        )

    def values(self, channels: int) -> int:
        """Values of the temporary arrays per image."""
        return 2 * max(3, channels) * len(self._kx)

    def project(
        self, lattice: torch.Tensor, frame: torch.Tensor, scale: torch.Tensor
    ) -> torch.Tensor:
        """Slices (B, C, n) complex."""
        shape = len(frame), lattice.shape[1] // 2, len(self._kx)
        out = torch.empty(shape, dtype=torch.complex64, device=self._device)
        self._launch(self._kernels.forward, out.numel(), lattice, frame, scale, _pairs(out))
        return out

    def spread(
        self, images: torch.Tensor, frame: torch.Tensor, scale: torch.Tensor
    ) -> Callable[[torch.Tensor], None]:
        """What adds images to a lattice."""
        pairs = _pairs(images.contiguous())

        def add(into: torch.Tensor) -> None:
            self._launch(self._kernels.scatter, images.numel(), into, frame, scale, pairs)

        return add

    def differentiate(
        self,
        lattice: torch.Tensor,
        frame: torch.Tensor,
        scale: torch.Tensor,
        moment: torch.Tensor,
        residual: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tangent (B, 3, n) complex and torque (B, 3) float64."""
        shape = len(frame), 3, len(self._kx)
        tangent = torch.empty(shape, dtype=torch.complex64, device=self._device)
        pull = torch.empty(shape, dtype=torch.float32, device=self._device)
        arrays = moment, _pairs(residual.contiguous()), _pairs(tangent), pull
        jobs = len(frame) * len(self._kx)
        self._launch(self._kernels.differentiate, jobs, lattice, frame, scale, *arrays)
        return tangent, pull.sum(dim=-1, dtype=torch.float64)

    def _launch(
        self,
        kernel: Any,
        jobs: int,
        lattice: torch.Tensor,
        frame: torch.Tensor,
        scale: torch.Tensor,
        *arrays: torch.Tensor,
    ) -> None:
        with _current(self._device):
            kernel[math.ceil(jobs / _THREADS), _THREADS](
                _argument(lattice), self._shape, self._upsampling, _argument(frame),
                _argument(self._kx), _argument(self._ky), _argument(scale),
                *(_argument(array) for array in arrays),
            )  # fmt: skip


def _pairs(values: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(values)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    # both libraries use the device's primary context and its default stream: kernels run in turn
    managed: AbstractContextManager[Any] = cuda.gpus[device.index or 0]
    return managed


def _argument(tensor: torch.Tensor) -> Any:
    """The tensor as kernels take it, by its `__cuda_array_interface__`; the simulator wants numpy."""
    return tensor if tensor.is_cuda else tensor.numpy()


def make(lattice: Lattice, disc: HalfDisc, device: str, team: ThreadTeam) -> TorchProjector:
    """The projector of `make_projector`.

    Raises
    ------
    InputError
        Where numba or torch find no CUDA.
    """
    if not cuda.is_available():
        raise InputError(
            "numba finds no CUDA device, driver or compiler on this machine",
            column="backend",
            remedy="see `solvar doctor` and docs/gpu.md, or leave --backend out",
        )
    home = "cpu" if config.ENABLE_CUDASIM else device
    return TorchProjector(lattice, disc, home, kernels=CudaKernels)
