"""Damped Gauss-Newton steps (Levenberg 1944) that are taken only if they raise the posterior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.poses.objective import Improved, PoseObjective
from solvar.imaging.rotations import from_rotation_vector

Float64 = NDArray[np.float64]

_FIRST_DAMPING, _MORE, _LESS = 0.1, 8.0, 0.25
_DAMPING_BOUNDS = (1e-3, 1e3)


class GaussNewton:
    """A damping factor a particle; implements `PoseSolver`."""

    steps = 3

    def start(self, count: int) -> dict[str, Float64]:
        """See `PoseSolver`."""
        return {"damping": np.full(count, _FIRST_DAMPING)}

    def improve(self, objective: PoseObjective, memory: dict[str, Float64]) -> Improved:
        """See `PoseSolver`. The E-step that decides on a trial is the one the next step starts from."""
        batch, damping = objective.index, memory["damping"]
        rotation, shift = objective.start()
        value, slopes = objective.slopes(rotation, shift)
        for number in range(self.steps):
            curvature = slopes.curvature
            damped = curvature + damping[batch, None, None] * _diagonal_of(curvature)
            step = np.linalg.solve(damped, slopes.gradient[:, :, None])[:, :, 0]
            trial = from_rotation_vector(step[:, :3]) @ rotation, shift + step[:, 3:]
            if number < self.steps - 1:
                trial_value, trial_slopes = objective.slopes(*trial)
                accepted = trial_value > value
                slopes = slopes.where(accepted, trial_slopes)
            else:
                trial_value = objective.value(*trial)
                accepted = trial_value > value
            rotation = np.where(accepted[:, None, None], trial[0], rotation)
            shift = np.where(accepted[:, None], trial[1], shift)
            value = np.maximum(value, trial_value)
            factor = np.where(accepted, _LESS, _MORE)
            damping[batch] = np.clip(damping[batch] * factor, *_DAMPING_BOUNDS)
        covariance = np.asarray(np.linalg.inv(curvature), dtype=np.float64)
        return Improved(rotation, shift, covariance, value)


def _diagonal_of(matrix: Float64) -> Float64:
    return np.einsum("bii->bi", matrix)[:, :, None] * np.eye(matrix.shape[1])
