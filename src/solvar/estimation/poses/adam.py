"""The published way, for comparison: Adam on rotation vectors, Newton on shifts (arXiv 2602.17603).

Moments are kept a particle (sparse Adam: Kingma & Ba 2015, bias-corrected by each particle's own count).
The contrast, which the paper sets to its best value every few epochs, is integrated over here as everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.poses.objective import Improved, PoseObjective
from solvar.imaging.rotations import from_rotation_vector

Float64 = NDArray[np.float64]

_RATE = np.deg2rad(0.5)
_FIRST_DECAY, _SECOND_DECAY = 0.9, 0.999
_SMALL = 1e-8


class SparseAdam:
    """First and second moments of the gradient a particle; implements `PoseSolver`."""

    steps = 10

    def start(self, count: int) -> dict[str, Float64]:
        """See `PoseSolver`."""
        return {
            "first": np.zeros((count, 3)),
            "second": np.zeros((count, 3)),
            "count": np.zeros(count),
        }

    def improve(self, objective: PoseObjective, memory: dict[str, Float64]) -> Improved:
        """See `PoseSolver`."""
        batch = objective.index
        rotation, shift = objective.start()
        for _ in range(self.steps):
            _, slopes = objective.slopes(rotation, shift)
            rotation = from_rotation_vector(_turn(memory, batch, slopes.gradient[:, :3])) @ rotation
            along, bend = slopes.gradient[:, 3:, None], slopes.curvature[:, 3:, 3:]
            shift = shift + np.linalg.solve(bend, along)[:, :, 0]
        value = objective.value(rotation, shift)
        covariance = np.asarray(np.linalg.inv(slopes.curvature), dtype=np.float64)
        return Improved(rotation, shift, covariance, value)


def _turn(memory: dict[str, Float64], batch: NDArray[np.int64], gradient: Float64) -> Float64:
    """The step of a batch, (B, 3) radians."""
    for name, decay, seen in (
        ("first", _FIRST_DECAY, gradient),
        ("second", _SECOND_DECAY, gradient**2),
    ):
        memory[name][batch] = decay * memory[name][batch] + (1 - decay) * seen
    memory["count"][batch] += 1
    count = memory["count"][batch, None]
    first = memory["first"][batch] / (1 - _FIRST_DECAY**count)
    second = memory["second"][batch] / (1 - _SECOND_DECAY**count)
    return _RATE * first / (np.sqrt(second) + _SMALL)
