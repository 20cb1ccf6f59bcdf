"""What is minimised over the columns V; a new objective is one new file and one line in `OBJECTIVES`."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.likelihood import ImagePosterior
from solvar.estimation.objectives.least_squares import LeastSquares
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.slack import PoseSlack

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Objective(Protocol):
    """An objective of the columns, a sum over images."""

    def prior_factor(self, found: ImagePosterior) -> float:
        """What the prior's precision must be multiplied by to weigh as much as in the likelihood."""

    def gradient(
        self,
        level: Level,
        columns: Float32,
        batch: Int64,
        contrast_sd: float,
        uncertainty: Uncertainty | None,
        slack: PoseSlack | None = None,
    ) -> tuple[Float32, ImagePosterior, Float64]:
        """Gradient of a batch, its posteriors, and Σ E[(δ - centre) ζᵀ] of the slack, (6, r)."""


OBJECTIVES: dict[str, Objective] = {"ml": MaximumLikelihood(), "ls": LeastSquares()}
