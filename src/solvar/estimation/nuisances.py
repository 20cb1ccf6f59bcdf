"""What else could make images of one molecule differ, to first order: columns beside those of the model.

A pose that is off shows a volume that has moved a little, a defocus that is off another transfer function, a
particle in thicker ice a fainter mean, a background that was left a plane over the image. Each is a column
whose coefficient differs from image to image, like a latent. What a component explains beyond these is no
work of theirs. And a component that is a change of the volume has to be seen from its image's own direction:
seen from another particle's, it explains what noise, background and ice share with everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.causes import BACKGROUND, CONTRAST, DEFOCUS, POSE
from solvar.estimation.kernels import gram, on_host
from solvar.estimation.pose_errors import MOTIONS, rigid_motions
from solvar.estimation.whitening import own_exposures, recorded_ctf
from solvar.imaging.fourier import images_to_disc
from solvar.imaging.optics import Optics
from solvar.particles import Exposures, ParticleSet
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """What makes every nuisance's usual coefficient about 1; what it really is, is estimated.

    Degrees and pixels an axis, Å of defocus, contrast, and offset of the grey level in units of the noise.
    """

    degrees: float = 2.0
    pixels: float = 0.5
    defocus: float = 300.0
    contrast: float = 0.15
    offset: float = 0.2


UNITS = Units()
_DEFOCUS_STEP = 25.0
_BATCH_BYTES = 1 << 26
_PARTICLES_AT_A_TIME = 256

NUISANCES = (CONTRAST,) + (POSE,) * MOTIONS + (DEFOCUS,) + (BACKGROUND,) * 3


@dataclass(frozen=True, eq=False)
class HeldOutProducts:
    """Inner products of what is held against N particles.

    Attributes
    ----------
    products : (N, r + K + r + 1, r + K + r + 1) float64
        Of r components, the K nuisances in the order of `NUISANCES`, the components seen from another
        particle's direction, and the data without the mean.
    rank : int
        r.
    """

    products: Float64
    rank: int

    @property
    def components(self) -> Int64:
        """Which columns are the components."""
        return np.arange(self.rank)

    @property
    def turned(self) -> Int64:
        """Which are the components seen from elsewhere."""
        return np.arange(self.rank) + self.rank + len(NUISANCES)

    def nuisances(self, *kinds: str) -> Int64:
        """Which are nuisances of some kinds."""
        place = [number for number, kind in enumerate(NUISANCES) if kind in kinds]
        return np.array(place, np.int64) + self.rank


def products_bytes(rank: int) -> int:
    """Memory of a particle's products."""
    return 8 * (2 * rank + len(NUISANCES) + 1) ** 2


def held_out_products(
    band: Band,
    columns: Float32,
    index: Int64,
    particles: ParticleSet,
    rng: np.random.Generator,
) -> HeldOutProducts:
    """Inner products of components, nuisances and data of some particles, at every process.

    Parameters
    ----------
    band : Band
    columns : (1 + r, l, l, l)
        Mean and components, which may be none.
    index : (N,) int64
        Particles; best ones that took no part in fitting the columns.
    particles : ParticleSet
        What the images are of.
    rng : numpy.random.Generator
        Deals out the other directions.
    """
    rank = len(columns) - 1
    prepared = band.projector.prepare(np.concatenate([columns, _motions(band, columns[0])]))
    mean_alone = band.projector.prepare(columns[:1])
    band.shelf.rest()
    exposures = own_exposures(particles, band.images.processes)
    elsewhere = band.images.rotation[index[rng.permutation(len(index))]]
    planes = _planes(band)
    size = rank + len(NUISANCES) + rank + 1
    out = np.zeros((len(index), size, size))
    pixels = 8 * (size + 1) * len(band.disc)
    for batch in band.batches(index, max(1, _BATCH_BYTES // pixels)):
        slices = np.empty((len(batch.data), size - 1, len(band.disc)), np.complex64)
        ends = np.cumsum([rank, 1, MOTIONS, 1, planes.shape[1], rank])
        parts, contrast, motion, defocus, plane, turned = np.split(slices, ends[:-1], axis=1)
        seen = on_host(band.slices(prepared, batch.frame, batch.ctf))
        mean = seen[:, :1].copy()
        _copy(band.team, (parts, seen[:, 1 : 1 + rank]), (motion, seen[:, 1 + rank :]))
        step = _ctf_step(band, exposures, batch.row, particles.optics)
        defocused = on_host(band.slices(mean_alone, batch.frame, step))
        np.multiply(mean, np.float32(UNITS.contrast), out=contrast)
        group = band.images.store.noise_group[batch.row]
        _copy(band.team, (defocus, defocused), (plane, planes[group]))
        frame = batch.frames(elsewhere[batch.place])
        seen = on_host(band.slices(prepared, frame, batch.ctf))
        _copy(band.team, (turned, seen[:, 1 : 1 + rank]))
        left = batch.data - mean[:, 0]
        out[batch.place] = batch.per_pose(gram(slices, left, band.team))
    return HeldOutProducts(band.sum(out), rank)


def _copy(team: ThreadTeam, *pairs: tuple[Complex64, Complex64]) -> None:
    """Fill arrays (B, …) with others, all of them image by image."""

    def some(first: int, last: int) -> None:
        for target, source in pairs:
            target[first:last] = source[first:last]

    target = pairs[0][0]
    team.over_items(len(target), target[:1].size, some)


def _ctf_step(band: Band, exposures: Exposures, row: Int64, optics: Optics) -> Float32:
    """By how much whitened CTFs (R, n) of the stored images `row` (R,) differ at a unit more of defocus."""
    out = np.empty((len(row), len(band.disc)), np.float32)

    def some(first: int, last: int) -> None:
        here = row[first:last]
        out[first:last] = _ctf_steps(band, exposures.rows(here), here, optics)

    band.team.over_items(len(row), len(band.disc), some)
    return out


def _ctf_steps(band: Band, exposures: Exposures, row: Int64, optics: Optics) -> Float32:
    """`_ctf_step` of some images, whose exposures these are."""
    extent = band.images.store.image_extents
    more, less = (
        recorded_ctf(
            replace(exposures, ctf=exposures.ctf.defocused(step)), optics, band.disc, extent
        )[0]
        for step in (_DEFOCUS_STEP, -_DEFOCUS_STEP)
    )
    scale = band.images.noise.whitening(band.disc)[band.images.store.noise_group[row]]
    slope = (more - less) * (scale * UNITS.defocus / (2 * _DEFOCUS_STEP))
    if band.images.contrast is not None:
        slope *= band.images.contrast[row, None]
    return slope.astype(np.float32)


def _motions(band: Band, mean: Float32) -> Float32:
    """Rigid motions of the mean in the units of this module."""
    unit = [np.deg2rad(UNITS.degrees)] * 3 + [UNITS.pixels / band.images.box] * 3
    return (rigid_motions(mean) * np.reshape(unit, (-1, 1, 1, 1))).astype(np.float32)


def _planes(band: Band) -> Complex64:
    """A constant and two slopes over the image, whitened, (G, 3, n)."""
    box, images = band.images.box, band.images
    y, x = (np.mgrid[:box, :box] - box // 2) * np.float32(2 / box)
    flat = np.stack([np.ones((box, box)), x, y]).astype(np.float32)
    # data are in units of the noise as it is: a spread of pixels that is the noise's own is 1
    whitening = images.noise.whitening(band.disc)
    level = np.sqrt(np.mean(images.noise.power, axis=1)) / box
    seen = images_to_disc(flat, band.disc, 1)[None] * whitening[:, None]
    return (seen * (UNITS.offset * level)[:, None, None]).astype(np.complex64)


def residual_only(products: Float64, columns: Int64) -> Float64:
    """Products (N, c + 2, c + 2) of no mean, some of the columns and the data."""
    chosen = np.append(columns, products.shape[1] - 1)
    out = np.zeros((len(products), len(chosen) + 1, len(chosen) + 1))
    out[:, 1:, 1:] = products[:, chosen][:, :, chosen]
    return out


def integrated_out(
    products: Float64, columns: Int64, factor: Float64, team: ThreadTeam | None = None
) -> Float64:
    """Products without some columns T, whose coefficients ~ N(0, factor·factorᵀ) are integrated out.

    Of the same shape; rows and columns of T mean nothing any more.
    """
    out = np.empty_like(products)

    def some(first: int, last: int) -> None:
        here = products[first:last]
        scaled = np.einsum("nij,jk->nik", here[:, :, columns], factor)
        inner = np.einsum("ji,njk->nik", factor, scaled[:, columns])
        gain = np.linalg.solve(np.eye(len(columns)) + inner, scaled.transpose(0, 2, 1))
        np.subtract(here, scaled @ gain, out=out[first:last])

    (team or ThreadTeam(1)).over_ranges(len(products), _PARTICLES_AT_A_TIME, some)
    return out
