"""How columns are fitted, sweep by sweep; a new solver is one new file and one branch here."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.metric import Metric
from solvar.estimation.objectives import OBJECTIVES
from solvar.estimation.posterior_variance import PosteriorVariance
from solvar.estimation.prior import Prior
from solvar.estimation.solvers.adam import MinibatchAdam
from solvar.estimation.solvers.em import IncrementalEm
from solvar.estimation.statistics import SweepStatistics
from solvar.progress import Step

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class ColumnSolver(Protocol):
    """Columns W = [μ | V] that are being fitted in a band.

    Attributes
    ----------
    band : Band
    batches : list of (b,) int64
        A partition of the band's particles.
    metric : Metric
    """

    band: Band
    batches: list[Int64]
    metric: Metric

    @property
    def model(self) -> ColumnModel:
        """The model as it is, as particles see it that took no part in fitting it."""

    @property
    def second(self) -> Float64:
        """Mean second moment S of the coefficients, (1 + r, 1 + r)."""

    @property
    def variance(self) -> PosteriorVariance:
        """Posterior variance of the columns."""

    def sweep(self, order: Int64, step: Step) -> SweepStatistics:
        """Visit every batch once, in the given order."""

    def state(self) -> dict[str, Any]:
        """Everything that sweeps change."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of a solver that was made with the same arguments."""


def make_column_solver(
    name: str, objective: str, band: Band, model: ColumnModel, prior: Prior, batches: list[Int64]
) -> ColumnSolver:
    """A solver that starts from a model of unit latent variance.

    Parameters
    ----------
    name : {"em", "adam"}
    objective : str
        A key of `OBJECTIVES`; EM maximises the likelihood whatever it says.
    band : Band
    model : ColumnModel
        Start, on the band's grid and within its mask.
    prior : Prior
    batches : list of (b,) int64
        A partition of the band's particles.
    """
    if name == "adam":
        return MinibatchAdam(band, model, prior, batches, OBJECTIVES[objective])
    return IncrementalEm(band, model, prior, batches)
