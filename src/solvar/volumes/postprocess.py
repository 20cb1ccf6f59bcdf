"""After a reconstruction: local resolution, sharpening."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import volume_shells

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# Gaussian window of the local correlation, in units of the wavelength that is looked at
_WINDOW = 0.5


def sharpened(volume: Float32, bfactor: float, pixel_size_angstrom: float) -> Float32:
    """The volume times exp(-B k²/4), k in 1/Å: a negative B sharpens."""
    import scipy.fft

    if bfactor == 0:
        return volume
    box = len(volume)
    frequency = volume_shells(box) / (box * pixel_size_angstrom)
    response = np.exp(-bfactor / 4 * frequency**2).astype(np.float32)
    return np.asarray(
        scipy.fft.irfftn(scipy.fft.rfftn(volume) * response, s=volume.shape), dtype=np.float32
    )


def local_resolution(
    half_maps: Float32, pixel_size_angstrom: float, threshold: float = 0.5
) -> Float32:
    """Local resolution from the correlation of band-passed half-maps in a Gaussian window.

    The window is half a wavelength wide (one standard deviation). The threshold is 0.5, not 0.143: a window
    holds few independent coefficients.

    Parameters
    ----------
    half_maps : (2, L, L, L)

    Returns
    -------
    (L, L, L) float32
        Å; the box's extent where nothing is resolved.
    """
    import scipy.fft
    from scipy.ndimage import gaussian_filter

    box = half_maps.shape[-1]
    extent = box * pixel_size_angstrom
    shell = volume_shells(box)
    spectra = scipy.fft.rfftn(half_maps, axes=(1, 2, 3))
    resolved = np.full((box,) * 3, extent, dtype=np.float32)
    open_still = np.ones((box,) * 3, dtype=bool)
    for s in range(2, box // 2):
        band = np.exp(-0.5 * (shell - s) ** 2).astype(np.float32)
        a, b = scipy.fft.irfftn(spectra * band, s=(box,) * 3, axes=(1, 2, 3))
        width = _WINDOW * box / s + 1
        cross, left, right = (gaussian_filter(x, width) for x in (a * b, a * a, b * b))
        correlation = cross / np.sqrt(np.maximum(left * right, 1e-30))
        open_still &= correlation > threshold
        resolved[open_still] = extent / s
    return resolved
