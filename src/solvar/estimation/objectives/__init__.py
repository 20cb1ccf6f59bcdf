"""What is minimised over the columns V; a new objective is one new file and one line in `OBJECTIVES`."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.objectives.least_squares import LeastSquares
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.statistics import Gradient

Int64 = NDArray[np.int64]


class Objective(Protocol):
    """An objective of the columns, a sum over particles."""

    def gradient(self, band: Band, model: ColumnModel, batch: Int64) -> Gradient:
        """What the particles `batch` say, those of other processes included."""


OBJECTIVES: dict[str, Objective] = {"ml": MaximumLikelihood(), "ls": LeastSquares()}
