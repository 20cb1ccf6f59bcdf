"""A small band with images drawn from a random smooth model through the projector itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from solvar.estimation.band import Band
from solvar.estimation.image_batch import ImageBatch, frames_of
from solvar.estimation.pixels import MemoryPixels
from solvar.estimation.whitening import in_memory_images
from solvar.imaging import rotations
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.masks import soft_sphere
from solvar.imaging.projector import Projection
from solvar.threads import ThreadTeam

BOX, K_C, COUNT, RANK = 18, 7, 600, 2


def make_band(threads: int = 2, box: int = BOX, interpolation: str = "kaiser") -> Band:
    """Images drawn from a random smooth model through the projector itself."""
    rng = np.random.default_rng(5)
    disc = HalfDisc.of_radius(K_C)
    rotation = rotations.random(COUNT, rng)
    weight = np.sqrt(disc.weight)
    ctf = (weight * rng.uniform(0.2, 1.0, (COUNT, len(disc)))).astype(np.float32)
    noise = rng.standard_normal((2, COUNT, len(disc)))
    data = np.where(disc.weight == 1, noise[0], (noise[0] + 1j * noise[1])).astype(np.complex64)
    power = ctf**2 @ (disc.shell[:, None] == np.arange(K_C + 1))
    pixels = MemoryPixels(data, ctf)
    images = in_memory_images(pixels, rotation, disc, box, 4.0, power.astype(np.float32))
    mask = soft_sphere(box, 0.8 * box)
    made = Band(images, np.arange(COUNT), K_C, mask, Projection(interpolation), ThreadTeam(threads))
    columns = true_columns(made)
    slices = made.projector.project(made.projector.prepare(columns), frames_of(rotation), ctf)
    z = rng.standard_normal((COUNT, RANK))
    pixels.data[:] += slices[:, 0] + np.einsum("br,brn->bn", z, slices[:, 1:])
    return made


def tilted_band(
    rng: np.random.Generator,
    rotation: np.ndarray,
    tilt: np.ndarray,
    strength: float,
    tilt_image: np.ndarray | None = None,
) -> Band:
    """Images of particles, turned by `tilt` (COUNT, 3, 3), of columns so many times the true ones."""
    band, particles = make_band(), len(rotation)
    store, each = band.images.store, COUNT // particles
    z = np.repeat(rng.normal(size=(particles, RANK)), each, axis=0)
    frame = frames_of(np.repeat(rotation, each, axis=0) @ tilt)
    columns = band.projector.prepare(strength * true_columns(band))
    slices = band.projector.project(columns, frame, store.pixels.ctf)
    noise = rng.normal(size=(2, *store.pixels.data.shape))
    store.pixels.data[:] = slices[:, 0] + np.einsum("br,brn->bn", z, slices[:, 1:])
    store.pixels.data[:] += noise[0] + 1j * noise[1]
    store = replace(
        store,
        first=each * np.arange(particles),
        count=np.full(particles, each),
        tilt=tilt,
        tilt_image=tilt_image,
    )
    images = replace(band.images, store=store, rotation=rotation, shift=np.zeros((particles, 3)))
    band.images, band.index = images, np.arange(particles)
    return band


def all_images(band: Band) -> ImageBatch:
    """All of a band's images in one batch."""
    return band.images.batch(band.index, band.disc)


def true_columns(band: Band) -> np.ndarray:
    rng = np.random.default_rng(6)
    axis = np.arange(band.box) - band.box // 2
    radius2 = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    smooth = np.exp(-radius2 / 18)
    grid = np.stack(np.meshgrid(axis, axis, axis))
    waves = [np.cos(np.tensordot(rng.normal(0, 0.5, 3), grid, 1)) for _ in range(3)]
    volumes = np.stack([smooth * wave for wave in waves]) * band.support.mean
    return (volumes * np.array([0.05, 0.04, 0.03])[:, None, None, None]).astype(np.float32)
