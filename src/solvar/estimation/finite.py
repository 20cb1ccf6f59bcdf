"""Numbers that are not finite are told at the end of the stage that made them, not hours later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from solvar.errors import SolvarError
from solvar.particles import ParticleSet

# Likely causes, by what went before.
IMAGES = (
    "pixel values or CTF parameters that overflow single precision, or an optics group of empty "
    "images; look at the particles with solvar check"
)
MEAN = "poses or CTFs that do not belong to the images; look at the particles with solvar check"
FITTING = (
    "a few images far brighter than the others, or settings outside what was tried; look at the "
    "particles with solvar check and run again with the default settings"
)


def require_finite(
    stage: str, cause: str, **arrays: NDArray[np.inexact] | Sequence[NDArray[np.inexact] | None]
) -> None:
    """Make sure that a stage made finite numbers.

    Parameters
    ----------
    stage : str
        As the user knows it from the progress: "mean".
    cause : str
        What most likely went wrong, and what to do.
    **arrays : array or sequence of arrays, any shape
        What the stage made, by name; None in a sequence is passed over.

    Raises
    ------
    SolvarError
        With the name of the stage and of the first array that holds NaN or infinity.
    """
    for name, given in arrays.items():
        for array in [given] if isinstance(given, np.ndarray) else given:
            bad = 0 if array is None else np.size(array) - np.count_nonzero(np.isfinite(array))
            if bad:
                raise SolvarError(
                    f"The stage '{stage}' ended with {bad:,} values of {name.replace('_', ' ')} that "
                    f"are not finite numbers. Likely cause: {cause}."
                )


@contextmanager
def require_invertible(cause: str) -> Iterator[None]:
    """Say what most likely went wrong where a matrix cannot be inverted.

    Raises
    ------
    SolvarError
        In place of numpy's error.
    """
    try:
        yield
    except np.linalg.LinAlgError as error:
        raise SolvarError(
            f"The fit met a matrix that cannot be inverted ({error}). Likely cause: {cause}."
        ) from error


def require_finite_images(
    pixels: NDArray[np.complex64], particles: ParticleSet, place: NDArray[np.int64]
) -> None:
    """Make sure that whitened images are finite.

    Parameters
    ----------
    pixels : (B, P) complex64
    particles : ParticleSet
    place : (B,) int64
        Which of its exposures they are.

    Raises
    ------
    SolvarError
        With the file, image and row of the first that is not.
    """
    bad = np.flatnonzero(~np.isfinite(pixels).all(axis=1))
    if len(bad):
        first, images = place[bad[0]], particles.exposures
        stack, row = particles.stacks[images.stack_index[first]], particles.image_row[first]
        raise SolvarError(
            f"{stack}: image {images.frame[first] + 1} (row {row + 1} of "
            f"{particles.source}) is not finite after whitening. Likely cause: {IMAGES}."
        )
