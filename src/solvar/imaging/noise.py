"""The noise power spectrum, from image corners that no particle reaches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def corner_window(box: int, radius: float) -> Float32:
    """A soft window that is 0 within `radius` pixels of the centre and 1 beyond it by 3 pixels."""
    axis = np.arange(box, dtype=np.float32) - box // 2
    distance = np.clip((np.hypot(axis[:, None], axis) - radius) / 3.0, 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * distance)).astype(np.float32)


def ring_power(images: Float32, window: Float32, shells: int) -> Float64:
    """Mean power |ŷ(k)|² per shell that the windowed background would have over the whole image.

    Parameters
    ----------
    images : (B, L, L) float32
    window : (L, L) float32
        Weight of the background, as of `corner_window`.
    shells : int
        Number of shells; shell s is |k| rounded to s.

    Returns
    -------
    (shells,) float64
        In units of the unnormalised transform: white noise of variance σ² gives σ² L².

    Notes
    -----
    The windowed periodogram is divided by the window's energy, so white noise is unbiased. The
    window's own offset leaks the background's mean into the first shells; it is removed per image.
    """
    import scipy.fft

    box = images.shape[-1]
    mean = np.tensordot(images, window, 2) / window.sum()
    spectrum = scipy.fft.rfft2((images - mean[:, None, None]) * window)
    power = np.mean(np.abs(spectrum) ** 2, axis=0, dtype=np.float64) / np.mean(window**2)
    ky = np.fft.fftfreq(box, 1 / box)[:, None]
    kx = np.arange(box // 2 + 1)
    shell = np.rint(np.hypot(kx, ky)).astype(np.int64)
    weight = np.where((kx > 0) & (kx < box / 2), 2.0, 1.0) * np.ones_like(ky)
    keep = shell < shells
    total = np.bincount(shell[keep], (weight * power)[keep], shells)
    return total / np.bincount(shell[keep], weight[keep], shells)


def smooth_spectrum(power: Float64) -> Float64:
    """The spectrum without its first shells' artefacts: shells 0 and 1 take the value of shell 2.

    The mean is removed from each background, so DC says nothing, and the window mixes it into shell 1.
    """
    out = power.copy()
    out[: min(2, len(out))] = power[min(2, len(out) - 1)]
    return out
