"""What the pixels of a file hold of an image: the image, its phases flipped, or its product with the CTF.

With C the CTF, s the specimen and n the noise, an image is C s + n. Flipped phases are sign(C)·(C s + n), in
which the noise is as strong as before and the CTF is |C|. A premultiplied image is C·(C s + n): its noise
follows the CTF, and division gives the image back wherever C is not 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.optics import Optics

Float64 = NDArray[np.float64]

# |C| below which the quotient of a premultiplied image is rounding and leakage from other frequencies; what
# is lost there is below 0.25 % of what a pixel can tell
_LEAST_CTF = 0.05


def as_recorded(
    ctf: Float64, optics: Optics, optics_group: NDArray[np.int64]
) -> tuple[Float64, Float64 | None]:
    """The CTF of N images as their file holds them, and by what their transforms are to be multiplied.

    Parameters
    ----------
    ctf : (N, n) float64
        As of `evaluate_ctf`.
    optics : Optics
    optics_group : (N,) int64

    Returns
    -------
    ctf : (N, n) float64
        0 where a premultiplied image carries nothing.
    factor : (N, n) float64 or None
        After which the noise is what it was before the CTF was applied; None for 1.
    """
    ctf = _after_flips(ctf, optics, optics_group)
    if optics.premultiplied is None:
        return ctf, None
    multiplied = optics.premultiplied[optics_group, None]
    lost = multiplied & (np.abs(ctf) < _LEAST_CTF)
    factor = np.where(multiplied, 1.0 / np.where(lost, 1.0, ctf), 1.0)
    return np.where(lost, 0.0, ctf), np.where(lost, 0.0, factor)


def transfer_on_file(ctf: Float64, optics: Optics, optics_group: NDArray[np.int64]) -> Float64:
    """What the specimen's transform is multiplied by in N images as their file holds them: C, |C| or C².

    Parameters
    ----------
    ctf : (N, n) float64
        As of `evaluate_ctf`.
    optics : Optics
    optics_group : (N,) int64
    """
    ctf = _after_flips(ctf, optics, optics_group)
    if optics.premultiplied is None:
        return ctf
    return np.where(optics.premultiplied[optics_group, None], ctf**2, ctf)


def _after_flips(ctf: Float64, optics: Optics, optics_group: NDArray[np.int64]) -> Float64:
    """The CTF (N, n) of images, |C| of those whose phases were flipped."""
    if optics.phase_flipped is None:
        return ctf
    return np.where(optics.phase_flipped[optics_group, None], np.abs(ctf), ctf)
