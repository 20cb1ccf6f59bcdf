"""The Fourier coefficients of volumes up to a frequency: half of those that a grid has."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

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
        import scipy.fft

        team, index = team or ThreadTeam(1), self.index
        out = np.empty((len(volumes), len(index)), np.complex64)
        for volume, found in zip(volumes, out, strict=True):
            grid = scipy.fft.rfftn(volume, workers=team.size).reshape(-1)

            def some(first: int, last: int, found: Any = found, grid: Any = grid) -> None:
                found[first:last] = grid[index[first:last]]

            team.over_ranges(len(index), _PIECE, some)
        return out

    def volumes(self, spectrum: Complex64, team: ThreadTeam | None = None) -> Float32:
        """The volumes (C, box, box, box) of coefficients (C, n), others 0."""
        import scipy.fft

        team, index, edge = team or ThreadTeam(1), self.index, (self.box,) * 3
        out = np.empty((len(spectrum), *edge), np.float32)
        grid = np.zeros((self.box, self.box, self.box // 2 + 1), np.complex64)
        flat = grid.reshape(-1)
        for values, volume in zip(spectrum, out, strict=True):

            def some(first: int, last: int, values: Any = values) -> None:
                flat[index[first:last]] = values[first:last]

            team.over_ranges(len(index), _PIECE, some)
            volume[:] = scipy.fft.irfftn(grid, s=edge, workers=team.size)
        return out


@lru_cache(maxsize=1)
def ball_of(box: int, k_c: int) -> Ball:
    """The ball of a band; bands of one frequency share it."""
    return Ball(box, k_c)
