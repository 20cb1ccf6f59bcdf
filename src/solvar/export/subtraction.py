"""The images of a run without what its model says lies outside a mask.

Of every image is taken, in the grey levels and on the grid of its file, what the microscope made of
(1 - mask)·(μ + V z): with the particle's own latents and contrast, its pose in the run, its CTF, and as
strongly as it was recorded. Noise, background and what the model does not know stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.model_images import ModelImages
from solvar.estimation.noise import estimate_noise
from solvar.estimation.normalisation import Normalisation
from solvar.fitting.start import finest_frequency
from solvar.imaging.masks import is_too_small, mask_diameter, read_mask
from solvar.particles import ImageStack, ParticleSet
from solvar.progress import Step
from solvar.results.run import Run
from solvar.threads import ThreadTeam, prefetched
from solvar.volumes.source import particles_of

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# of the slices of a batch, which are the most that is held
_BATCH_BYTES = 128 << 20
_LARGEST_BATCH = 256
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class Subtraction:
    """What is taken out of the images of a run.

    Attributes
    ----------
    run : Run
    particles : ParticleSet
        The run's N, in its order, at its poses.
    stack : ImageStack
        Their images, as the run read them.
    normalisation : Normalisation or None
        What the run freed them from.
    volumes : (1 + r, L, L, L) float32
        Mean and eigenvolumes outside the mask.
    coefficients : (N, 1 + r) float64
        Of these volumes in an image: contrast and latents, times the probability that it shows a particle.
    k_c : int
        Largest frequency of the model.
    """

    run: Run
    particles: ParticleSet
    stack: ImageStack
    normalisation: Normalisation | None
    volumes: Float32
    coefficients: Float64
    k_c: int

    @classmethod
    def of(cls, run: Run, mask: Path) -> Subtraction:
        """All that the model of a run has outside a mask.

        Raises
        ------
        InputError
            If the mask cannot be used or leaves nothing to do, the run's images have changed, or particles
            have several images.
        """
        volumes = _outside(run, mask)
        particles = particles_of(run)
        particles.exposures.refuse_several("--subtract")
        settings = run.settings
        stack = ImageStack(particles, settings.downsample, run.intensity_factor)
        k_c = finest_frequency(stack, settings.resolution)
        diameter = mask_diameter(run.model.mask)
        noise = estimate_noise(particles, stack, diameter, k_c + 2, settings.seed)
        coefficients = _expected_coefficients(run)
        return cls(run, particles, stack, noise.normalisation, volumes, coefficients, k_c)

    def images(self, index: Int64, step: Step) -> Iterator[Float32]:
        """Images of the particles `index`, all of one size, without it; some at a time.

        Parameters
        ----------
        index : (M,) int64
        step : Step
            Told of every image.

        Yields
        ------
        (b, L, L) float32
            In the order of `index`, as they are on disk otherwise.
        """
        group = int(self.particles.exposures.optics_group[index[0]])
        with ThreadTeam(self.run.settings.threads) as team:
            projection = self.run.settings.projection.on_cpu()
            model = ModelImages(self.volumes, self.k_c, self.particles, group, projection, team)
            size = _batch_size(model)
            parts = [index[start : start + size] for start in range(0, len(index), size)]
            for part, images in zip(parts, prefetched(self.stack.recorded, parts), strict=True):
                level = self._strength(images, part) / self.stack.gain(part)
                images -= model.images(part, self.coefficients[part] * level[:, None])
                yield images
                step.advance(len(part))

    def _strength(self, images: Float32, index: Int64) -> Float64:
        """How strongly images of these particles (B,) were recorded, (B,)."""
        if self.normalisation is None:
            return np.ones(len(index))
        group = self.particles.exposures.optics_group[index]
        return self.normalisation.strength_of(self.stack.brought(images.copy(), index), group)


def _batch_size(model: ModelImages) -> int:
    """How many images are made at a time."""
    pixels = (model.box_size**2 * len(model.volumes)) * np.dtype(np.complex64).itemsize
    return int(np.clip(_BATCH_BYTES // pixels, 1, _LARGEST_BATCH))


def _expected_coefficients(run: Run) -> Float64:
    """Of mean and eigenvolumes in each image by the posterior, (N, 1 + r).

    An image that shows a particle with the probability p is expected to hold p times it.
    """
    known, shown = run.posterior, run.particle_probability
    scale = shown * known.contrast * (-1.0 if run.record["result"]["inverted"] else 1.0)
    return scale[:, None] * np.column_stack([np.ones(len(known.z)), known.z])


def _outside(run: Run, path: Path) -> Float32:
    """Mean and eigenvolumes of a run, (1 + r, L, L, L), outside a mask."""
    model = run.model
    mask = read_mask(path, run.box_size, run.pixel_size_angstrom)
    for part, kept, so in ((1 - mask, "all", "nothing to take out"), (mask, "none", "no particle")):
        if is_too_small(part * model.mask):
            raise InputError(
                f"keeps {kept} of what the mask of the run holds: there would be {so}",
                file=path,
                remedy="pass a mask of the part of the molecule that is to stay",
            )
    return np.concatenate([model.mean[None], _certain(run)]) * (1 - mask)


def _certain(run: Run) -> Float32:
    """Eigenvolumes (r, L, L, L) of a run as far as half-sets are sure of them; all where there are none.

    What is no more than noise in them would be taken out of every image as its latents have it. So components
    that are not told from noise are 0, and the others are weighted voxel by voxel by the share of signal, in
    power, in what halves see of the variance.
    """
    if run.validation is None:
        return run.model.eigenvolumes
    real = run.model.eigenvolumes * run.validation.reliable[:, None, None, None]
    if run.change is None:
        return real.astype(np.float32)
    variance = np.maximum(run.change.variance, 0)
    share = variance**2 / np.maximum(variance**2 + run.change.error**2, _TINY)
    return (share * real).astype(np.float32)
