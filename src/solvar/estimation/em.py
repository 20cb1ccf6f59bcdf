"""Incremental expectation-maximisation over the columns W = [μ | V] in a Fourier-diagonal metric.

The particles of a level are split at random into batches. Visiting batch b (ALGORITHM §4),

    E-step      slices of W, Gram matrices, posterior moments E[ζ], S = E[ζ ζᵀ], ζ = a·(1, z)
    gradient    g_b = Σ_i∈b Pᵀ C (C P W S - y ζᵀ)
    target      t_b = D W S_b - F(m g_b),   S_b = Σ_i∈b S / N: what the batch alone would have W solve for
    M-step      W ← W + m F⁻¹[ (Σ_b t_b) (D ΣS_b + Λ)⁻¹ - F W ]

with D the sampling information, Λ the prior precision and m the mask. The targets of the other batches are
kept from their last visit (Neal & Hinton 1998), so each step uses all particles and costs one batch.
Stationary points are those of the penalised marginal likelihood whatever D is. Steps from one batch alone,
with a decreasing rate, lost what the previous level had found (docs/decisions/0004).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level, Prior, Uncertainty
from solvar.estimation.metric import Metric
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.slack import MOTIONS, PoseSlack
from solvar.estimation.sweep import SweepStatistics, Tally
from solvar.progress import Step

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_OBJECTIVE = MaximumLikelihood()
_STATE = ("columns", "batches", "_targets", "_total", "_seconds", "_crosses")


class IncrementalEm:
    """Columns W that are being fitted at one level, with the targets of every batch.

    Parameters
    ----------
    level : Level
    columns : (1 + r, L, L, L) float32
        Start, on the level's grid and within its mask.
    second : (1 + r, 1 + r) float64
        Mean second moment S of the coefficients at the start.
    prior : Prior
    contrast_sd : float
        Prior spread of the contrasts.
    batches : list of index arrays
        A partition of the level's particles.
    slack : PoseSlack, optional
        What the poses may be off by; without it they are taken as they are.
    """

    def __init__(
        self,
        level: Level,
        columns: Float32,
        second: Float64,
        prior: Prior,
        contrast_sd: float,
        batches: list[Int64],
        slack: PoseSlack | None = None,
    ) -> None:
        self.level, self.columns, self.batches = level, columns, batches
        self.slack = slack
        self.contrast_sd = contrast_sd
        self.metric = Metric(level, prior)
        # until a batch has been visited it votes for the start
        share = 1 / len(batches)
        start = self.metric.apply(level.spectrum(columns), second) * np.float32(share)
        self._targets = [start.copy() for _ in batches]
        self._total = start * np.float32(len(batches))
        self._seconds = [second * share for _ in batches]
        self._crosses = [np.zeros((MOTIONS, len(columns) - 1)) for _ in batches]

    @property
    def second(self) -> Float64:
        """Mean second moment S of the coefficients, (1 + r, 1 + r)."""
        return np.sum(self._seconds, axis=0)

    def sweep(self, order: Int64, step: Step) -> SweepStatistics:
        """Visit every batch once, in the given order."""
        tally = Tally(len(self.columns) - 1)
        uncertainty = self.metric.uncertainty(self.second)
        for b in order:
            tally.include(self._visit(int(b), uncertainty))
            step.advance(len(self.batches[b]))
        if self.slack is not None:
            self._fix_gauge(self.slack)
        return tally.statistics()

    def state(self) -> dict[str, Any]:
        """See `ColumnSolver`."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        """See `ColumnSolver`."""
        for name in _STATE:
            setattr(self, name, state[name])

    def _fix_gauge(self, slack: PoseSlack) -> None:
        """Move rigid motion between V and δ as `poses/gauge.py` says; W ζ + T δ stays what it is."""
        rate = slack.rate(self.columns, self.second[1:, 1:], np.sum(self._crosses, axis=0))
        motions = slack.columns(self.columns[0]) * self.level.mask
        change = np.zeros_like(self.columns)
        change[1:] = np.tensordot(rate.T.astype(np.float32), motions, axes=1)
        self.columns = self.columns + change
        spectrum = self.level.spectrum(change)
        for target, second, cross in zip(self._targets, self._seconds, self._crosses, strict=True):
            moved = self.metric.apply_data(spectrum, second)
            target += moved
            self._total += moved
            cross -= rate @ second[1:, 1:]

    def _visit(self, b: int, uncertainty: Uncertainty) -> Tally:
        level = self.level
        found = _OBJECTIVE.gradient(
            level, self.columns, self.batches[b], self.contrast_sd, uncertainty, self.slack
        )
        self._crosses[b] = found.cross / len(level.index)
        current = level.spectrum(self.columns)
        self._seconds[b] = found.tally.second / len(level.index)
        target = self.metric.apply_data(current, self._seconds[b])
        target -= level.spectrum(level.mask * found.columns) / np.float32(level.box**3)
        self._total += target - self._targets[b]
        self._targets[b] = target
        aim = self.metric.solve(self._total, self.second)
        self.columns = self.columns + level.mask * level.volumes(aim - current)
        return found.tally
