"""The Fourier lattice that slices are read from, and the way to it and back from real space.

Memory layout: one flat float32 array that holds complex values `[kz, ky, kx, channel]`,

    kz, ky = -reach … reach        kx = -margin … reach        channel = 0 … C-1 (re, im)

so that the window of w points along kx times all C channels is one contiguous run of 2·w·C
floats. Only kx ≥ 0 is kept (a volume is real); the margin holds the few points left of 0 that a
window around kx = 0 touches. `PADDING` floats after each kz plane let vector operations run over
its last row without touching the next plane, which may belong to another thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.projector.axis import Axis, ByProducts, axis_of
from solvar.imaging.projector.kernel import InterpolationKernel
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]

PADDING = 16
# that a thread works on at a time: 512 KiB stay in its cache
_POINTS = 1 << 16


class Lattice:
    """Geometry of the lattice of volumes of edge `box` for slices of radius `k_c`.

    The transform is a step along each `Axis`, which holds padding, origin, gridding correction and the crop
    to |k| ≤ upsampling·k_c; its adjoint is the adjoint steps in turn (docs/decisions/0003). Threads share
    out planes: x and y of each plane z, then z of each plane ky, so that one volume keeps all of them busy.

    Parameters
    ----------
    box : int
        Edge of the volumes in voxels.
    k_c : int
        Largest frequency of a slice, k_c < box/2.
    kernel : InterpolationKernel
    upsampling : float, optional
        Zero-padding factor; default: the kernel's own.
    stretch : float
        Room for frames that lengthen vectors by this factor: the lattice reaches as far beyond k_c.
    """

    def __init__(
        self,
        box: int,
        k_c: int,
        kernel: InterpolationKernel,
        upsampling: float | None = None,
        stretch: float = 1.0,
    ) -> None:
        if not 0 < 2 * k_c < box:
            raise ValueError(f"k_c must lie between 1 and box/2, got k_c={k_c}, box={box}")
        self.box, self.k_c, self.kernel = box, k_c, kernel
        self.upsampling = float(upsampling or kernel.upsampling)
        self.reach = int(np.ceil(self.upsampling * k_c * stretch)) + kernel.slope_width // 2
        self.margin = (kernel.width - 1) // 2
        self.side = 2 * self.reach + 1
        self.depth = self.reach + self.margin + 1

    def size(self, channels: int) -> int:
        """Number of float32 values of a lattice of `channels` volumes, padding included."""
        return self.side * (2 * self.side * self.depth * channels + PADDING)

    def channels(self, lattice: Float32) -> int:
        """Number of volumes of a lattice, the inverse of `size`."""
        return (len(lattice) // self.side - PADDING) // (2 * self.side * self.depth)

    def zeros(self, channels: int, team: ThreadTeam | None = None) -> Float32:
        """An empty lattice, flat."""
        lattice = np.empty(self.size(channels), dtype=np.float32)
        planes = lattice.reshape(self.side, -1)
        team = team or ThreadTeam(1)
        team.over_ranges(self.side, 1, lambda first, last: planes[first:last].fill(0))
        return lattice

    def grid(self, lattice: Float32, channels: int) -> Complex64:
        """The lattice as complex (kz, ky, kx, channel), a view."""
        planes = lattice.reshape(self.side, -1)[:, :-PADDING].view(np.complex64)
        return planes.reshape(self.side, self.side, self.depth, channels)

    def refuse_stretching(self, frame: Float32) -> None:
        """Raise ValueError if a frame (B, 3, 2) leads off the lattice: kernels check no bounds."""
        width, taken = self.kernel.width, self.kernel.slope_width // 2
        u, v = frame[:, :, 0], frame[:, :, 1]
        # the larger eigenvalue of FᵀF: no vector (kx, ky) becomes longer than √ of it times its length
        uu, vv, uv = (u * u).sum(axis=1), (v * v).sum(axis=1), (u * v).sum(axis=1)
        longest = 0.5 * (uu + vv) + np.hypot(0.5 * (uu - vv), uv)
        margin = self.reach - taken + (0.5 if width % 2 else 1.0)
        # written so that NaN is refused, too
        if not np.all(np.sqrt(longest) * self.upsampling * self.k_c < margin):
            raise ValueError("a frame leads off the lattice: it is not orthonormal")

    @cached_property
    def axis_matrix(self) -> Complex64:
        """A[k, n] for k = -reach … reach, (side, box) complex64."""
        return ByProducts(*self._geometry).matrix

    @property
    def _geometry(self) -> tuple[int, float, int, int, Float64]:
        padded = self.upsampling * self.box
        position = (np.arange(self.box) - self.box // 2) / padded
        return self.box, padded, self.reach, self.margin, self.kernel.correction(position)

    @cached_property
    def _axis(self) -> Axis:
        return axis_of(*self._geometry)

    def transform(self, volumes: Float32, team: ThreadTeam, out: Float32 | None = None) -> Float32:
        """Lattice of real volumes.

        Parameters
        ----------
        volumes : (C, box, box, box) float32
            Axes channel, z, y, x.
        team : ThreadTeam
            Shares out planes.
        out : flat float32, optional
            Lattice to overwrite, of `size(C)`.
        """
        channels, axis = len(volumes), self._axis
        lattice = np.empty(self.size(channels), dtype=np.float32) if out is None else out
        lattice.reshape(self.side, -1)[:, -PADDING:] = 0
        grid = self.grid(lattice, channels)

        for group, between in self._groups(channels):

            def planes(first: int, last: int, group: range = group, between: Any = between) -> None:
                for number, channel in enumerate(group):
                    along_x = axis.forward_real(volumes[channel, first:last].reshape(-1, self.box))
                    lines = along_x.reshape(last - first, self.box, self.depth)
                    axis.forward(lines, between[number, first:last])

            def columns(
                first: int, last: int, group: range = group, between: Any = between
            ) -> None:
                found = np.empty((len(group), self.side, last - first, self.depth), np.complex64)
                for number in range(len(group)):
                    lines = np.ascontiguousarray(between[number, :, first:last])
                    out = found[number].reshape(1, self.side, -1)
                    axis.forward(lines.reshape(1, self.box, -1), out)
                for some in self._in_cache(last - first, channels):
                    for number, channel in enumerate(group):
                        grid[some, first:last, :, channel] = found[number, some]

            team.over_ranges(self.box, self._planes_at_a_time, planes)
            team.over_ranges(self.side, self._planes_at_a_time, columns)
        return lattice

    def adjoint(self, lattice: Float32, channels: int, team: ThreadTeam) -> Float32:
        """Adjoint of `transform` in the inner product Σ re·re + im·im of the stored values.

        Returns
        -------
        (C, box, box, box) float32
        """
        box, axis = self.box, self._axis
        grid = self.grid(lattice, channels)
        volumes = np.empty((channels, box, box, box), dtype=np.float32)

        for group, between in self._groups(channels):

            def columns(
                first: int, last: int, group: range = group, between: Any = between
            ) -> None:
                seen = np.empty((len(group), self.side, last - first, self.depth), np.complex64)
                for some in self._in_cache(last - first, channels):
                    for number, channel in enumerate(group):
                        seen[number, some] = grid[some, first:last, :, channel]
                for number in range(len(group)):
                    lines = np.empty((1, box, (last - first) * self.depth), np.complex64)
                    axis.adjoint(seen[number].reshape(1, self.side, -1), lines)
                    between[number, :, first:last] = lines.reshape(box, -1, self.depth)

            def planes(first: int, last: int, group: range = group, between: Any = between) -> None:
                for number, channel in enumerate(group):
                    along_x = np.empty((last - first, box, self.depth), np.complex64)
                    axis.adjoint(between[number, first:last], along_x)
                    found = axis.adjoint_real(along_x.reshape(-1, self.depth))
                    volumes[channel, first:last] = found.reshape(-1, box, box)

            team.over_ranges(self.side, self._planes_at_a_time, columns)
            team.over_ranges(box, self._planes_at_a_time, planes)
        return volumes

    def _groups(self, channels: int) -> Iterator[tuple[range, Complex64]]:
        """Channels at a time, and memory (c, box, side, depth) for what lies between two steps.

        Half of them, at most: with it a transform takes less than a second lattice.
        """
        each = (channels + 1) // 2
        memory = np.empty((each, self.box, self.side, self.depth), np.complex64)
        for first in range(0, channels, each):
            group = range(first, min(first + each, channels))
            yield group, memory[: len(group)]

    @property
    def _planes_at_a_time(self) -> int:
        """Of so many rows and depth: as many for any number of threads, whose results are then the same."""
        return max(1, _POINTS // (max(self.side, self.box) * self.depth))

    def _in_cache(self, rows: int, channels: int) -> Iterator[slice]:
        """Pieces of the planes kz, of which so many rows of all channels stay in a cache."""
        step = max(1, _POINTS // (rows * self.depth * channels))
        for first in range(0, self.side, step):
            yield slice(first, min(first + step, self.side))
