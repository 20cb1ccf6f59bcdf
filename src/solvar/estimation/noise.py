"""The noise of the images: a power per group and shell, first from the corners of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.corners import Corners
from solvar.estimation.normalisation import Normalisation
from solvar.imaging.background import Background
from solvar.imaging.fourier import HalfDisc
from solvar.parallel import OneProcess, Processes
from solvar.particles import ImageStack, ParticleSet

Float64 = NDArray[np.float64]

# Strengths, then backgrounds in the noise of images of one strength, then the noise without them
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Noise that is independent from pixel to pixel in Fourier space, its power a function of the shell.

    Attributes
    ----------
    power : (G, S) float64
        E|ŷ(k)|² of the noise in the unnormalised transform, per group of images (`NoiseGroups`) and shell.
    normalisation : Normalisation or None
        What images are freed from before they are whitened.
    """

    power: Float64
    normalisation: Normalisation | None = None

    def is_same(self, other: NoiseModel) -> bool:
        """Whether another model whitens alike; one that comes back from a checkpoint is another object."""
        return self is other or np.array_equal(self.power, other.power)

    def whitening(self, disc: HalfDisc) -> Float64:
        """√(w / power) at the pixels of a disc, (G, n), w their weight in the half-plane inner product."""
        return np.sqrt(disc.weight / self.power[:, disc.shell])


def estimate_noise(
    particles: ParticleSet,
    stack: ImageStack,
    particle_diameter: float,
    shells: int,
    seed: int,
    processes: Processes | None = None,
) -> NoiseModel:
    """Noise of each group of images from image corners, as it was before images were multiplied by a CTF.

    Parameters
    ----------
    particle_diameter : float
        Diameter in pixels that the corners must keep clear of.
    shells : int
    seed : int
        Chooses the sample of images.
    processes : Processes, optional
        Who share the reading.

    Returns
    -------
    NoiseModel
        Of `shells` shells; 1 for a group without images. Of images without background and of equal strength,
        if they must be made so.
    """
    # at least a tenth of the half diagonal must be left for the corners
    radius = min(particle_diameter / 2, 0.6 * stack.box_size)
    background = Background(stack.box_size, radius)
    corners = Corners(particles, stack, background, seed, processes or OneProcess())
    found: Normalisation | None = None
    for _ in range(_ROUNDS):
        spectra = corners.spectra(found)
        before, power = found, spectra.of_pools()
        if not (np.isfinite(power) & (power > 0)).all():
            # without noise nothing tells what is chance; whoever needs it refuses
            return NoiseModel(spectra.of_groups()[:, :shells])
        found = Normalisation.of(background, corners.pools, corners.looked, power)
        if found.is_nothing() if before is None else found.agrees(before):
            break
    return NoiseModel(spectra.of_groups()[:, :shells], found)
