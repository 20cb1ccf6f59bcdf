"""The log-likelihood of particles under a model: what two models are compared by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, told_by_products
from solvar.estimation.likelihood import image_posterior

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def log_likelihood(band: Band, model: ColumnModel, index: Int64 | None = None) -> Float64:
    """Log-likelihood of particles under a model, latents, contrasts and pose errors integrated out.

    Up to ½‖y‖² and constants that depend on no model: 0 is that of an image without a particle. Compare
    models by particles that took part in fitting none of them.

    Parameters
    ----------
    band : Band
    model : ColumnModel
        Its columns on the band's grid. Their posterior variance is left out.
    index : (N,) int64, optional
        Particles; default: all of the band.

    Returns
    -------
    (N,) float64
        In nats.
    """

    def tell(products: Float64) -> Float64:
        return image_posterior(products, model.contrast_sd, band.team).log_likelihood

    return told_by_products(BandModel(band, model), band.index if index is None else index, tell)
