"""Minus the log-likelihood of the images, latents and contrasts integrated out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.kernels import residual
from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.likelihood import ImagePosterior, joined
from solvar.estimation.slack import MOTIONS, PoseSlack, with_slack

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 1000


class MaximumLikelihood:
    """Implements `Objective`."""

    def prior_factor(self, found: ImagePosterior) -> float:
        """The prior is in these units."""
        return 1.0

    def gradient(
        self,
        level: Level,
        columns: Float32,
        batch: Int64,
        contrast_sd: float,
        uncertainty: Uncertainty | None,
        slack: PoseSlack | None = None,
    ) -> tuple[Float32, ImagePosterior, Float64]:
        """Gradient of -Σ log-likelihood of a batch in the columns, and the posterior.

        By Fisher's identity it is the gradient of the expected complete-data log-likelihood. Slices are
        held for a thousand images at a time, so that memory does not grow with the batch.

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
