"""The Cramér-Rao bound of poses: how well the noise lets anybody know them.

The object is the true mean at the true pose: the Fisher information of rotation and shift in the images of
it, with the contrast, and the latents of the true eigenvolumes if asked for, free within their prior. That of
the images of a particle that was tilted adds up.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.images import WhitenedImages
from solvar.estimation.noise import NoiseModel
from solvar.estimation.pixels import MemoryPixels
from solvar.estimation.poses.objective import derivatives_of
from solvar.estimation.whitening import in_memory_images
from solvar.evaluation.truth import Truth
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc, crop_volume
from solvar.imaging.projector import Projection
from solvar.particles import ParticleSet
from solvar.threads import ThreadTeam

Float64 = NDArray[np.float64]

# particles that are looked at, and of those that were tilted about so many images
_SAMPLE, _IMAGES, _FEWEST = 500, 4000, 50
_DRAWS = 200
_MOST_MODES = 10


def pose_bound(
    particles: ParticleSet, noise_power: Float64, truth: Truth, latents: bool
) -> dict[str, float]:
    """Mean errors that an efficient estimator would have, in the units of `pose_errors`.

    Parameters
    ----------
    particles : ParticleSet
        Optics and CTF; its poses are not used.
    noise_power : (G, k_c + 2) float64
        Noise power per optics group and shell, as the run estimated it.
    truth : Truth
        Of these particles, on the grid of the run; with rotation, mean and contrast.
    latents : bool
        Whether the shape of each particle is unknown, too.

    Returns
    -------
    dict
        out_of_plane_degree, in_plane_degree, shift_angstrom, shift_px (of the images).
    """
    assert truth.rotation is not None and truth.mean is not None
    each = int(particles.exposures.counts().max())
    sample = _SAMPLE if each == 1 else int(np.clip(_IMAGES // each, _FEWEST, _SAMPLE))
    chosen = np.unique(np.linspace(0, len(particles) - 1, sample).astype(int))
    rotation = truth.rotation[chosen]
    disc = HalfDisc.of_radius(noise_power.shape[1] - 2)
    columns = truth.mean[None]
    if latents and truth.eigenvolumes is not None:
        columns = np.concatenate([columns, truth.eigenvolumes[:_MOST_MODES]])
    contrast_sd = 0.0 if truth.contrast is None else float(truth.contrast.std())
    with ThreadTeam() as team:
        images, pixels = _empty_images(particles.select(chosen), noise_power, truth, rotation, disc)
        everybody = np.arange(len(chosen))
        mask = np.ones_like(truth.mean)
        band = Band(images, everybody, disc.k_c, mask, Projection(), team)
        grown = crop_volume(columns.astype(np.float32), band.box)
        model = BandModel(band, ColumnModel(grown, contrast_sd))
        for batch in model.batches():
            pixels.data[batch.row] = model.slices(batch.frame, batch.ctf)[:, 0]
        found = [derivatives_of(model, batch).curvature for batch in model.batches()]
    curvature = np.concatenate(found)
    covariance = np.asarray(np.linalg.inv(curvature), dtype=np.float64)
    return _mean_errors(covariance, rotation, truth)


def _empty_images(
    particles: ParticleSet, noise_power: Float64, truth: Truth, rotation: Float64, disc: HalfDisc
) -> tuple[WhitenedImages, MemoryPixels]:
    """CTFs and poses of images that are yet to be drawn."""
    extent = truth.box_size * truth.pixel_size_angstrom
    factor = NoiseModel(noise_power).whitening(disc)[particles.noise_groups.of_image]
    ctf = evaluate_ctf(
        disc.kx,
        disc.ky,
        extent,
        particles.exposures.ctf,
        particles.optics,
        particles.exposures.optics_group,
    )
    if particles.exposures.contrast is not None:
        ctf *= particles.exposures.contrast[:, None]
    pixels = MemoryPixels(
        np.zeros(ctf.shape, dtype=np.complex64), (factor * ctf).astype(np.float32)
    )
    whitened = in_memory_images(
        pixels,
        rotation,
        disc,
        truth.box_size,
        truth.pixel_size_angstrom,
        np.zeros((len(ctf), disc.k_c + 1), dtype=np.float32),
    )
    images = particles.exposures
    count = images.counts()
    store = replace(
        whitened.store,
        group=np.zeros(len(images), np.int64),
        first=np.cumsum(count) - count,
        count=None if (count == 1).all() else count,
        tilt=images.tilt,
    )
    still = np.zeros((len(particles), images.shift_axes))
    return replace(whitened, store=store, shift=still), pixels


def _mean_errors(covariance: Float64, rotation: Float64, truth: Truth) -> dict[str, float]:
    """Mean absolute errors of Gaussian errors (ω, t) with covariances (B, 3 + d, 3 + d)."""
    # ω turns about the axes of the volume; Rᵀω about those of the image
    axes = covariance.shape[1]
    into = np.tile(np.eye(axes), (len(rotation), 1, 1))
    into[:, :3, :3] = np.swapaxes(rotation, 1, 2)
    root = np.linalg.cholesky(into @ covariance @ np.swapaxes(into, 1, 2))
    normal = np.random.default_rng(0).standard_normal((axes, _DRAWS))
    error = root @ normal
    extent = truth.box_size * truth.pixel_size_angstrom
    shift = np.hypot.reduce(error[:, 3:], axis=1).mean()
    return {
        "out_of_plane_degree": float(np.rad2deg(np.hypot(error[:, 0], error[:, 1]).mean())),
        "in_plane_degree": float(np.rad2deg(np.abs(error[:, 2]).mean())),
        "shift_angstrom": float(extent * shift),
        "shift_px": float(extent / truth.image_pixel_size_angstrom * shift),
    }
