"""Half-maps of chosen particles, and what they agree about that the choice did not put there.

Particles are chosen by their latents, and a latent is partly the noise of its own image: of pure noise, those
images are taken whose noise looks like V z*. Both halves look at the same V, so their plain averages agree on
it, and their FSC is high without any signal. What an image says inside the span of its own model views C P V
is all that the choice has seen of it. The FSC is therefore taken of *blind* half-maps, from images without
this part:

    y - A (AᵀA)⁻¹ Aᵀ (y - a C P μ),   A = C P V

They hold what the images say about the mean and about everything that the model lacks, in the particles of
this state, and nothing about V itself, which these halves cannot test: the run's own half-sets do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.back_projection import BackProjection
from solvar.estimation.image_batch import ImageBatch
from solvar.estimation.information import sampling_information
from solvar.estimation.kernels import gram, on_host
from solvar.imaging.fourier import crop_volume, fourier_filter
from solvar.imaging.fsc import half_map_fsc, masked_fsc
from solvar.volumes.source import Source
from solvar.volumes.volume import Halves

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# next to nothing, relative to the mean information: keeps empty corners of Fourier space at 0
_WEAK = 1e-3
_RIDGE = 1e-6


class HalfMaps:
    """Makes half-maps of a run's images.

    Parameters
    ----------
    source : Source
    contrast : (N,)
    """

    def __init__(self, source: Source, contrast: Float64) -> None:
        self._source, self._contrast = source, contrast
        self._band = source.band(np.arange(len(contrast)))
        volumes = np.concatenate([source.mean[None], source.columns])
        self._prepared = self._band.projector.prepare(crop_volume(volumes, self._band.box))

    def make(self, halves: Sequence[Int64]) -> Halves:
        """Half-maps of two sets of particles and what they agree about."""
        pairs = np.stack([self._half(index) for index in halves])
        plain, blind = pairs[:, 0], pairs[:, 1]
        mask, shells = self._source.mask, self._band.k_c + 1
        plain_fsc = masked_fsc(plain[0], plain[1], mask, shells)
        return Halves(plain, blind, plain_fsc, half_map_fsc(blind, mask, shells))

    def _half(self, index: Int64) -> Float32:
        """Plain and blind average of some particles, (2, L, L, L)."""
        band, images = self._band, self._source.images
        total = BackProjection(band.projector, 2)
        for batch in band.batches(index):
            slices = on_host(band.slices(self._prepared, batch.frame, batch.ctf))
            blind = batch.data - self._explained(slices, batch)
            pair = np.stack([batch.data, blind], axis=1)
            total.add(pair, batch.frame, batch.ctf)
        sums = band.sum(total.sum())
        known = sampling_information(images, index, band.k_c, band.team)
        information = known.on_grid(band.box, band.k_c)
        weak = np.full(band.k_c + 1, _WEAK * float(information.mean()))
        response = 1 / (np.float32(band.box**3) * (information + band.expand(weak)))
        maps = np.stack([fourier_filter(each, response.astype(np.float32)) for each in sums])
        return crop_volume(maps, images.box)

    def _explained(self, slices: Complex64, batch: ImageBatch) -> Complex64:
        """A (AᵀA)⁻¹ Aᵀ (y - a C P μ) of the images of a batch, (R, n); those of a particle together."""
        products = batch.per_pose(gram(slices, batch.data, self._band.team))
        inner, cross = products[:, 1:-1, 1:-1], products[:, 1:-1, -1]
        cross = cross - self._contrast[batch.index, None] * products[:, 1:-1, 0]
        size = np.trace(inner, axis1=1, axis2=2)[:, None, None] / max(inner.shape[1], 1)
        # a column that an image does not see at all explains nothing of it
        ridge = (_RIDGE * size + np.finfo(np.float64).tiny) * np.eye(inner.shape[1])
        weight = np.linalg.solve(inner + ridge, cross[..., None])[..., 0]
        weight = batch.per_image(weight).astype(np.float32)
        parts = np.ascontiguousarray(slices[:, 1:]).view(np.float32)
        return np.matmul(weight[:, None], parts)[:, 0].view(np.complex64)
