"""The covariance by least squares: ¼ Σ ‖(y - s)(y - s)ᵀ - E Eᵀ - I‖² over the images (arXiv 2602.17603).

Its gradient in an image's slices E is E (G + I) - (y - s) qᵀ, G = EᵀE and q = Eᵀ(y - s): no latents and no
contrasts. Next to the likelihood's it weighs bright images and strong directions more, by about G + I.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.kernels import gram, residual
from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.slack import MOTIONS, PoseSlack
from solvar.estimation.sweep import Gradient, Tally

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 1000


class LeastSquares:
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
        """Gradient of the columns V, 0 for the mean, and the posteriors that tell how the fit goes.

        The prior factor is the mean of G + I: by so much the objective outweighs the likelihood.
        """
        prepared = level.projector.prepare(columns)
        accumulator = level.projector.zeros(len(columns))
        rank = len(columns) - 1
        tally, weight = Tally(rank), 0.0
        for images in level.batches(batch, _CHUNK):
            slices = level.slices(prepared, images.rotation, images.ctf)
            products = gram(slices, images.data, level.team)
            found = level.judge(products, images, contrast_sd, uncertainty)
            mixing, data_share = _coefficients(products)
            residuals = level.room("residual", slices.shape)
            residual(slices, images.data, mixing, data_share, level.team, out=residuals)
            level.projector.scatter(residuals, images.rotation, images.ctf, accumulator)
            tally.add(found)
            weight += float(np.sum(rank / np.einsum("bii->b", found.covariance)))
        tally.share(level)
        factor = float(level.sum(np.array([weight]))[0]) / len(batch)
        return Gradient(level.collect(accumulator), np.zeros((MOTIONS, rank)), factor, tally)


def _coefficients(products: Float64) -> tuple[Float64, Float64]:
    """What multiplies slices (B, 1 + r, 1 + r) and data (B, 1 + r) in the gradient."""
    rank = products.shape[1] - 2
    score = products[:, 1:-1, -1] - products[:, 1:-1, 0]
    mixing = np.zeros((len(products), rank + 1, rank + 1))
    mixing[:, 0, 1:] = score
    mixing[:, 1:, 1:] = products[:, 1:-1, 1:-1] + np.eye(rank)
    return mixing, np.concatenate([np.zeros((len(products), 1)), score], axis=1)
