"""Shifts of the images of tilt series, in the heterogeneous model.

Tilt images are aligned by their fiducials, or by all that they show, to about a pixel. What is left shows in
the particles: the images that were cut from one exposure are off by the same shift, of which all their
particles tell together. Where nobody says which images these are, each has a shift of its own, of which only
its particle tells. Shifts s are drawn from a Gaussian whose width is estimated (EM).

At the posterior mean ŷ of what the images of a particle are expected to show, J = 2πi k ŷ and y their pixels,

    gradient Σ Re⟨J, y⟩,    curvature Σ Re⟨J, J⟩

over the images of an exposure. Steps do not overshoot: curvature is that of a shift that is almost right, and
less is true of others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.image_batch import ImageBatch
from solvar.estimation.images import WhitenedImages
from solvar.estimation.kernels import on_host
from solvar.estimation.poses.objective import PosedImages
from solvar.estimation.posterior import TiltRefinement
from solvar.particles import ParticleSet
from solvar.particles.exposures import common_moves, ranges, seen_shifts

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# box lengths an axis: about a pixel, and what is as good as none
_FIRST_SPREAD, _SMALLEST_SPREAD = 0.025, 1e-5
_EM_STEPS = 20


@dataclass(frozen=True, eq=False)
class TiltShifts:
    """By how much the K exposures of tilt series are moved beyond the input.

    Attributes
    ----------
    shift : (K, 2) float64
        Box lengths, along x and y of the images.
    spread : float
        Standard deviation that is expected of them before an image is looked at, box lengths an axis.
    """

    shift: Float64
    spread: float = _FIRST_SPREAD

    @classmethod
    def none(cls, count: int) -> TiltShifts:
        """Of K exposures, nothing known yet."""
        return cls(np.zeros((count, 2)))

    def report(
        self, particles: ParticleSet, images: WhitenedImages
    ) -> tuple[ParticleSet, TiltRefinement]:
        """The particles whose images have these shifts of their own, and what was done to them."""
        exposures, store = particles.exposures, images.store
        number = exposures.tilt_image
        each = self.shift if number is None else self.shift[number]
        moved = each * store.shift_unit(exposures.optics_group)
        own = moved if exposures.shift_angstrom is None else exposures.shift_angstrom + moved
        refinement = TiltRefinement(moved, self.spread * store.extent_angstrom)
        return replace(particles, exposures=replace(exposures, shift_angstrom=own)), refinement

    def moved(self, told: ToldOfTilts) -> TiltShifts:
        """The likeliest shifts, and the width under which the images are likeliest."""
        score = told.gradient + np.einsum("kij,kj->ki", told.curvature, self.shift)
        seen = np.einsum("kii->k", told.curvature) > 0
        spread = self.spread
        for _ in range(_EM_STEPS):
            known = np.linalg.inv(told.curvature + np.eye(2) / spread**2)
            mean = np.einsum("kij,kj->ki", known, score)
            square = np.sum(mean**2, axis=1) + np.einsum("kii->k", known)
            spread = max(float(np.sqrt(0.5 * square[seen].mean())), _SMALLEST_SPREAD)
        return replace(self, shift=mean, spread=spread)

    def without_moves(self, images: WhitenedImages) -> tuple[TiltShifts, Float64]:
        """Without what moves of the particles explain as well, and these moves (N, 3), box lengths.

        A particle's own shift moves all of its images by what is seen of it. What is left of the shifts is
        averaged over the particles of an exposure.
        """
        store = images.store
        assert store.tilt is not None and store.tilt_image is not None
        own = np.flatnonzero(store.first >= 0)
        count = np.ones(len(own), np.int64) if store.count is None else store.count[own]
        row, particle = ranges(store.first[own], count), np.repeat(np.arange(len(own)), count)
        tilt, number = store.tilt[row], store.tilt_image[row]
        move = common_moves(self.shift[number], tilt, particle, len(own))
        left = self.shift[number] - seen_shifts(move[particle], tilt)
        total, seen = np.zeros_like(self.shift), np.zeros(len(self.shift))
        np.add.at(total, number, left)
        np.add.at(seen, number, 1.0)
        total, seen = images.processes.sum(total), images.processes.sum(seen)
        moves = np.zeros((len(images), 3))
        moves[own] = move
        found = total / np.maximum(seen, 1)[:, None]
        return replace(self, shift=found), images.processes.sum(moves)


@dataclass(frozen=True, eq=False)
class ToldOfTilts:
    """What images tell of the shifts of K exposures: gradient (K, 2) and curvature (K, 2, 2)."""

    gradient: Float64
    curvature: Float64

    def __add__(self, other: ToldOfTilts) -> ToldOfTilts:
        return ToldOfTilts(self.gradient + other.gradient, self.curvature + other.curvature)

    def trusted(self, trust: float) -> ToldOfTilts:
        """The same, log-likelihoods counting for so much."""
        return ToldOfTilts(trust * self.gradient, trust * self.curvature)


def told_of_tilts(band: Band, model: ColumnModel, count: int) -> ToldOfTilts:
    """What the images of a band's particles tell of the shifts of K exposures.

    Parameters
    ----------
    band : Band
        Of images at their present poses and shifts.
    model : ColumnModel
        On the band's grid, of other particles.
    count : int
        K.
    """
    number = band.images.store.tilt_image
    assert number is not None
    prepared = BandModel(band, model)
    gradient, curvature = np.zeros((count, 2)), np.zeros((count, 2, 2))
    for batch in prepared.batches():
        batch.refuse_uncertain("refinement of tilts")
        each_gradient, each_curvature = _of_images(prepared, batch)
        np.add.at(gradient, number[batch.row], each_gradient)
        np.add.at(curvature, number[batch.row], each_curvature)
    return ToldOfTilts(band.sum(gradient), band.sum(curvature))


def _of_images(model: BandModel, batch: ImageBatch) -> tuple[Float64, Float64]:
    """Gradients (R, 2) and curvatures (R, 2, 2) of the images of a batch, each by itself."""
    plane = PosedImages.of(model, batch, batch.data, batch.frame)
    mean = batch.per_image(plane.found.first).astype(np.float32)
    expected = np.matmul(mean[:, None], on_host(plane.slices))[:, 0]
    disc = model.band.disc
    wave = 2 * np.pi * np.stack([disc.kx, disc.ky]).astype(np.float64)
    gradient = (expected.conj() * batch.data).imag @ wave.T
    power = expected.real**2 + expected.imag**2
    products = (wave[:, None] * wave[None]).reshape(4, -1)
    return gradient, (power @ products.T).reshape(-1, 2, 2)
