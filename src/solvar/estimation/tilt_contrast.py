"""Contrast of the exposures of tilt series, in the heterogeneous model.

What a file says of the strength of an exposure, the cosine of its tilt or a scale, leaves out how thick the
specimen is there, and how its image was normalised. Each exposure has a factor f on the CTFs of its images,
f ~ N(m, σ²) with m and σ estimated (EM). With what images are expected to show, ŷ, at the present factors,

    score Σ E⟨ŷ, y⟩ / f,    curvature Σ E⟨ŷ, ŷ⟩ / f²

over the images of an exposure, expectations under the posterior of latents and contrasts of the particles. A
factor of all images is one of the volumes: the mean of the factors over images is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.e_step import BandModel, e_step
from solvar.estimation.kernels import gram
from solvar.estimation.posterior import TiltContrast
from solvar.particles import ParticleSet
from solvar.particles.exposures import Exposures

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_FIRST_SPREAD, _SMALLEST_SPREAD = 0.3, 1e-4
_SMALLEST = 0.05
_EM_STEPS = 50


def exposures_of_contrast(exposures: Exposures) -> Int64 | None:
    """Which images (M,) share a factor: those of an exposure, or of the same number in the order of dose.

    None where neither is known.
    """
    if exposures.tilt is None:
        return None
    return exposures.number if exposures.tilt_image is None else exposures.tilt_image


@dataclass(frozen=True, eq=False)
class ToldOfContrasts:
    """What images tell of the factors of K exposures: ΣE⟨ŷ, y⟩ and ΣE⟨ŷ, ŷ⟩, (K,) each."""

    overlap: Float64
    power: Float64

    def __add__(self, other: ToldOfContrasts) -> ToldOfContrasts:
        return ToldOfContrasts(self.overlap + other.overlap, self.power + other.power)


@dataclass(frozen=True, eq=False)
class TiltContrasts:
    """Factors of the K exposures of tilt series on what the file says of their strength.

    Attributes
    ----------
    factor : (K,) float64
    spread : float
        Standard deviation that is expected of them before an image is looked at.
    """

    factor: Float64
    spread: float = _FIRST_SPREAD

    @classmethod
    def none(cls, exposures: Exposures) -> TiltContrasts:
        """Of some images, nothing known yet."""
        number = exposures_of_contrast(exposures)
        assert number is not None
        return cls(np.ones(int(number.max()) + 1))

    def renewed(self, told: ToldOfContrasts, images: Int64) -> tuple[TiltContrasts, float]:
        """The likeliest factors, and what volumes are to be multiplied by besides.

        Parameters
        ----------
        told : ToldOfContrasts
            At these factors.
        images : (K,)
            How many images each exposure has.
        """
        score, curvature = told.overlap / self.factor, told.power / self.factor**2
        seen = curvature > 0
        spread, centre = self.spread, 1.0
        for _ in range(_EM_STEPS):
            precision = curvature + spread**-2
            mean = (score + centre * spread**-2) / precision
            centre = float(mean[seen].mean()) if seen.any() else 1.0
            square = (mean - centre) ** 2 + 1 / precision
            spread = float(np.sqrt(square[seen].mean())) if seen.any() else self.spread
            spread = max(spread, _SMALLEST_SPREAD)
        factor = np.maximum(mean, _SMALLEST)
        scale = float(images @ factor / images.sum())
        return replace(self, factor=factor / scale, spread=spread / scale), scale

    def report(self, particles: ParticleSet) -> tuple[ParticleSet, TiltContrast]:
        """The particles whose images have these factors in their CTFs, and what these are."""
        number = exposures_of_contrast(particles.exposures)
        assert number is not None
        each = self.factor[number]
        exposures = particles.exposures.strengthened(each)
        return replace(particles, exposures=exposures), TiltContrast(each, self.spread)


def told_of_contrasts(
    model: BandModel, index: Int64, exposure: Int64, count: int
) -> ToldOfContrasts:
    """What the images of some particles, of all processes, tell of the factors of K exposures.

    Parameters
    ----------
    model : BandModel
        Without pose errors, of a band of images at their present factors.
    index : (N,) int64
        Particles; best ones that the model was not fitted to.
    exposure : (M,) int64
        Of each stored image.
    count : int
        K.
    """
    band = model.band
    overlap, power = np.zeros(count), np.zeros(count)
    for batch in band.batches(index):
        _, plane = e_step(model, batch)
        products = gram(plane.slices, batch.data, band.team)
        number = exposure[batch.row]
        np.add.at(overlap, number, np.sum(plane.first * products[:, :-1, -1], axis=1))
        np.add.at(power, number, np.sum(plane.mixing * products[:, :-1, :-1], axis=(1, 2)))
    return ToldOfContrasts(band.sum(overlap), band.sum(power))
