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
# as in `kernels.py`: so many values are summed up in float32
_BLOCK = 256


@compiled()
def _products(slices, data, image, shift, kx, ky, out, first, last):  # type: ignore[no-untyped-def]
    """Nine arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours."""
    channels, pixels = slices.shape[1], len(kx)
    reach = kx.max()
    along_x = np.empty((reach + 1, 2), np.float32)
    along_y = np.empty((2 * reach + 1, 2), np.float32)
    moved = np.empty(2 * pixels, np.float32)
    for r in range(first, last):
        y = data[image[r]]
        x_turn, y_turn = -2 * np.pi * shift[r, 0], -2 * np.pi * shift[r, 1]
        for k in range(reach + 1):
            along_x[k, 0], along_x[k, 1] = np.cos(k * x_turn), np.sin(k * x_turn)
            real, imaginary = np.cos(k * y_turn), np.sin(k * y_turn)
            along_y[reach + k, 0], along_y[reach + k, 1] = real, imaginary
            along_y[reach - k, 0], along_y[reach - k, 1] = real, -imaginary
        for p in range(pixels):
            a, b = along_x[kx[p]], along_y[ky[p] + reach]
            real = a[0] * b[0] - a[1] * b[1]
            imaginary = a[0] * b[1] + a[1] * b[0]
            moved[2 * p] = real * y[2 * p] - imaginary * y[2 * p + 1]
            moved[2 * p + 1] = real * y[2 * p + 1] + imaginary * y[2 * p]
        for i in range(channels):
            for j in range(i + 1):
                out[r, i, j] = 0.0
            out[r, i, channels] = 0.0
        for start in range(0, 2 * pixels, _BLOCK):
            stop = min(start + _BLOCK, 2 * pixels)
            seen = moved[start:stop]
            for i in range(channels):
                left = slices[r, i, start:stop]
                part = np.float32(0.0)
                for p in range(stop - start):
                    part += left[p] * seen[p]
                out[r, i, channels] += part
                for j in range(i + 1):
                    right = slices[r, j, start:stop]
                    part = np.float32(0.0)
                    for p in range(stop - start):
                        part += left[p] * right[p]
                    out[r, i, j] += part
        for i in range(channels):
            for j in range(i):
                out[r, j, i] = out[r, i, j]


def products(
    slices: Complex64,
    data: Complex64,
    image: Int64,
    shift: Float64,
    disc: HalfDisc,
    team: ThreadTeam,
) -> Float64:
    """Inner products of slices with each other and with an image whose content is moved, (R, C, C + 1).

    Parameters
    ----------
    slices : (R, C, n) complex64
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
    count, channels, _ = slices.shape
    out = np.empty((count, channels, channels + 1))
    pairs, pixels = slices.view(np.float32), data.view(np.float32)

    def some(first: int, last: int) -> None:
        _products(pairs, pixels, image, shift, disc.kx, disc.ky, out, first, last)

    team.over_ranges(count, _POSES_A_TASK, some)
    return out
