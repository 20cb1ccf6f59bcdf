"""Images whose content is moved by a shift of their own each, many shifts an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.compilation import compiled
from solvar.imaging.fourier import HalfDisc
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@compiled()
def _move(data, image, shift, kx, ky, reach, out, first, last):  # type: ignore[no-untyped-def]
    """Nine arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours."""
    along_x = np.empty((reach + 1, 2), np.float32)
    along_y = np.empty((2 * reach + 1, 2), np.float32)
    for r in range(first, last):
        y, moved = data[image[r]], out[r]
        x_turn, y_turn = -2 * np.pi * shift[r, 0], -2 * np.pi * shift[r, 1]
        for k in range(reach + 1):
            along_x[k, 0], along_x[k, 1] = np.cos(k * x_turn), np.sin(k * x_turn)
            real, imaginary = np.cos(k * y_turn), np.sin(k * y_turn)
            along_y[reach + k, 0], along_y[reach + k, 1] = real, imaginary
            along_y[reach - k, 0], along_y[reach - k, 1] = real, -imaginary
        for p in range(len(kx)):
            a, b = along_x[kx[p]], along_y[ky[p] + reach]
            real = a[0] * b[0] - a[1] * b[1]
            imaginary = a[0] * b[1] + a[1] * b[0]
            moved[2 * p] = real * y[2 * p] - imaginary * y[2 * p + 1]
            moved[2 * p + 1] = real * y[2 * p + 1] + imaginary * y[2 * p]


def moved_images(
    data: Complex64, image: Int64, shift: Float64, disc: HalfDisc, team: ThreadTeam
) -> Complex64:
    """Images with their content moved, as `centring_phase` does, in one pass over their pixels, (R, n).

    Parameters
    ----------
    data : (B, m) complex64
        Images; of their pixels the first n count.
    image : (R,)
        Which image is moved.
    shift : (R, 2)
        By how much, box lengths.
    disc : HalfDisc
        Of n pixels.
    team : ThreadTeam
    """
    out = np.empty((len(image), len(disc)), np.complex64)
    pixels, moved = data.view(np.float32), out.view(np.float32)

    def some(first: int, last: int) -> None:
        _move(pixels, image, shift, disc.kx, disc.ky, disc.k_c, moved, first, last)

    team.over_items(len(image), len(disc), some)
    return out
