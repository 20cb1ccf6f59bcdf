"""Volumes between their voxels: turned and moved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import crop_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FINER = 2


class Sampler:
    """A volume between its voxels.

    Parameters
    ----------
    volume : (L, L, L)
    """

    def __init__(self, volume: Float32) -> None:
        from scipy.ndimage import spline_filter

        # splines are exact to a few per mille where nothing is finer than four of their points
        fine = crop_volume(volume, _FINER * len(volume)) * np.float32(_FINER**3)
        self._spline = spline_filter(fine, mode="grid-wrap")
        self._box = len(volume)

    def at(self, matrix: Float64, move: Float64) -> Float32:
        """The volume (L, L, L) whose value at x is that of this one at A·x + m.

        Parameters
        ----------
        matrix : (3, 3)
            A, of points (x, y, z) from the centre of the box.
        move : (3,)
            m, voxels.
        """
        from scipy.ndimage import affine_transform

        centre = np.full(3, float(self._box // 2))
        # arrays have their axes the other way round
        back = matrix[::-1, ::-1]
        offset = centre + move[::-1] - back @ centre
        return affine_transform(
            self._spline,
            _FINER * back,
            _FINER * offset,
            output_shape=(self._box,) * 3,
            order=3,
            mode="grid-wrap",
            prefilter=False,
        ).astype(np.float32)
