"""Minus the log-likelihood of the images, latents and contrasts integrated out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.kernels import residual
from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.slack import MOTIONS, PoseSlack, with_slack
from solvar.estimation.sweep import Gradient, Tally

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

_CHUNK = 1000


class MaximumLikelihood:
    """Implements `Objective`."""

    def gradient(
        self,
        level: Level,
        columns: Float32,
        batch: Int64,
        contrast_sd: float,
        uncertainty: Uncertainty | None,
        slack: PoseSlack | None = None,
    ) -> Gradient:
        """Gradient of -Σ log-likelihood of a batch in the columns, and the posteriors.

        By Fisher's identity it is the gradient of the expected complete-data log-likelihood. Slices are
        held for a thousand images at a time, so that memory does not grow with the batch.
        """
        prepared = level.projector.prepare(with_slack(columns, slack))
        fitted = len(columns)
        accumulator = level.projector.zeros(fitted)
        tally, cross = Tally(fitted - 1), np.zeros((MOTIONS, fitted - 1))
        for images in level.batches(batch, _CHUNK):
            found, plane = level.posterior(prepared, images, contrast_sd, uncertainty, slack)
            residuals = level.room("residual", (len(images), fitted, len(level.disc)))
            residual(
                plane.slices, images.data, plane.mixing, found.first, level.team, out=residuals
            )
            level.projector.scatter(residuals, images.rotation, images.ctf, accumulator)
            tally.add(found)
            if slack is not None:
                cross += plane.mixing[:, fitted:, 1:].sum(axis=0)
                cross -= slack.centre[images.index].T @ found.first[:, 1:]
        tally.share(level)
        return Gradient(level.collect(accumulator), level.sum(cross), 1.0, tally)
