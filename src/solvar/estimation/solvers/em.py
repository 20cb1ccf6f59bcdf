"""Incremental expectation-maximisation over the columns W = [μ | V] in a Fourier-diagonal metric.

The particles of a band are split at random into batches. Visiting batch b (docs/method.md, "Eigenvolumes"),

    E-step      slices of W, Gram matrices, posterior moments E[ζ], S = E[ζ ζᵀ], ζ = a·(1, z)
    gradient    g_b = Σ_i∈b Pᵀ C (C P W S - y ζᵀ)
    target      t_b = D W S_b - F(m g_b),   S_b = Σ_i∈b S / N: what the batch alone would have W solve for
    M-step      W ← W + m ( F⁻¹[ (Σ_b t_b) (D ΣS_b + Λ)⁻¹ ] - W )

with N the summed weight of the particles, D the sampling information, Λ the prior precision and m the mask,
of the columns with the weight of the spatial prior.
The targets of the other batches are kept from their last visit (Neal & Hinton 1998), so each step uses all
particles and costs one batch. Only their coefficients up to k_c are kept, in a file where images are on disk
(docs/decisions/0030).
A mean that has a symmetry stays as it was found, at all equivalent poses.
Stationary points are those of the penalised marginal likelihood whatever D is. Steps from one batch alone,
with a decreasing rate, lost what the previous band had found (docs/decisions/0004).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.metric import Metric
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.pose_errors import MOTIONS, PoseErrors
from solvar.estimation.posterior_variance import PosteriorVariance
from solvar.estimation.prior import Prior
from solvar.estimation.statistics import SufficientStatistics, SweepStatistics
from solvar.progress import Step

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_OBJECTIVE = MaximumLikelihood()
_STATE = ("columns", "batches", "_targets", "_total", "_seconds", "_crosses")


class IncrementalEm:
    """A model that is being fitted in a band, with the targets of every batch; implements `ColumnSolver`.

    Parameters
    ----------
    band : Band
    model : ColumnModel
        Start, on the band's grid and within its mask.
    prior : Prior
    batches : list of index arrays
        A partition of the band's particles.
    """

    def __init__(self, band: Band, model: ColumnModel, prior: Prior, batches: list[Int64]) -> None:
        self.band, self.batches = band, batches
        self.columns = band.shelf.keep(model.columns)
        self._start = replace(model, columns=self.columns, variance=None)
        self.metric = Metric(band, prior)
        # until a batch has been visited it votes for the start
        share, second = 1 / len(batches), np.eye(len(model.columns))
        start = self.metric.apply(self._spectrum(self.columns), second)
        start *= np.float32(share)
        self._targets = [band.shelf.keep(start)] * len(batches)
        self._total = band.shelf.keep(start * np.float32(len(batches)))
        self._seconds = [second * share for _ in batches]
        self._crosses = [np.zeros((MOTIONS, model.rank)) for _ in batches]

    @property
    def model(self) -> ColumnModel:
        """See `ColumnSolver`."""
        return replace(self._start, columns=self.columns)

    def _spectrum(self, volumes: Float32) -> Complex64:
        return self.band.ball.spectrum(volumes, self.band.team)

    @property
    def second(self) -> Float64:
        """See `ColumnSolver`."""
        return np.sum(self._seconds, axis=0)

    @property
    def variance(self) -> PosteriorVariance:
        """See `ColumnSolver`."""
        return self.metric.variance(self.second)

    def sweep(self, order: Int64, step: Step) -> SweepStatistics:
        """See `ColumnSolver`."""
        statistics = SufficientStatistics(self._start.rank)
        variance = self.variance
        for b in order:
            statistics.include(self._visit(int(b), variance))
            step.advance(len(self.batches[b]))
        if self._start.pose_errors is not None:
            self._fix_degeneracy(self._start.pose_errors)
        return statistics.means()

    def state(self) -> dict[str, Any]:
        """See `ColumnSolver`."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        """See `ColumnSolver`."""
        for name in _STATE:
            setattr(self, name, state[name])

    def _fix_degeneracy(self, pose_errors: PoseErrors) -> None:
        """Move rigid motion between V and δ as `poses/degeneracy.py` says; W ζ + T δ stays what it is."""
        rate = pose_errors.rate(self.columns, self.second[1:, 1:], np.sum(self._crosses, axis=0))
        motions = pose_errors.columns(self.columns[0])
        rigid = np.tensordot(rate.T.astype(np.float32), motions, axes=1)
        change = np.zeros_like(self.columns)
        change[1:] = self.band.support.masked_columns(rigid)
        shelf, spectrum = self.band.shelf, self._spectrum(change)
        self.columns = shelf.keep(self.columns + change)
        for b, second in enumerate(self._seconds):
            moved = self.metric.apply_data(spectrum, second)
            self._targets[b] = shelf.keep(self._targets[b] + moved)
            self._crosses[b] = self._crosses[b] - rate @ second[1:, 1:]
        moved = self.metric.apply_data(spectrum, self.second)
        self._total = shelf.keep(self._total + moved)

    def _visit(self, b: int, variance: PosteriorVariance) -> SufficientStatistics:
        band = self.band
        model = replace(self.model, variance=variance)
        found = _OBJECTIVE.gradient(band, model, self.batches[b])
        self._crosses[b] = found.cross / band.count
        statistics = found.statistics
        self._seconds[b] = statistics.second / band.count
        step = self._spectrum(band.support.step(found.columns))
        # at large boxes what is done with makes room
        del found
        self._replace_target(b, step)
        del step
        band.shelf.rest()
        change = band.ball.volumes(self.metric.solve(self._total, self.second), band.team)
        change -= self.columns
        change = band.support.step(change)
        if band.operations is not None:
            # these images, at one pose each, would take the symmetry from it
            change[0] = 0
        change += self.columns
        self.columns = band.shelf.keep(change)
        return statistics

    def _replace_target(self, b: int, step: Complex64) -> None:
        """What a batch votes for now, by F(m g_b), which is overwritten; and the sum with it."""
        band = self.band
        step /= np.float32(band.box**3)
        target = self.metric.apply_data(self._spectrum(self.columns), self._seconds[b])
        target -= step
        np.subtract(target, self._targets[b], out=step)
        step += self._total
        self._total, self._targets[b] = band.shelf.keep(step), band.shelf.keep(target)
