"""What fits columns to particles, sweep by sweep, and what a sweep tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level
from solvar.estimation.likelihood import ImagePosterior
from solvar.estimation.metric import Metric
from solvar.estimation.slack import PoseSlack
from solvar.progress import Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SweepStatistics:
    """What one sweep over the particles saw.

    Attributes
    ----------
    log_likelihood : float
        Mean over particles, each at the columns of its own visit.
    latent_moment : (r, r)
        Mean E[z zᵀ].
    latent_explained : (r, r)
        Mean E[z] E[z]ᵀ: the part of it that the images, not the prior, speak for.
    contrast_variance : float
        Mean E[(a - 1)²].
    """

    log_likelihood: float
    latent_moment: Float64
    latent_explained: Float64
    contrast_variance: float


class ColumnSolver(Protocol):
    """Columns W = [μ | V] that are being fitted at one level.

    Attributes
    ----------
    columns : (1 + r, l, l, l) float32
    second : (1 + r, 1 + r) float64
        Mean second moment of the coefficients.
    """

    level: Level
    batches: list[Int64]
    contrast_sd: float
    slack: PoseSlack | None
    metric: Metric

    @property
    def columns(self) -> Float32:
        """W, (1 + r, l, l, l)."""

    @property
    def second(self) -> Float64:
        """S, (1 + r, 1 + r)."""

    def sweep(self, order: Int64, step: Step) -> SweepStatistics:
        """Visit every batch once, in the given order."""


class Tally:
    """Sums over the particles of a sweep."""

    def __init__(self, rank: int) -> None:
        self._count, self._log_likelihood, self._contrast = 0, 0.0, 0.0
        self._moment, self._explained = np.zeros((rank, rank)), np.zeros((rank, rank))

    def add(self, found: ImagePosterior) -> None:
        self._count += len(found.z)
        self._log_likelihood += float(found.log_likelihood.sum())
        self._contrast += float(np.sum(found.contrast_square - 2 * found.contrast + 1))
        explained = found.z.T @ found.z
        self._explained += explained
        self._moment += explained + found.covariance.sum(axis=0)

    def statistics(self) -> SweepStatistics:
        n = self._count
        return SweepStatistics(
            self._log_likelihood / n, self._moment / n, self._explained / n, self._contrast / n
        )
