"""Σ Pᵀ C² P of a band's images, for normal equations of one volume: slice by slice, or as a convolution.

To project a volume and to back-project it blurs it by what the images make of a point: a convolution,
whatever poses and CTFs are, but for the projector's interpolation. The blurred point is one back-projection
of all images, and every step after it costs FFTs alone; slices cost as much as two at every step
(docs/decisions/0034).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.back_projection import BackProjection
from solvar.estimation.band import Band
from solvar.estimation.image_batch import ImageBatch

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Operator = Callable[[Float32], Float32]


def back_projected(band: Band) -> tuple[Float32, Operator]:
    """Σ Pᵀ C y (L, L, L), and v -> Σ Pᵀ C² P v, of a band's images, which are read once for both."""
    data = BackProjection(band.projector, 1)
    spread = PointSpread(band) if _pays(band) else None
    for batch in band.batches():
        data.add(batch.weighted(batch.data)[:, None], batch.frame, batch.ctf)
        if spread is not None:
            spread.add(batch)
    normal = Slices(band) if spread is None else spread.convolution()
    return band.sum(data.sum())[0], normal


def _pays(band: Band) -> bool:
    """Whether a convolution is less work than slices: FFTs of 8 L³ points against pixels."""
    images = len(band.index) * band.images.images_a_particle
    return images * len(band.disc) > 2 * band.box**3


class Slices:
    """The normal operator by slices of every image, (L, L, L) -> (L, L, L)."""

    def __init__(self, band: Band) -> None:
        self._band = band

    def __call__(self, volume: Float32) -> Float32:
        band = self._band
        prepared = band.projector.prepare(volume[None])
        total = BackProjection(band.projector, 1)
        for batch in band.batches():
            slices = band.slices(prepared, batch.frame, batch.ctf)
            # weights go to the CTF: slices may lie on a device
            total.add(slices, batch.frame, batch.weighted(batch.ctf))
        return band.sum(total.sum())[0]


class PointSpread:
    """What images make of a point, summed up batch by batch, as far as two voxels can be apart."""

    def __init__(self, band: Band) -> None:
        import scipy.fft

        self._band = band
        self._edge = scipy.fft.next_fast_len(2 * band.box, real=True)
        self._finer = np.float32(self._edge / band.box)
        self._total = BackProjection(band.projector_in(self._edge), 1)

    def add(self, batch: ImageBatch) -> None:
        """Add the images of a batch."""
        point = batch.ctf[:, None].astype(np.complex64)
        self._total.add(point, self._finer * batch.frame, batch.weighted(batch.ctf))

    def convolution(self) -> Convolution:
        """The normal operator; nothing can be added after it."""
        import scipy.fft

        band = self._band
        spread = scipy.fft.ifftshift(band.sum(self._total.sum())[0])
        del self._total
        transfer = scipy.fft.rfftn(spread, workers=band.team.size, overwrite_x=True).real
        return Convolution(band, band.shelf.keep(np.ascontiguousarray(transfer)))


class Convolution:
    """The normal operator as a convolution, (L, L, L) -> (L, L, L).

    Parameters
    ----------
    band : Band
    transfer : (M, M, M // 2 + 1) float32
        Transform of the blurred point, M ≥ 2 L.
    """

    def __init__(self, band: Band, transfer: Float32) -> None:
        self._box, self._workers, self._transfer = band.box, band.team.size, transfer

    def __call__(self, volume: Float32) -> Float32:
        import scipy.fft

        edge, box, workers = len(self._transfer), self._box, self._workers
        # axis by axis: what is 0, or not asked for, is not transformed
        found = scipy.fft.rfft(volume, edge, axis=2, workers=workers)
        for axis in (1, 0):
            found = scipy.fft.fft(found, edge, axis=axis, workers=workers)
        found *= self._transfer
        for axis in (0, 1):
            found = scipy.fft.ifft(found, axis=axis, workers=workers, overwrite_x=True)
            found = found[:box] if axis == 0 else found[:, :box]
        found = scipy.fft.irfft(found, edge, axis=2, workers=workers)[..., :box]
        return np.ascontiguousarray(found)
