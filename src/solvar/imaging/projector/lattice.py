"""The Fourier lattice that slices are read from, and the way to it and back from real space.

Memory layout: one flat float32 array that holds complex values `[kz, ky, kx, channel]`,

    kz, ky = -reach … reach        kx = -margin … reach        channel = 0 … C-1 (re, im)

so that the window of w points along kx times all C channels is one contiguous run of 2·w·C
floats. Only kx ≥ 0 is kept (a volume is real); the margin holds the few points left of 0 that a
window around kx = 0 touches. `PADDING` floats after each kz plane let vector operations run over
its last row without touching the next plane, which may belong to another thread.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.projector.kernel import InterpolationKernel
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Complex64 = NDArray[np.complex64]

PADDING = 16


class Lattice:
    """Geometry of the lattice of volumes of edge `box` for slices of radius `k_c`.

    Padding, origin, gridding correction and the crop to |k| ≤ upsampling·k_c all sit in one small
    matrix an axis, A[k, n] = exp(-2πi k·(n - box//2)/padded) / correction(n), so that the transform
    is three matrix products and its adjoint is the same three transposed (docs/decisions/0003).

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

    def zeros(self, channels: int) -> Float32:
        """An empty lattice, flat."""
        lattice = np.empty(self.size(channels), dtype=np.float32)
        lattice.fill(0)
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
        position = (np.arange(self.box) - self.box // 2) / (self.upsampling * self.box)
        frequency = np.arange(-self.reach, self.reach + 1)
        matrix = np.exp(-2j * np.pi * frequency[:, None] * position)
        return (matrix / self.kernel.correction(position)).astype(np.complex64)

    @cached_property
    def _matrix_x(self) -> Float32:
        """A for kx = -margin … reach as real columns (re, im), (box, 2·depth) float32."""
        rows = self.axis_matrix[self.reach - self.margin :]
        return np.ascontiguousarray(rows.T).view(np.float32)

    def transform(self, volumes: Float32, team: ThreadTeam, out: Float32 | None = None) -> Float32:
        """Lattice of real volumes.

        Parameters
        ----------
        volumes : (C, box, box, box) float32
            Axes channel, z, y, x.
        team : ThreadTeam
            Shares out the channels.
        out : flat float32, optional
            Lattice to overwrite, of `size(C)`.
        """
        channels, box = len(volumes), self.box
        lattice = np.empty(self.size(channels), dtype=np.float32) if out is None else out
        lattice.reshape(self.side, -1)[:, -PADDING:] = 0
        grid = self.grid(lattice, channels)

        def some(first: int, last: int) -> None:
            for channel in range(first, last):
                along_x = volumes[channel].reshape(-1, box) @ self._matrix_x
                along_x = along_x.view(np.complex64).reshape(box, box, self.depth)
                along_y = np.matmul(self.axis_matrix, along_x).reshape(box, -1)
                along_z = self.axis_matrix @ along_y
                grid[..., channel] = along_z.reshape(self.side, self.side, self.depth)

        team.over_ranges(channels, 1, some)
        return lattice

    def adjoint(self, lattice: Float32, channels: int, team: ThreadTeam) -> Float32:
        """Adjoint of `transform` in the inner product Σ re·re + im·im of the stored values.

        Returns
        -------
        (C, box, box, box) float32
        """
        box = self.box
        grid = self.grid(lattice, channels)
        back = np.ascontiguousarray(self.axis_matrix.conj().T)
        volumes = np.empty((channels, box, box, box), dtype=np.float32)

        def some(first: int, last: int) -> None:
            for channel in range(first, last):
                along_z = np.ascontiguousarray(grid[..., channel]).reshape(self.side, -1)
                along_y = (back @ along_z).reshape(box, self.side, self.depth)
                along_x = np.matmul(back, along_y).view(np.float32).reshape(-1, 2 * self.depth)
                volumes[channel] = (along_x @ self._matrix_x.T).reshape(box, box, box)

        team.over_ranges(channels, 1, some)
        return volumes
