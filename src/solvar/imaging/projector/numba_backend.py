"""The projector on the CPU: numba kernels run by a pool of threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector.lattice import PADDING, Lattice
from solvar.imaging.projector.numba_kernels import differentiate, forward, scatter
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]


class NumbaProjector:
    """Slices of a lattice and their adjoint; implements `Projector`.

    The kernels check no bounds, so frames that would lead off the lattice are refused here.
    """

    def __init__(self, lattice: Lattice, disc: HalfDisc, team: ThreadTeam) -> None:
        self.box, self.lattice, self.disc, self.team = lattice.box, lattice, disc, team
        self._kx = disc.kx.astype(np.float32)
        self._ky = disc.ky.astype(np.float32)
        self._slabs = _slabs(lattice, team.size)

    def prepare(self, volumes: Float32) -> Float32:
        """Flat lattice of (C, box, box, box) volumes."""
        return self.lattice.transform(np.ascontiguousarray(volumes, dtype=np.float32), self.team)

    def zeros(self, channels: int) -> Float32:
        """An empty lattice, flat."""
        return self.lattice.zeros(channels, self.team)

    def empty(self, size: int) -> Complex64:
        """Flat memory for image-plane arrays."""
        return np.empty(size, dtype=np.complex64)

    def channels(self, prepared: Float32) -> int:
        """Number C of volumes that were prepared."""
        return self.lattice.channels(prepared)

    def project(
        self, prepared: Float32, frame: Float32, scale: Float32, out: Complex64 | None = None
    ) -> Complex64:
        """Slices (B, C, n) times `scale`; see `Projector.project`."""
        if out is None:
            channels = self.channels(prepared)
            out = np.empty((len(frame), channels, len(self.disc)), dtype=np.complex64)
        run = self._bind(forward, prepared, frame, scale, out)
        self.team.over_items(len(frame), out.shape[1] * out.shape[2], run)
        return out

    def scatter(self, images: Complex64, frame: Float32, scale: Float32, into: Float32) -> None:
        """Add the adjoint of `project` at (B, C, n) images to a lattice."""
        run = self._bind(scatter, into, frame, scale, np.ascontiguousarray(images))
        slabs = self._slabs
        self.team.over_ranges(self.team.size, 1, lambda t, _: run(slabs[t], slabs[t + 1]))

    def differentiate(
        self,
        prepared: Float32,
        frame: Float32,
        scale: Float32,
        first_moment: Float64,
        residual: Complex64,
    ) -> tuple[Complex64, Float64]:
        """Rotation derivatives; see `Projector.differentiate`."""
        count, _, pixels = residual.shape
        tangent = np.empty((count, 3, pixels), dtype=np.complex64)
        torque = np.empty((count, 3))
        grid = self.lattice
        window = (0,) * grid.kernel.slope_width
        pairs = np.ascontiguousarray(residual, dtype=np.complex64).view(np.float64)
        frame = np.ascontiguousarray(frame, dtype=np.float32)
        scale = np.ascontiguousarray(scale, dtype=np.float32)
        moment = np.ascontiguousarray(first_moment, dtype=np.float32)
        self.lattice.refuse_stretching(frame)

        def run(first: int, last: int) -> None:
            differentiate(
                window, prepared, grid.side, grid.depth, grid.margin, grid.reach, PADDING,
                np.float32(grid.upsampling), frame, self._kx, self._ky, scale, moment,
                pairs, tangent.view(np.float32), torque, first, last,
            )  # fmt: skip

        self.team.over_items(count, residual.shape[1] * pixels, run)
        return tangent, torque

    def collect(self, scattered: Float32) -> Float32:
        """Volumes (C, box, box, box) of a lattice: the adjoint of `prepare`."""
        return self.lattice.adjoint(scattered, self.lattice.channels(scattered), self.team)

    def _bind(
        self,
        kernel: Callable[..., None],
        lattice: Float32,
        frame: Float32,
        scale: Float32,
        images: Complex64,
    ) -> Callable[[int, int], None]:
        grid = self.lattice
        frame = np.ascontiguousarray(frame, dtype=np.float32)
        scale = np.ascontiguousarray(scale, dtype=np.float32)
        upsampling, pairs = np.float32(grid.upsampling), images.view(np.float64)
        window = (0,) * grid.kernel.width
        self.lattice.refuse_stretching(frame)

        def run(first: int, last: int) -> None:
            kernel(
                window, lattice, grid.side, grid.depth, grid.margin, grid.reach, PADDING, upsampling,
                frame, self._kx, self._ky, scale, pairs, first, last,
            )  # fmt: skip

        return run


def make(lattice: Lattice, disc: HalfDisc, device: str, team: ThreadTeam) -> NumbaProjector:
    """The projector of `make_projector`; the CPU is its only device."""
    return NumbaProjector(lattice, disc, team)


def _slabs(lattice: Lattice, count: int) -> list[int]:
    """Plane numbers that split the lattice into slabs of equal work for evenly spread views.

    The planes at kz of a ball of radius k_c hold a share of all pixels that falls off as
    k_c - |kz|; the edges are the quantiles of that distribution.
    """
    quantile = np.linspace(-1, 1, count + 1)
    edge = np.sign(quantile) * (1 - np.sqrt(1 - np.abs(quantile)))
    inner = np.rint(lattice.reach + edge[1:-1] * lattice.upsampling * lattice.k_c)
    return [0, *inner.astype(int).tolist(), lattice.side]
