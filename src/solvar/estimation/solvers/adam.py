"""The published way to fit the columns, for comparison: minibatch Adam in the voxels (arXiv 2602.17603).

V_j = exp(l_j) U_j with U_j of about unit norm; Adam (Kingma & Ba 2015) with rate 1e-3 on the voxels of U
inside the mask and a hundred times that on l; the rates are halved when a sweep gains nothing. The mean stays
what it is. Data gradients come from one batch at a time, scaled to all particles; the prior is that of the
default solver.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.metric import Metric
from solvar.estimation.objectives import Objective
from solvar.estimation.posterior_variance import PosteriorVariance
from solvar.estimation.prior import Prior
from solvar.estimation.statistics import SufficientStatistics, SweepStatistics
from solvar.progress import Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_RATE = 1e-3
_AMPLITUDE_FACTOR = 100.0
_DECAY = (0.9, 0.999)
_SMALL = 1e-12
_STATE = ("batches", "second", "_direction", "_amplitude", "_rate", "_best")


class MinibatchAdam:
    """A model that is being fitted in a band; implements `ColumnSolver` as `IncrementalEm` does."""

    def __init__(
        self,
        band: Band,
        model: ColumnModel,
        prior: Prior,
        batches: list[Int64],
        objective: Objective,
    ) -> None:
        self.band, self.batches, self.second = band, batches, np.eye(len(model.columns))
        self._start = replace(model, variance=None)
        self.metric = Metric(band, prior)
        self._objective = objective
        columns = model.columns
        norm = np.sqrt(np.sum(columns[1:].astype(np.float64) ** 2, axis=(1, 2, 3)))
        self._amplitude = np.log(np.maximum(norm, 1e-30))
        self._direction = columns[1:] / np.exp(self._amplitude)[:, None, None, None].astype(
            np.float32
        )
        self._moments = _Moments(self._direction.shape), _Moments(self._amplitude.shape)
        self._rate, self._best = _RATE, -np.inf

    @property
    def model(self) -> ColumnModel:
        """See `ColumnSolver`."""
        scale = np.exp(self._amplitude).astype(np.float32)[:, None, None, None]
        columns = np.concatenate([self._start.columns[:1], scale * self._direction])
        return replace(self._start, columns=columns)

    @property
    def variance(self) -> PosteriorVariance:
        """See `ColumnSolver`."""
        return self.metric.variance(self.second)

    def sweep(self, order: Int64, step: Step) -> SweepStatistics:
        """See `ColumnSolver`."""
        statistics = SufficientStatistics(self._start.rank)
        variance = self.variance
        for b in order:
            batch, model = self.batches[b], replace(self.model, variance=variance)
            found = self._objective.gradient(self.band, model, batch)
            prior = self.metric.prior_gradient(model.columns, found.prior_factor)
            total = found.columns[1:] * np.float32(len(self.band.index) / len(batch)) + prior[1:]
            self._update(self.band.support.masked_columns(total), model.columns[1:])
            statistics.include(found.statistics)
            step.advance(len(batch))
        self.second = statistics.second / self.band.count
        means = statistics.means()
        if means.log_likelihood <= self._best:
            self._rate /= 2
        self._best = max(self._best, means.log_likelihood)
        return means

    def state(self) -> dict[str, Any]:
        """See `ColumnSolver`."""
        state = {name: getattr(self, name) for name in _STATE}
        return {**state, "moments": [vars(moments) for moments in self._moments]}

    def restore(self, state: dict[str, Any]) -> None:
        """See `ColumnSolver`."""
        for name in _STATE:
            setattr(self, name, state[name])
        for ours, saved in zip(self._moments, state["moments"], strict=True):
            vars(ours).update(saved)

    def _update(self, gradient: Float32, columns: Float32) -> None:
        """One step down the gradient (r, l, l, l) in the columns V."""
        scale = np.exp(self._amplitude)
        of_direction = gradient * scale.astype(np.float32)[:, None, None, None]
        of_amplitude = np.einsum("rzyx,rzyx->r", gradient, columns, dtype=np.float64)
        direction, amplitude = self._moments
        self._direction = self._direction - np.float32(self._rate) * direction.step(of_direction)
        self._amplitude = self._amplitude - self._rate * _AMPLITUDE_FACTOR * amplitude.step(
            of_amplitude
        )


class _Moments:
    """Running first and second moments of a gradient."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._first, self._second, self._count = np.zeros(shape), np.zeros(shape), 0

    def step(self, gradient: NDArray[np.floating]) -> NDArray[np.floating]:
        """The normalised step for a new gradient."""
        first, second = _DECAY
        self._count += 1
        self._first = first * self._first + (1 - first) * gradient
        self._second = second * self._second + (1 - second) * gradient.astype(np.float64) ** 2
        unbiased = self._first / (1 - first**self._count)
        spread = np.sqrt(self._second / (1 - second**self._count))
        return (unbiased / (spread + _SMALL)).astype(gradient.dtype)
