"""The covariance by least squares: ¼ Σ ‖(y - s)(y - s)ᵀ - E Eᵀ - I‖² over the images (arXiv 2602.17603).

Its gradient in an image's slices E is E (G + I) - (y - s) qᵀ, G = EᵀE and q = Eᵀ(y - s): no latents and no
contrasts. Next to the likelihood's it weighs bright images and strong directions more, by about G + I.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.kernels import gram, residual
from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.likelihood import ImagePosterior, joined
from solvar.estimation.slack import MOTIONS, PoseSlack

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 1000


class LeastSquares:
    """Implements `Objective`."""

    def prior_factor(self, found: ImagePosterior) -> float:
        """The mean of G + I: by so much the objective outweighs the likelihood."""
        variance = np.einsum("bii->b", found.covariance) / found.covariance.shape[1]
        return float(np.mean(1 / variance))

    def gradient(
        self,
        level: Level,
        columns: Float32,
        batch: Int64,
        contrast_sd: float,
        uncertainty: Uncertainty | None,
        slack: PoseSlack | None = None,
    ) -> tuple[Float32, ImagePosterior, Float64]:
        """Gradient (1 + r, l, l, l), 0 for the mean, and the posteriors that tell how the fit goes."""
        prepared = level.projector.prepare(columns)
        accumulator = level.projector.zeros(len(columns))
        rank, parts = len(columns) - 1, []
        for first in range(0, len(batch), _CHUNK):
            some = batch[first : first + _CHUNK]
            data, ctf, rotation = level.images.batch(some, len(level.disc))
            slices = level.slices(prepared, rotation, ctf)
            products = gram(slices, data, level.team)
            parts.append(level.judge(products, some, contrast_sd, uncertainty))
            score = products[:, 1:-1, -1] - products[:, 1:-1, 0]
            mixing = np.zeros((len(some), rank + 1, rank + 1))
            mixing[:, 0, 1:] = score
            mixing[:, 1:, 1:] = products[:, 1:-1, 1:-1] + np.eye(rank)
            data_share = np.concatenate([np.zeros((len(some), 1)), score], axis=1)
            residuals = level.room("residual", slices.shape)
            residual(slices, data, mixing, data_share, level.team, out=residuals)
            level.projector.scatter(residuals, rotation, ctf, accumulator)
        cross = np.zeros((MOTIONS, rank))
        return level.projector.collect(accumulator), joined(parts), cross
