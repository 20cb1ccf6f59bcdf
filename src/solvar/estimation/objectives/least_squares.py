"""The covariance by least squares: ¼ Σ ‖(y - s)(y - s)ᵀ - E Eᵀ - I‖² over the images (arXiv 2602.17603).

Its gradient in an image's slices E is E (G + I) - (y - s) qᵀ, G = EᵀE and q = Eᵀ(y - s): no latents and no
contrasts. Next to the likelihood's it weighs bright images and strong directions more, by about G + I.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.back_projection import BackProjection
from solvar.estimation.band import GRADIENT_CHUNK, Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.kernels import gram, residual
from solvar.estimation.pose_errors import MOTIONS
from solvar.estimation.statistics import Gradient, SufficientStatistics

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class LeastSquares:
    """Implements `Objective`."""

    def gradient(self, band: Band, model: ColumnModel, batch: Int64) -> Gradient:
        """Gradient of the columns V, 0 for the mean, and the posteriors that tell how the fit goes.

        Poses are taken as they are. The prior factor is the mean of G + I: by so much the objective
        outweighs the likelihood.
        """
        prepared = BandModel(band, replace(model, pose_errors=None))
        total = BackProjection(band.projector, len(model.columns))
        statistics, weight = SufficientStatistics(model.rank), 0.0
        for images in prepared.batches(batch, GRADIENT_CHUNK):
            slices = prepared.slices(images.frame, images.ctf)
            images.refuse_uncertain("least squares")
            products = images.per_pose(gram(slices, images.data, band.team))
            found = prepared.posterior(products, images.ctf_power)
            mixing, data_share = (images.per_image(each) for each in _coefficients(products))
            residuals = band.buffer("residual", slices.shape)
            residual(slices, images.data, mixing, data_share, band.team, out=residuals)
            total.add(residuals, images.frame, images.ctf)
            statistics.add(found, images.weight)
            weight += float(np.sum(model.rank / np.einsum("bii->b", found.covariance)))
        statistics.share(band)
        factor = float(band.sum(np.array([weight]))[0]) / len(batch)
        cross = np.zeros((MOTIONS, model.rank))
        return Gradient(band.sum(total.sum()), cross, factor, statistics)


def _coefficients(products: Float64) -> tuple[Float64, Float64]:
    """What multiplies slices (B, 1 + r, 1 + r) and data (B, 1 + r) in the gradient."""
    rank = products.shape[1] - 2
    score = products[:, 1:-1, -1] - products[:, 1:-1, 0]
    mixing = np.zeros((len(products), rank + 1, rank + 1))
    mixing[:, 0, 1:] = score
    mixing[:, 1:, 1:] = products[:, 1:-1, 1:-1] + np.eye(rank)
    return mixing, np.concatenate([np.zeros((len(products), 1)), score], axis=1)
