"""The noise power spectrum, from image corners that no particle reaches."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.masks import soft_step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_DECONVOLUTION_STEPS = 8
# a shell through which nothing passes must not be divided by
_LEAST_TRANSFER = 1e-6


def corner_window(box: int, radius: float) -> Float32:
    """A soft window that is 0 within `radius` pixels of the centre and 1 beyond it by 3 pixels."""
    axis = np.arange(box, dtype=np.float32) - box // 2
    return soft_step(np.hypot(axis[:, None], axis) - radius, 3.0).astype(np.float32)


def background_powers(images: Float32, window: Float32) -> Float32:
    """Periodograms of the windowed background of images (B, L, L), as of `rfft2`: (B, L, L//2 + 1)."""
    import scipy.fft

    mean = np.tensordot(images, window, 2) / window.sum()
    windowed = images - mean[:, None, None]
    windowed *= window
    spectrum = scipy.fft.rfft2(windowed)
    return spectrum.real**2 + spectrum.imag**2


def whole_plane(half: Float64) -> Float64:
    """Power (L, L) of transforms of real images, in the order of `fft2`, from that of `rfft2`."""
    box = len(half)
    whole = np.empty((box, box))
    columns = half.shape[1]
    whole[:, :columns] = half
    opposite = -np.arange(box) % box
    whole[:, columns:] = half[opposite][:, opposite[columns:]]
    # of what stands twice in these columns, one is as good as the other: all are from one half
    for own in {0, box // 2} if box % 2 == 0 else {0}:
        whole[box // 2 + 1 :, own] = half[opposite[box // 2 + 1 :], own]
    return whole


def deconvolved(
    measured: Float64,
    smear: Float64,
    shells: int,
    transfer: Float64 | None = None,
    silent: int = 2,
) -> Float64:
    """Noise power per shell from the ring means of the windowed background's mean periodogram.

    Parameters
    ----------
    measured : (S,) float64
        In all shells of the plane, as of `ring_means`.
    smear : (S, S) float64
        Mean windowed power in shell s of unit power in shell t, as of `smearing`.
    shells : int
        Number of shells, at most L//2 + 1; shell s is |k| rounded to s.
    transfer : (S,) float64, optional
        By what the noise was multiplied since, mean power in every shell of the plane (as of `ring_means`).
    silent : int
        So many first shells say nothing and are continued from those that follow.

    Returns
    -------
    (shells,) float64
        In units of the unnormalised transform: white noise of variance σ² gives σ² L².

    Notes
    -----
    The mean periodogram of windowed noise is the true spectrum smeared by the window's own power;
    the smear is undone by Richardson-Lucy steps on the shells. The background's mean is removed
    from each image, so at least the first two shells say nothing; they take the value of the next one.
    """
    measured, smear = measured.copy(), smear.copy()
    if transfer is not None:
        smear *= np.maximum(transfer, _LEAST_TRANSFER)
    measured[:silent], smear[:silent] = measured[silent], smear[silent]
    estimate = measured / smear.sum(axis=1)
    for _ in range(_DECONVOLUTION_STEPS):
        estimate *= smear.T @ (measured / (smear @ estimate)) / smear.sum(axis=0)
    estimate[:silent] = _continued(estimate, silent)
    return estimate[:shells]


def ring_means(power: Float64) -> Float64:
    """Means of (L, L) values in all shells of the plane, up to its corner."""
    shell = frequency_shells(len(power)).ravel()
    means: Float64 = np.bincount(shell, power.ravel()) / np.bincount(shell)
    return means


def _continued(power: Float64, silent: int) -> Float64:
    """Values of the first shells from the four that follow."""
    known = np.arange(silent, min(silent + 4, len(power)))
    slope, level = np.polyfit(known**2, np.log(power[known]), 1)
    return np.exp(level + slope * np.arange(float(silent)) ** 2)


@lru_cache(maxsize=4)
def frequency_shells(box: int) -> Int64:
    """|k| rounded to the next integer, (L, L) in the order of `fft2`; not to be written to."""
    frequency = np.fft.fftfreq(box, 1 / box)
    shell = np.rint(np.hypot(frequency[:, None], frequency)).astype(np.int64)
    shell.flags.writeable = False
    return shell


def smearing(window: Float32) -> Float64:
    """Mean windowed power in shell s of noise of unit power in shell t alone, (S, S)."""
    shell = frequency_shells(len(window))
    count = int(shell.max()) + 1
    # the mean power is the spectrum circularly convolved with |ŵ|²/L²; products of the real-space
    # correlations do all shells with one transform each
    kernel = np.abs(np.fft.fft2(window.astype(np.float64))) ** 2 / window.size**2
    transfer = np.fft.fft2(kernel)
    members = np.bincount(shell.ravel(), minlength=count)
    smear = np.empty((count, count))
    for t in range(count):
        spread = np.fft.ifft2(np.fft.fft2((shell == t).astype(np.float64)) * transfer).real
        smear[:, t] = np.bincount(shell.ravel(), spread.ravel(), count) / members
    return smear
