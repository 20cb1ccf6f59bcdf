"""The E-step: from images to the posterior of their latents and contrasts under a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.image_batch import ImageBatch
from solvar.estimation.images import CHUNK
from solvar.estimation.kernels import gram
from solvar.estimation.likelihood import ImagePosterior, image_posterior
from solvar.estimation.pose_errors import MOTIONS, Marginalisation, marginalise
from solvar.parallel import Array

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """The images of a batch as the M-step needs them.

    Attributes
    ----------
    slices : (R, C, n)
        Of all columns, the rigid motions last; where the projector computes.
    first : (R, 1 + r)
        First moments of the coefficients of W = [μ | V], times the weight of the image's pose.
    mixing : (R, C, 1 + r)
        Second moments of all coefficients with those of W, times that weight.
    cross : (6, 1 + r) or None
        Σ E[(δ - centre) ζᵀ] over the particles, δ their pose errors; None where there are none.
    """

    slices: Any
    first: Float64
    mixing: Float64
    cross: Float64 | None = None


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
        # lattices need the room of whatever was looked at before them
        band.shelf.rest()
        self.prepared = band.projector.prepare(model.projected)
        band.shelf.rest()

    def slices(self, frame: Float32, ctf: Float32) -> Any:
        """Slices (B, C, n) of all columns, in memory that the band's next slices use again."""
        return self.band.slices(self.prepared, frame, ctf)

    def batches(self, index: Int64 | None = None, most: int = CHUNK) -> Iterator[ImageBatch]:
        """As `Band.batches`, so many images at a time as buffers of all columns allow."""
        return self.band.batches(index, self.chunk(most))

    def chunk(self, most: int = CHUNK) -> int:
        """How many images at a time that is."""
        return self.band.chunk(self.band.projector.channels(self.prepared), most)

    def posterior(self, products: Float64, ctf_power: Float32) -> ImagePosterior:
        """Posterior from Gram matrices (Q, r + 2, r + 2) of images with CTF powers (Q, S)."""
        if self.model.variance is not None:
            products = products.copy()
            self.model.variance.add_to(products, ctf_power[:, : self.band.k_c + 1])
        return image_posterior(products, self.model.contrast_sd, self.band.team)


def e_step(model: BandModel, batch: ImageBatch) -> tuple[ImagePosterior, ImagePlane]:
    """Posterior of the latents and contrasts of a batch, and what an M-step needs of it.

    Parameters
    ----------
    model : BandModel
    batch : ImageBatch

    Returns
    -------
    ImagePosterior
        Of the B particles.
    ImagePlane
        Its slices last until the next E-step in the same band.
    """
    slices, grouping = model.slices(batch.frame, batch.ctf), batch.grouping
    products, marginalised = _products(model, batch, slices)
    power = batch.ctf_power if grouping is None else batch.ctf_power[grouping.particle]
    found = model.posterior(products, power)
    first, mixing, cross = found.first, found.second, None
    if marginalised is not None:
        mixing = np.concatenate([mixing, marginalised.cross_moment(first, mixing)], axis=1)
    if grouping is not None:
        found, weight = grouping.mixed(found)
        first, mixing = weight[:, None] * first, weight[:, None, None] * mixing
    errors = model.model.pose_errors
    if errors is not None:
        moved = mixing[:, -MOTIONS:].sum(axis=0)
        cross = moved - errors.centre[batch.index_of_poses].T @ first
    if grouping is not None:
        first, mixing = first[grouping.pose], mixing[grouping.pose]
    return found, ImagePlane(slices, first, mixing, cross)


def _products(
    model: BandModel, batch: ImageBatch, slices: Any
) -> tuple[Float64, Marginalisation | None]:
    """Gram matrices (Q, r + 2, r + 2) of the poses of a batch, pose errors integrated out."""
    products = batch.per_pose(gram(slices, batch.data, model.band.team))
    errors = model.model.pose_errors
    if errors is None:
        return products, None
    return marginalise(products, errors.centre[batch.index_of_poses])


def own_products(model: BandModel, index: Int64) -> Iterator[tuple[Int64, Float64]]:
    """Gram matrices of those of the particles `index` that this process owns, batch by batch.

    Pose errors are integrated out; the posterior variance of the model is left out. Of several poses of a
    particle the likeliest one counts.

    Yields
    ------
    (B,) int64
        Where the particles stand among `index`.
    (B, r + 2, r + 2) float64
    """
    for batch in model.batches(index):
        products, _ = _products(model, batch, model.slices(batch.frame, batch.ctf))
        if batch.grouping is not None:
            found = image_posterior(products, model.model.contrast_sd, model.band.team)
            products = products[batch.grouping.likeliest(found.log_likelihood)]
        yield batch.place, products


def gram_matrices(model: BandModel, index: Int64) -> Float64:
    """Those of `own_products`, in their order: (M, r + 2, r + 2)."""
    size = model.model.rank + 2
    out, begun = np.zeros((len(model.band.images.owned(index)), size, size)), 0
    for place, products in own_products(model, index):
        out[begun : begun + len(place)] = products
        begun += len(place)
    return out


def told_by_products(
    model: BandModel, index: Int64, tell: Callable[[Float64], Array]
) -> NDArray[Any]:
    """What Gram matrices (B, r + 2, r + 2) tell of each of the particles `index`, (N, …), at every process.

    Parameters
    ----------
    model : BandModel
    index : (N,) int64
    tell : callable
        From some of `own_products`, or from none, to numbers of each.
    """
    of_none = tell(np.zeros((0, model.model.rank + 2, model.model.rank + 2)))
    told = np.zeros((len(index), *of_none.shape[1:]), of_none.dtype)
    for place, products in own_products(model, index):
        told[place] = tell(products)
    return model.band.sum(told)
