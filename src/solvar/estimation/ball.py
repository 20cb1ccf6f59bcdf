"""The Fourier coefficients of volumes up to a frequency: half of those that a grid has."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import volume_shells
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int16 = NDArray[np.int16]
Int64 = NDArray[np.int64]

# coefficients that a thread takes at a time
_PIECE = 1 << 15
# voxels of a volume that is too little work for several threads
_SMALL = 1 << 18


class Ball:
    """The n coefficients of the rfftn grid of volumes of edge `box` in the shells 0 to `k_c`.

    Attributes
    ----------
    index : (n,) int64
        Where they stand on the grid, flat and ascending.
    shell : (n,) int16
    """

    def __init__(self, box: int, k_c: int) -> None:
        self.box = box
        shells = volume_shells(box).ravel()
        self.index: Int64 = np.flatnonzero(shells <= k_c)
        self.shell: Int16 = shells[self.index].astype(np.int16)

    def expand(self, per_shell: Float64) -> Float32:
        """Values per shell at each coefficient, (n,)."""
        return per_shell.astype(np.float32)[self.shell]

    def of_grid(self, values: Float32) -> Float32:
        """Those of values on the rfftn grid, (n,)."""
        return values.reshape(-1)[self.index]

    def on_grid(self, values: Float32, elsewhere: float) -> Float32:
        """Values (n,) on the rfftn grid, one number at all other coefficients; flat."""
        out = np.full(self.box**2 * (self.box // 2 + 1), elsewhere, np.float32)
        out[self.index] = values
        return out

    def spectrum(self, volumes: Float32, team: ThreadTeam | None = None) -> Complex64:
        """Coefficients of (C, box, box, box) volumes, (C, n)."""
        team = team or ThreadTeam(1)
        out = np.empty((len(volumes), len(self.index)), np.complex64)

        def some(first: int, last: int, inside: ThreadTeam) -> None:
            for volume, found in zip(volumes[first:last], out[first:last], strict=True):
                self._put_spectrum(volume, found, inside)

        self._over_volumes(len(volumes), team, some)
        return out

    def volumes(self, spectrum: Complex64, team: ThreadTeam | None = None) -> Float32:
        """The volumes (C, box, box, box) of coefficients (C, n), others 0."""
        team = team or ThreadTeam(1)
        out = np.empty((len(spectrum), *(self.box,) * 3), np.float32)

        def some(first: int, last: int, inside: ThreadTeam) -> None:
            grid = np.zeros((self.box, self.box, self.box // 2 + 1), np.complex64)
            for values, volume in zip(spectrum[first:last], out[first:last], strict=True):
                self._put_volume(values, volume, grid, inside)

        self._over_volumes(len(spectrum), team, some)
        return out

    def _over_volumes(
        self, count: int, team: ThreadTeam, some: Callable[[int, int, ThreadTeam], None]
    ) -> None:
        """Small volumes side by side, a thread each; all threads to one after the other of larger ones."""
        if self.box**3 > _SMALL:
            some(0, count, team)
            return
        alone = ThreadTeam(1)
        team.over_ranges(count, 1, lambda first, last: some(first, last, alone))

    def _put_spectrum(self, volume: Float32, found: Complex64, team: ThreadTeam) -> None:
        import scipy.fft

        index, grid = self.index, scipy.fft.rfftn(volume, workers=team.size).reshape(-1)

        def some(first: int, last: int) -> None:
            found[first:last] = grid[index[first:last]]

        team.over_ranges(len(index), _PIECE, some)

    def _put_volume(
        self, values: Complex64, volume: Float32, grid: Complex64, team: ThreadTeam
    ) -> None:
        """By way of a grid that is 0 where there are no coefficients."""
        import scipy.fft

        index, flat = self.index, grid.reshape(-1)

        def some(first: int, last: int) -> None:
            flat[index[first:last]] = values[first:last]

        team.over_ranges(len(index), _PIECE, some)
        volume[:] = scipy.fft.irfftn(grid, s=volume.shape, workers=team.size)


@lru_cache(maxsize=1)
def ball_of(box: int, k_c: int) -> Ball:
    """The ball of a band; bands of one frequency share it."""
    return Ball(box, k_c)
