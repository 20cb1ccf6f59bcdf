"""How well slices fit images that are moved by a shift of their own each, in one pass over their pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.compilation import compiled
from solvar.imaging.fourier import HalfDisc
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_POSES_A_TASK = 64


@compiled()
def _fit(slices, data, image, along, kx, ky, out, first, last):  # type: ignore[no-untyped-def]
    """Nine arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours."""
    pixels, reach = len(kx), along.shape[2] // 2
    for r in range(first, last):
        s, y = slices[r], data[image[r]]
        x_phase, y_phase = along[r, 0], along[r, 1]
        overlap, power = np.float32(0.0), np.float32(0.0)
        for p in range(pixels):
            a, b = x_phase[kx[p] + reach], y_phase[ky[p] + reach]
            real = a[0] * b[0] - a[1] * b[1]
            imaginary = a[0] * b[1] + a[1] * b[0]
            re, im = y[2 * p], y[2 * p + 1]
            overlap += s[2 * p] * (real * re - imaginary * im)
            overlap += s[2 * p + 1] * (real * im + imaginary * re)
            power += s[2 * p] * s[2 * p] + s[2 * p + 1] * s[2 * p + 1]
        out[r] = overlap - np.float32(0.5) * power


def log_likelihood(
    slices: Complex64,
    data: Complex64,
    image: Int64,
    shift: Float64,
    disc: HalfDisc,
    team: ThreadTeam,
) -> Float64:
    """Log-likelihood (R,) of poses, up to constants of the images.

    Parameters
    ----------
    slices : (R, n) complex64
        With CTF.
    data : (B, m) complex64
        Images; of their pixels the first n count.
    image : (R,)
        Which image each slice is compared with.
    shift : (R, 2)
        By how much its content is moved, box lengths.
    disc : HalfDisc
        Of n pixels.
    team : ThreadTeam
    """
    frequency = np.arange(-disc.k_c, disc.k_c + 1)
    angle = (-2 * np.pi * shift[:, :, None] * frequency).astype(np.float32)
    along = np.exp(1j * angle).astype(np.complex64)
    tables = along.view(np.float32).reshape(*along.shape, 2)
    out = np.empty(len(slices))
    pairs, pixels = slices.view(np.float32), data.view(np.float32)

    def some(first: int, last: int) -> None:
        _fit(pairs, pixels, image, tables, disc.kx, disc.ky, out, first, last)

    team.over_ranges(len(slices), _POSES_A_TASK, some)
    return out
