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

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.kernels import residual
from solvar.estimation.level import Level, Prior, Uncertainty
from solvar.estimation.likelihood import ImagePosterior, joined
from solvar.estimation.slack import MOTIONS, PoseSlack, with_slack
from solvar.progress import Step

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 1000


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
        tally = _Tally(len(self.columns) - 1)
        uncertainty = self.metric.uncertainty(self.second)
        for b in order:
            tally.add(self._visit(int(b), uncertainty))
            step.advance(len(self.batches[b]))
        if self.slack is not None:
            self._fix_gauge(self.slack)
        return tally.statistics()

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

    def _visit(self, b: int, uncertainty: Uncertainty) -> ImagePosterior:
        level = self.level
        gradient, found, cross = batch_gradient(
            level, self.columns, self.batches[b], self.contrast_sd, uncertainty, self.slack
        )
        self._crosses[b] = cross / len(level.index)
        current = level.spectrum(self.columns)
        self._seconds[b] = found.second.sum(axis=0) / len(level.index)
        target = self.metric.apply_data(current, self._seconds[b])
        target -= level.spectrum(level.mask * gradient) / np.float32(level.box**3)
        self._total += target - self._targets[b]
        self._targets[b] = target
        aim = self.metric.solve(self._total, self.second)
        self.columns = self.columns + level.mask * level.volumes(aim - current)
        return found


def batch_gradient(
    level: Level,
    columns: Float32,
    batch: Int64,
    contrast_sd: float,
    uncertainty: Uncertainty | None,
    slack: PoseSlack | None = None,
) -> tuple[Float32, ImagePosterior, Float64]:
    """Gradient of -Σ log-likelihood of a batch in the columns, and the posterior.

    By Fisher's identity it is the gradient of the expected complete-data log-likelihood. Slices are held for
    a thousand images at a time, so that memory does not grow with the batch.

    Returns
    -------
    (1 + r, L, L, L) float32
    ImagePosterior
    (6, r) float64
        Σ E[(δ - centre) ζᵀ] of the slack with the coefficients of V; 0 without slack.
    """
    prepared = level.projector.prepare(with_slack(columns, slack))
    fitted = len(columns)
    accumulator = level.projector.zeros(fitted)
    parts, cross = [], np.zeros((MOTIONS, fitted - 1))
    for first in range(0, len(batch), _CHUNK):
        some = batch[first : first + _CHUNK]
        found, plane = level.posterior(prepared, some, contrast_sd, uncertainty, slack)
        residuals = level.room("residual", (len(some), fitted, len(level.disc)))
        residual(plane.slices, plane.data, plane.mixing, found.first, level.team, out=residuals)
        level.projector.scatter(residuals, plane.rotation, plane.ctf, accumulator)
        parts.append(found)
        if slack is not None:
            cross += plane.mixing[:, fitted:, 1:].sum(axis=0)
            cross -= slack.centre[some].T @ found.first[:, 1:]
    return level.projector.collect(accumulator), joined(parts), cross


class Metric:
    """The Fourier-diagonal stand-in D S + Λ for the Hessian of the columns.

    The mean and the columns V are treated as uncoupled (the latents have mean zero), V in the eigenbasis
    of its block of S.
    """

    def __init__(self, level: Level, prior: Prior) -> None:
        self._level, self._prior = level, prior
        self._lam_mean = level.expand(prior.mean)
        self._lam_columns = level.expand(prior.columns)

    def apply(self, spectrum: Complex64, second: Float64) -> Complex64:
        """(D S + Λ) W."""
        out = self.apply_data(spectrum, second)
        out[0] += np.where(np.isfinite(self._lam_mean), self._lam_mean, 0) * spectrum[0]
        out[1:] += np.where(np.isfinite(self._lam_columns), self._lam_columns, 0) * spectrum[1:]
        return out

    def apply_data(self, spectrum: Complex64, second: Float64) -> Complex64:
        """D S W."""
        out = np.empty_like(spectrum)
        out[0] = np.float32(second[0, 0]) * spectrum[0]
        out[1:] = np.tensordot(second[1:, 1:].astype(np.float32), spectrum[1:], axes=1)
        out *= self._level.information
        return out

    def solve(self, spectrum: Complex64, second: Float64) -> Complex64:
        """(D S + Λ)⁻¹ t; 0 where the prior allows nothing."""
        information = self._level.information
        out = np.empty_like(spectrum)
        out[0] = spectrum[0] / (np.float32(second[0, 0]) * information + self._lam_mean)
        value, basis = np.linalg.eigh(second[1:, 1:])
        rotated = np.tensordot(basis.T.astype(np.float32), spectrum[1:], axes=1)
        for k, s in enumerate(value):
            rotated[k] /= np.float32(s) * information + self._lam_columns
        out[1:] = np.tensordot(basis.astype(np.float32), rotated, axes=1)
        return out

    def uncertainty(self, second: Float64) -> Uncertainty:
        """Posterior variance 1/(D S + Λ) of the columns per shell, for the support that is in use."""
        shells = slice(0, self._level.k_c + 1)
        information, support = self._level.shell_information, self._level.support
        value, basis = np.linalg.eigh(second[1:, 1:])
        return Uncertainty(
            mean=support / (second[0, 0] * information + self._prior.mean[shells]),
            columns=support / (np.outer(value, information) + self._prior.columns[shells]),
            basis=basis,
        )


class _Tally:
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
