"""The projector on the CPU: numba kernels run by a pool of threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector.lattice import PADDING, Lattice
from solvar.imaging.projector.numba_kernels import forward_kernel, scatter_kernel
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]

# Images one thread takes at a time: enough to hide the cost of handing them out, few enough to
# balance
_IMAGES_A_TASK = 16


class NumbaProjector:
    """Slices of a lattice and their adjoint; implements `Projector`."""

    def __init__(self, lattice: Lattice, disc: HalfDisc, team: ThreadTeam) -> None:
        self.lattice, self.disc, self.team = lattice, disc, team
        self._kx = disc.kx.astype(np.float32)
        self._ky = disc.ky.astype(np.float32)
        width = lattice.kernel.width
        self._forward, self._scatter = forward_kernel(width), scatter_kernel(width)

    def prepare(self, volumes: Float32) -> Float32:
        return self.lattice.transform(np.ascontiguousarray(volumes, dtype=np.float32), self.team)

    def zeros(self, channels: int) -> Float32:
        return self.lattice.zeros(channels)

    def project(
        self, prepared: Float32, rotation: Float32, scale: Float32, out: Complex64 | None = None
    ) -> Complex64:
        if out is None:
            channels = (len(prepared) - PADDING) // self.lattice.size_per_channel
            out = np.empty((len(rotation), channels, len(self.disc)), dtype=np.complex64)
        images = out.view(np.float32)
        self.team.over_ranges(
            len(rotation),
            _IMAGES_A_TASK,
            self._bind(self._forward, prepared, rotation, scale, images),
        )
        return out

    def scatter(self, images: Complex64, rotation: Float32, scale: Float32, into: Float32) -> None:
        planes = self.lattice.side
        self.team.over_ranges(
            planes,
            -(-planes // self.team.size),
            self._bind(self._scatter, into, rotation, scale, images.view(np.float32)),
        )

    def collect(self, scattered: Float32) -> Float32:
        channels = (len(scattered) - PADDING) // self.lattice.size_per_channel
        return self.lattice.adjoint(scattered, channels, self.team)

    def _bind(
        self,
        kernel: Callable[..., None],
        lattice: Float32,
        rotation: Float32,
        scale: Float32,
        images: Float32,
    ) -> Callable[[int, int], None]:
        grid = self.lattice
        rotation = np.ascontiguousarray(rotation, dtype=np.float32)
        scale = np.ascontiguousarray(scale, dtype=np.float32)
        upsampling = np.float32(grid.upsampling)

        def run(first: int, last: int) -> None:
            kernel(
                lattice, grid.side, grid.depth, grid.margin, grid.reach, upsampling,
                rotation, self._kx, self._ky, scale, images, first, last,
            )  # fmt: skip

        return run
