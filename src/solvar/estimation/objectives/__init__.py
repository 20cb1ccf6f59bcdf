"""What is minimised over the columns V.

A new objective is one new file and one line in `OBJECTIVES`, or a plug-in (docs/own-objective.md).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.objectives.least_squares import LeastSquares
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.statistics import Gradient
from solvar.plugins import OBJECTIVES as GROUP
from solvar.plugins import Choices

Int64 = NDArray[np.int64]


class Objective(Protocol):
    """An objective of the columns, a sum over particles."""

    def gradient(self, band: Band, model: ColumnModel, batch: Int64) -> Gradient:
        """What the particles `batch` say, those of other processes included."""


OBJECTIVES: Choices[Objective] = Choices(GROUP, {"ml": MaximumLikelihood(), "ls": LeastSquares()})
