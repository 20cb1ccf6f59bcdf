"""The noise of the images: a power per optics group and shell, first from the corners of a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.noise import background_power, corner_window, ring_means, ring_power
from solvar.parallel import OneProcess, Processes
from solvar.particles import ImageStack, ParticleSet

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The spectrum is a mean over rings: a few hundred images a group fix it to better than 1 %
_SAMPLE = 1000
_CHUNK = 100


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Noise that is independent from pixel to pixel in Fourier space, its power a function of the shell.

    Attributes
    ----------
    power : (G, S) float64
        E|ŷ(k)|² of the noise in the unnormalised transform, per optics group and shell.
    """

    power: Float64

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
    """Noise of each optics group from image corners, as it was before images were multiplied by a CTF.

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
        Of `shells` shells; 1 for a group without images.
    """
    processes = processes or OneProcess()
    rng = np.random.default_rng(seed)
    # at least a tenth of the half diagonal must be left for the corners
    radius = min(particle_diameter / 2, 0.6 * stack.box_size)
    window = corner_window(stack.box_size, radius)
    premultiplied = particles.optics.premultiplied
    noise = np.empty((len(particles.optics.name), shells))
    for group in range(len(noise)):
        members = np.flatnonzero(particles.exposures.optics_group == group)
        if len(members) == 0:
            noise[group] = 1.0
            continue
        sample = np.sort(rng.permutation(members)[:_SAMPLE])
        multiplied = premultiplied is not None and premultiplied[group]
        power = np.zeros((stack.box_size, stack.box_size))
        transfer = np.zeros_like(power)
        own = sample[processes.rank :: processes.size]
        for first in range(0, len(own), _CHUNK):
            images = own[first : first + _CHUNK]
            power += background_power(stack.read(images), window)
            if multiplied:
                transfer += _ctf_power(particles, stack, images)
        passed = ring_means(processes.sum(transfer) / len(sample)) if multiplied else None
        noise[group] = ring_power(processes.sum(power) / len(sample), window, shells, passed)
    return NoiseModel(noise)


def _ctf_power(particles: ParticleSet, stack: ImageStack, images: Int64) -> Float64:
    """Summed C² of some images at every pixel of their transform, (L, L) in the order of `fft2`."""
    box = stack.box_size
    frequency = np.rint(np.fft.fftfreq(box, 1 / box)).astype(np.int64)
    ky, kx = (axis.ravel() for axis in np.meshgrid(frequency, frequency, indexing="ij"))
    some = particles.exposures.rows(images)
    ctf = evaluate_ctf(kx, ky, stack.extent_angstrom, some.ctf, particles.optics, some.optics_group)
    return np.sum(ctf**2, axis=0).reshape(box, box)
