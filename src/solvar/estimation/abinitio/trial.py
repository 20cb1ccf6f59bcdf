"""What a draw of poses is asked for, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.image_batch import ImageBatch

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# poses this near each other are about the same, radians
_ABOUT = np.pi / 9


def log_prior_of(shift: Float64, sd: float) -> Float64:
    """Log density (…) of shifts (…, 2) of a standard deviation an axis, up to a constant."""
    value: Float64 = -0.5 * np.sum(shift**2, axis=-1) / sd**2
    return value


@dataclass(frozen=True, eq=False)
class Trial:
    """M particles, each at T shifts.

    Attributes
    ----------
    index : (M,) int64
        Which particles they are, in ascending order.
    moves : (M, T, 2) float64
        Box lengths.
    log_prior : (M, T) float32
        What each of these shifts counts for; 0 where they were drawn from their prior.
    shift_sd : float
        Standard deviation of shifts an axis.
    draws : int
        Poses that are drawn at each band.
    """

    index: Int64
    moves: Float64
    log_prior: Float32
    shift_sd: float
    draws: int

    def log_prior_of(self, shift: Float64) -> Float64:
        """Log prior density (B, S) of shifts (B, S, 2), up to a constant."""
        return log_prior_of(shift, self.shift_sd)


@dataclass(frozen=True, eq=False)
class Drawn:
    """Poses of B particles of a trial, each as often as images at the finest band say.

    Attributes
    ----------
    place : (B,) int64
        Where they stand in the trial.
    images : ImageBatch
        Theirs, at the finest band.
    rotation : (B, S, 3, 3) float64
    shift : (B, S, 2) float64
        Box lengths.
    best : (B,) int64
        Which of the S is the likeliest.
    evidence : (B,) float64
        Log of the sum over all poses.
    """

    place: Int64
    images: ImageBatch
    rotation: Float64
    shift: Float64
    best: Int64
    evidence: Float64

    @classmethod
    def of(cls, images: ImageBatch, rotation: Float64, shift: Float64) -> Drawn:
        """Of all particles of a batch, at poses that say nothing of them."""
        count = len(images)
        return cls(
            images.place, images, rotation, shift, np.zeros(count, np.int64), np.zeros(count)
        )

    @property
    def are_settled(self) -> NDArray[np.bool_]:
        """Whether most of the poses of a particle are about its likeliest one, (B,)."""
        best = self.rotation[np.arange(len(self.best)), self.best]
        near = np.einsum("bij,bsij->bs", best, self.rotation) > 1 + 2 * np.cos(_ABOUT)
        return np.asarray(near.mean(axis=1) > 0.5)
