"""Minus the log-likelihood of the images, latents and contrasts integrated out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.back_projection import BackProjection
from solvar.estimation.band import GRADIENT_CHUNK, Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, e_step
from solvar.estimation.kernels import residual
from solvar.estimation.pose_errors import MOTIONS
from solvar.estimation.statistics import Gradient, SufficientStatistics

Int64 = NDArray[np.int64]


class MaximumLikelihood:
    """Implements `Objective`."""

    def gradient(self, band: Band, model: ColumnModel, batch: Int64) -> Gradient:
        """Gradient of -Σ log-likelihood of a batch in the columns, and the posteriors.

        By Fisher's identity it is the gradient of the expected complete-data log-likelihood. Slices are
        held for a thousand images at a time, or what buffers allow: memory does not grow with the batch.
        """
        prepared = BandModel(band, model)
        fitted = len(model.columns)
        total = BackProjection(band.projector, fitted)
        statistics, cross = SufficientStatistics(model.rank), np.zeros((MOTIONS, model.rank))
        for images in prepared.batches(batch, GRADIENT_CHUNK):
            found, plane = e_step(prepared, images)
            residuals = band.buffer("residual", (len(images.data), fitted, len(band.disc)))
            residual(plane.slices, images.data, plane.mixing, plane.first, band.team, out=residuals)
            total.add(residuals, images.frame, images.ctf)
            statistics.add(found, images.weight)
            if plane.cross is not None:
                cross += plane.cross[:, 1:]
        del prepared  # it is as large as what is summed up now
        statistics.share(band)
        return Gradient(band.sum(total.sum()), band.sum(cross), 1.0, statistics)
