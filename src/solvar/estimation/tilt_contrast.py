"""Contrast of the exposures of tilt series, in the heterogeneous model.

What a file says of the strength of an exposure, the cosine of its tilt or a scale, leaves out how thick the
ice is there, and how its image was normalised. Each exposure has a contrast f, by which the CTFs of its
images are multiplied, f ~ N(m, σ²) with m and σ estimated (EM). With what images are expected to show, ŷ, at
the present contrasts,

    score Σ E⟨ŷ, y⟩ / f,    curvature Σ E⟨ŷ, ŷ⟩ / f²

over the images of an exposure, expectations under the posterior of latents and contrasts of the particles. A
factor that all exposures share is one of the volumes: the mean contrast is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.e_step import BandModel, e_step
from solvar.estimation.kernels import gram
from solvar.particles import ParticleSet

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_FIRST_SPREAD, _SMALLEST_SPREAD = 0.3, 1e-4
_SMALLEST = 0.05
_EM_STEPS = 50


@dataclass(frozen=True, eq=False)
class TiltContrasts:
    """Contrasts of the K exposures of tilt series, beyond what their file says.

    Attributes
    ----------
    value : (K,) float64
    error : (K,) float64
        Posterior standard deviation.
    spread : float
        Standard deviation that is expected of them before an image is looked at.
    """

    value: Float64
    error: Float64
    spread: float = _FIRST_SPREAD

    @classmethod
    def none(cls, count: int) -> TiltContrasts:
        """Of K exposures, nothing known yet."""
        return cls(np.ones(count), np.full(count, _FIRST_SPREAD))

    def renewed(self, told: ToldOfContrasts) -> TiltContrasts:
        """The likeliest contrasts, and the width under which the images are likeliest."""
        score, curvature = told.overlap / self.value, told.power / self.value**2
        seen = curvature > 0
        spread, centre = self.spread, 1.0
        for _ in range(_EM_STEPS):
            variance = 1 / (curvature + spread**-2)
            mean = variance * (score + centre * spread**-2)
            centre = float(mean[seen].mean())
            square = (mean - centre) ** 2 + variance
            spread = max(float(np.sqrt(square[seen].mean())), _SMALLEST_SPREAD)
        value = np.maximum(mean / centre, _SMALLEST)
        return TiltContrasts(value, np.sqrt(variance) / centre, spread / centre)

    def given_to(self, particles: ParticleSet) -> ParticleSet:
        """The particles, their images with these contrasts."""
        images = particles.exposures
        assert images.tilt_image is not None
        contrast = self.value[images.tilt_image]
        return replace(particles, exposures=replace(images, contrast=contrast))

    def summary(self) -> dict[str, float]:
        """Spread over the exposures and the prior's width, ready for JSON."""
        return {"sd": float(self.value.std()), "prior_sd": self.spread}


@dataclass(frozen=True, eq=False)
class ToldOfContrasts:
    """What images tell of the contrasts of K exposures: ΣE⟨ŷ, y⟩ and ΣE⟨ŷ, ŷ⟩, (K,) each."""

    overlap: Float64
    power: Float64

    def __add__(self, other: ToldOfContrasts) -> ToldOfContrasts:
        return ToldOfContrasts(self.overlap + other.overlap, self.power + other.power)


def told_of_contrasts(model: BandModel, index: Int64, count: int) -> ToldOfContrasts:
    """What the images of some particles, of all processes, tell of the contrasts of K exposures.

    Parameters
    ----------
    model : BandModel
        Without pose errors, of images at their present contrasts.
    index : (N,) int64
        Particles; best ones that the model was not fitted to.
    count : int
        K.
    """
    band = model.band
    number = band.images.store.tilt_image
    assert number is not None
    overlap, power = np.zeros(count), np.zeros(count)
    for batch in band.batches(index):
        _, plane = e_step(model, batch)
        products = gram(plane.slices, batch.data, band.team)
        exposure = number[batch.row]
        np.add.at(overlap, exposure, np.sum(plane.first * products[:, :-1, -1], axis=1))
        np.add.at(power, exposure, np.sum(plane.mixing * products[:, :-1, :-1], axis=(1, 2)))
    return ToldOfContrasts(band.sum(overlap), band.sum(power))
