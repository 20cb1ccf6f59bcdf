"""What is minimised over the columns V; a new objective is one new file and one line in `OBJECTIVES`."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.objectives.least_squares import LeastSquares
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.slack import PoseSlack
from solvar.estimation.sweep import Gradient

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class Objective(Protocol):
    """An objective of the columns, a sum over images."""

    def gradient(
        self,
        level: Level,
        columns: Float32,
        batch: Int64,
        contrast_sd: float,
        uncertainty: Uncertainty | None,
        slack: PoseSlack | None = None,
    ) -> Gradient:
        """What the particles `batch` say, those of other processes included."""


OBJECTIVES: dict[str, Objective] = {"ml": MaximumLikelihood(), "ls": LeastSquares()}
