"""The estimator's only view of the images: whitened, re-centred pixels of the half disc.

Data and CTF of each pixel are divided by the noise amplitude and multiplied by √w, w the pixel's weight
in the half-plane inner product. The noise then has unit variance per real number and every inner product
is a plain sum: no weight and no σ² appears anywhere below this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.finite import require_finite_images
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc, images_to_disc
from solvar.imaging.noise import corner_window, ring_power
from solvar.particles import ImageStack, ParticleSet
from solvar.progress import Progress
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 512
# The spectrum is a mean over rings: a few hundred images a group fix it to better than 1 %
_NOISE_SAMPLE = 1000


@dataclass(frozen=True, eq=False)
class WhitenedImages:
    """Whitened half-disc pixels of N particles.

    Attributes
    ----------
    disc : HalfDisc
        n pixels up to the finest level; a coarser level uses the first ones.
    box : int
        Edge of the images in pixels.
    pixel_size_angstrom : float
    data : (N, n) complex64
    ctf : (N, n) float32
    ctf_power : (N, k_c + 1) float32
        Σ ctf² over the pixels of each shell: what an image says about a shell.
    rotation : (N, 3, 3) float32
    """

    disc: HalfDisc
    box: int
    pixel_size_angstrom: float
    data: Complex64
    ctf: Float32
    ctf_power: Float32
    rotation: Float32

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, index: Int64, pixels: int) -> tuple[Complex64, Float32, Float32]:
        """Data (B, pixels), CTF (B, pixels) and rotation (B, 3, 3) of the particles `index`."""
        return self.data[index, :pixels], self.ctf[index, :pixels], self.rotation[index]


def estimate_noise(
    particles: ParticleSet, stack: ImageStack, particle_diameter: float, shells: int, seed: int
) -> Float64:
    """Noise power per optics group and shell from image corners.

    Parameters
    ----------
    particle_diameter : float
        Diameter in pixels that the corners must keep clear of.
    shells : int
    seed : int
        Chooses the sample of images.

    Returns
    -------
    (G, shells) float64
        E|ŷ(k)|² of the noise in the unnormalised transform.
    """
    rng = np.random.default_rng(seed)
    # at least a tenth of the half diagonal must be left for the corners
    radius = min(particle_diameter / 2, 0.6 * stack.box_size)
    window = corner_window(stack.box_size, radius)
    power = np.empty((len(particles.optics.name), shells))
    for group in range(len(power)):
        members = np.flatnonzero(particles.optics_group == group)
        if len(members) == 0:
            power[group] = 1.0
            continue
        sample = np.sort(rng.permutation(members)[:_NOISE_SAMPLE])
        power[group] = ring_power(stack.read(sample), window, shells)
    return power


def whiten(
    particles: ParticleSet,
    stack: ImageStack,
    noise_power: Float64,
    disc: HalfDisc,
    progress: Progress,
    team: ThreadTeam,
) -> WhitenedImages:
    """Read every image once and keep its whitened, re-centred half disc.

    Parameters
    ----------
    noise_power : (G, S) float64
        As of `estimate_noise`, S > k_c.
    disc : HalfDisc
        Pixels to keep.
    """
    count, pixels = len(particles), len(disc)
    data = np.empty((count, pixels), dtype=np.complex64)
    ctf = np.empty((count, pixels), dtype=np.float32)
    ctf_power = np.empty((count, disc.k_c + 1), dtype=np.float32)
    in_shell = (disc.shell[:, None] == np.arange(disc.k_c + 1)).astype(np.float32)
    extent = stack.box_size * stack.pixel_size_angstrom
    scale = np.sqrt(disc.weight / noise_power[:, disc.shell])
    with progress.step("Reading and whitening images", count) as step:
        for first in range(0, count, _CHUNK):
            index = np.arange(first, min(first + _CHUNK, count))
            some = particles.select(index)
            factor = scale[some.optics_group]
            pixel = images_to_disc(stack.read(index), disc, team.size)
            data[index] = pixel * centring_phase(disc, some.poses.shift_angstrom / extent) * factor
            ctf[index] = factor * evaluate_ctf(
                disc.kx, disc.ky, extent, some.ctf, some.optics, some.optics_group
            )
            ctf_power[index] = ctf[index] ** 2 @ in_shell
            require_finite_images(data[first : first + len(index)], some)
            step.advance(len(index))
    return WhitenedImages(
        disc=disc,
        box=stack.box_size,
        pixel_size_angstrom=stack.pixel_size_angstrom,
        data=data,
        ctf=ctf,
        ctf_power=ctf_power,
        rotation=particles.poses.rotation.astype(np.float32),
    )


def centring_phase(disc: HalfDisc, shift: Float64) -> Complex64:
    """exp(-2πi k·t): moves the content of an image by t, (B, 2) in box lengths -> (B, n)."""
    # one table a row of frequencies and a product instead of B·n exponentials
    frequency = np.arange(-disc.k_c, disc.k_c + 1)
    along_x = np.exp(-2j * np.pi * shift[:, :1] * frequency).astype(np.complex64)
    along_y = np.exp(-2j * np.pi * shift[:, 1:] * frequency).astype(np.complex64)
    # take, unlike an index, leaves each image's pixels together in memory
    along_x = np.take(along_x, disc.kx + disc.k_c, axis=1)
    along_x *= np.take(along_y, disc.ky + disc.k_c, axis=1)
    return along_x
