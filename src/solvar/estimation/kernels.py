"""Compiled inner products and combinations of image-plane arrays (one image's data stays in cache).

Sums over pixels run in float32 lanes over blocks of 256 values and are added up in float64: the blocks
are short enough that no digits are lost, the lanes are what makes it fast.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from solvar.imaging.projector.numba_kernels import OPTIONS
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_BLOCK = 256
_IMAGES_A_TASK = 16


@numba.njit(**OPTIONS)
def _gram(slices, image, out, first, last):  # type: ignore[no-untyped-def]
    channels, length = slices.shape[1], slices.shape[2]
    for b in range(first, last):
        for i in range(channels + 1):
            for j in range(i + 1):
                total = np.float64(0.0)
                for start in range(0, length, _BLOCK):
                    stop = min(start + _BLOCK, length)
                    left = slices[b, i, start:stop] if i < channels else image[b, start:stop]
                    right = slices[b, j, start:stop] if j < channels else image[b, start:stop]
                    part = np.float32(0.0)
                    for p in range(len(left)):
                        part += left[p] * right[p]
                    total += part
                out[b, i, j] = total
                out[b, j, i] = total


@numba.njit(**OPTIONS)
def _residual(slices, image, second, first_moment, first, last):  # type: ignore[no-untyped-def]
    channels, length, kept = slices.shape[1], slices.shape[2], second.shape[2]
    block = np.empty((channels, _BLOCK), np.float32)
    for b in range(first, last):
        for start in range(0, length, _BLOCK):
            size = min(_BLOCK, length - start)
            for j in range(channels):
                for p in range(size):
                    block[j, p] = slices[b, j, start + p]
            for i in range(kept):
                target = slices[b, i, start : start + size]
                data = image[b, start : start + size]
                moment = -first_moment[b, i]
                for p in range(size):
                    target[p] = moment * data[p]
                for j in range(channels):
                    factor, source = second[b, j, i], block[j]
                    for p in range(size):
                        target[p] += factor * source[p]


def gram(slices: Complex64, image: Complex64, team: ThreadTeam) -> Float64:
    """All real inner products among an image's slices and its data.

    Parameters
    ----------
    slices : (B, C, n) complex64
        CTF-modulated, weight-folded slices of the C columns.
    image : (B, n) complex64
        Whitened data, weight-folded.

    Returns
    -------
    (B, C + 1, C + 1) float64
        Gram matrices of (slices…, image): every per-image statistic of the model is a function of it.
    """
    count, channels, _ = slices.shape
    out = np.empty((count, channels + 1, channels + 1))
    real, data = slices.view(np.float32), image.view(np.float32)
    team.over_ranges(count, _IMAGES_A_TASK, lambda first, last: _gram(real, data, out, first, last))
    return out


def residual_in_place(
    slices: Complex64, image: Complex64, second: Float64, first: Float64, team: ThreadTeam
) -> None:
    """Overwrite slices E with E·S - y·ζᵀ, the expected residual weighted by the latents.

    Parameters
    ----------
    slices : (B, C, n) complex64
    image : (B, n) complex64
    second : (B, C, C) float64
        Second moments S of the coefficients ζ.
    first : (B, C) float64
        First moments of ζ.
    """
    real, data = slices.view(np.float32), image.view(np.float32)
    s, f = second.astype(np.float32), first.astype(np.float32)
    team.over_ranges(len(slices), _IMAGES_A_TASK, lambda a, b: _residual(real, data, s, f, a, b))
