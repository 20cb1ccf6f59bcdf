"""The E-step: from images to the posterior of their latents and contrasts under a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.images import ImageBatch
from solvar.estimation.kernels import gram
from solvar.estimation.likelihood import ImagePosterior, image_posterior
from solvar.estimation.pose_errors import marginalise

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """A batch as the M-step needs it.

    Attributes
    ----------
    slices : (B, C, n)
        Of all columns, the rigid motions last; where the projector computes.
    mixing : (B, C, 1 + r)
        Second moments of all coefficients with those of W = [μ | V].
    """

    slices: Any
    mixing: Float64


class BandModel:
    """A model on the grid of a band, its columns prepared for projection once.

    Parameters
    ----------
    band : Band
    model : ColumnModel
        Its columns on the band's grid.
    """

    def __init__(self, band: Band, model: ColumnModel) -> None:
        self.band, self.model = band, model
        self.prepared = band.projector.prepare(model.projected)

    def slices(self, frame: Float32, ctf: Float32) -> Any:
        """Slices (B, C, n) of all columns, in memory that the band's next slices use again."""
        return self.band.slices(self.prepared, frame, ctf)

    def posterior(self, products: Float64, batch: ImageBatch) -> ImagePosterior:
        """Posterior of a batch from its Gram matrices (B, r + 2, r + 2)."""
        if self.model.variance is not None:
            products = products.copy()
            self.model.variance.add_to(products, batch.ctf_power[:, : self.band.k_c + 1])
        return image_posterior(products, self.model.contrast_sd)


def e_step(model: BandModel, batch: ImageBatch) -> tuple[ImagePosterior, ImagePlane]:
    """Posterior of the latents and contrasts of a batch, and what an M-step needs of it.

    Parameters
    ----------
    model : BandModel
    batch : ImageBatch

    Returns
    -------
    ImagePosterior
    ImagePlane
        Its slices last until the next E-step in the same band.
    """
    slices = model.slices(batch.frame, batch.ctf)
    products = gram(slices, batch.data, model.band.team)
    errors = model.model.pose_errors
    if errors is None:
        found = model.posterior(products, batch)
        return found, ImagePlane(slices, found.second)
    products, marginalised = marginalise(products, errors.centre[batch.index])
    found = model.posterior(products, batch)
    cross = marginalised.cross_moment(found.first, found.second)
    return found, ImagePlane(slices, np.concatenate([found.second, cross], axis=1))


def gram_matrices(model: BandModel, index: Int64) -> Float64:
    """Gram matrices (N, r + 2, r + 2) of the particles `index` under a model, at every process.

    Pose errors are integrated out; the posterior variance of the model is left out.
    """
    out = np.zeros((len(index), model.model.rank + 2, model.model.rank + 2))
    errors = model.model.pose_errors
    for batch in model.band.batches(index):
        products = gram(model.slices(batch.frame, batch.ctf), batch.data, model.band.team)
        if errors is not None:
            products, _ = marginalise(products, errors.centre[batch.index])
        out[batch.place] = products
    return model.band.sum(out)
