"""Contrast of the exposures of tilt series, in the heterogeneous model.

What a file says of the strength of an exposure, the cosine of its tilt or a scale, leaves out how thick the
ice is there, and how its image was normalised. Each exposure has a contrast f, by which the CTFs of its
images are multiplied, f ~ N(m, σ²) with m and σ estimated (EM). With what images are expected to show, ŷ, at
the present contrasts,

    score Σ E⟨ŷ, y⟩ / f,    curvature Σ E⟨ŷ, ŷ⟩ / f²

over the images of an exposure, expectations under the posterior of latents and contrasts of the particles.
What the particles of a tilt series have in common of contrast beyond 1 is that of its exposures, to which it
goes at once (parameter-expanded EM, Liu, Rubin & Wu 1998), for EM alone is slow between the two.
A factor that all exposures share is one of the volumes: the mean contrast is 1.
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

# of contrasts at first, and what is as good as none
_FIRST_SPREAD, _SMALLEST_SPREAD = 0.3, 1e-4
# noise alone is taken for no contrast below 0, nor 0, by which nothing could be divided
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

    def renewed(self, told: ToldOfContrasts, series: Int64) -> TiltContrasts:
        """The likeliest contrasts, and the width under which the images are likeliest.

        Parameters
        ----------
        told : ToldOfContrasts
            At these contrasts.
        series : (K,)
            Tilt series of each exposure.
        """
        common, uncertain = told.common(series)
        present = self.value * common
        score, curvature = told.overlap / present, told.power / present**2
        seen = curvature > 0
        spread, centre = self.spread, 1.0
        for _ in range(_EM_STEPS):
            variance = 1 / (curvature + spread**-2)
            mean = variance * (score + centre * spread**-2)
            centre = float(mean[seen].mean())
            square = (mean - centre) ** 2 + variance
            spread = max(float(np.sqrt(square[seen].mean())), _SMALLEST_SPREAD)
        value = np.maximum(mean / centre, _SMALLEST)
        error = np.sqrt(variance / centre**2 + value**2 * uncertain)
        return TiltContrasts(value, error, spread / centre)

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
    """What images tell of the contrasts of K exposures.

    Attributes
    ----------
    overlap, power : (K,) float64
        ΣE⟨ŷ, y⟩ and ΣE⟨ŷ, ŷ⟩ over the images of an exposure.
    particles, contrast, contrast_square : (K,) float64
        How many particles they show, by weight, and sums over these of E[a] and E[a²], a their contrast.
    """

    overlap: Float64
    power: Float64
    particles: Float64
    contrast: Float64
    contrast_square: Float64

    def __add__(self, other: ToldOfContrasts) -> ToldOfContrasts:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return ToldOfContrasts(*(one + two for one, two in pairs))

    def common(self, series: Int64) -> tuple[Float64, Float64]:
        """Mean contrast of the particles of each exposure's tilt series (K,), and its relative variance.

        1 and 0 where none is seen.
        """
        exposures = (self.particles > 0).astype(np.float64)
        sums = exposures, self.particles, self.contrast, self.contrast_square
        several, count, total, square = (np.bincount(series, values)[series] for values in sums)
        known, count = count > 0, np.where(count > 0, count, 1)
        mean = np.where(known, total, 1) / count
        spread = np.where(known, np.maximum(square / count - mean**2, 0), 0)
        # every particle is in the sums as often as it has images
        return mean, spread * several / count / mean**2


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
    total = np.zeros((5, count))
    for batch in model.batches(index):
        found, plane = e_step(model, batch)
        products = gram(plane.slices, batch.data, band.team)
        weight = np.ones(len(batch)) if batch.weight is None else batch.weight
        of_images = (
            np.sum(plane.first * products[:, :-1, -1], axis=1),
            np.sum(plane.mixing * products[:, :-1, :-1], axis=(1, 2)),
            batch.per_image(weight),
            batch.per_image(weight * found.contrast),
            batch.per_image(weight * found.contrast_square),
        )
        for sums, values in zip(total, of_images, strict=True):
            np.add.at(sums, number[batch.row], values)
    return ToldOfContrasts(*band.sum(total))
