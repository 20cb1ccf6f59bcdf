"""`simulate`: draw a particle set with known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from solvar.imaging.rotations import from_rotation_vector
from solvar.imaging.rotations import random as random_rotations
from solvar.particles import CtfParameters, Optics, Poses
from solvar.progress import Progress, harmless
from solvar.simulation.ensemble import build_ensemble
from solvar.simulation.images import noise_spectrum
from solvar.simulation.settings import SimulationSettings
from solvar.simulation.simulated_set import SimulatedSet
from solvar.simulation.tilt_series import draw_tilt_series

_SCALE_SAMPLE = 1000
_SMALLEST_CONTRAST = 0.1
_PARTICLES_PER_MICROGRAPH = 50
# what optics groups differ in, cycled: factors on voltage, spherical aberration, amplitude contrast
_GROUP_FACTORS = np.array([[1, 1, 1], [2 / 3, 0.75, 0.7], [1, 0.5, 1.3]])


# BLAS threads on products of this size wait for each other: one thread is up to 20 times faster
@threadpool_limits.wrap(limits=1, user_api="blas")
def simulate(settings: SimulationSettings, progress: Progress | None = None) -> SimulatedSet:
    """Draw a particle set with known truth.

    Images are exact projections of Gaussian blobs, not slices of a voxel volume, so that they share
    no interpolation error with the program under test.

    Parameters
    ----------
    settings : SimulationSettings
    progress : Progress, optional
        Told of the one long step, finding the scale that gives the wanted signal-to-noise ratio.
    """
    count, rng = settings.particles, np.random.default_rng([settings.seed, 0])
    ensemble = build_ensemble(settings)
    # small sets still have a few micrographs, or specimens of tilt series, for every optics group
    per_micrograph = np.clip(count // (4 * settings.optics_groups), 1, _PARTICLES_PER_MICROGRAPH)
    micrograph = np.arange(count) // per_micrograph
    colour = settings.noise_colour * (1 + 0.5 * np.arange(settings.optics_groups))
    poses = _draw_poses(settings, rng)
    series = None
    if settings.tilts:
        of_tilts = np.random.default_rng([settings.seed, 4])
        series = draw_tilt_series(settings, micrograph, of_tilts)
    unscaled = SimulatedSet(
        settings=settings,
        ensemble=ensemble,
        poses=poses,
        noisy_poses=_perturb(poses, settings, rng),
        ctf=_draw_ctf(settings, rng)
        if series is None
        else series.ctf_of_images(poses.shift_angstrom),
        optics=_optics(settings),
        optics_group=rng.permutation(micrograph[-1] + 1)[micrograph] % settings.optics_groups,
        micrograph=micrograph,
        # as even as a refinement program would split them
        halfset=(1 + rng.permutation(count) % 2).astype(np.int8),
        contrast=np.maximum(rng.normal(1, settings.contrast_sd, count), _SMALLEST_CONTRAST),
        noise_power=np.stack([noise_spectrum(settings.box_size, c) for c in colour]),
        scale=1.0,
        series=series,
    )
    signal = _signal_variance(unscaled, rng, harmless(progress))
    return replace(unscaled, scale=float(np.sqrt(settings.snr / signal)))


def _signal_variance(
    particles: SimulatedSet, rng: np.random.Generator, progress: Progress
) -> float:
    """Pixel variance of noiseless images of (a sample of) the particles, mean removed."""
    count = min(len(particles), _SCALE_SAMPLE)
    sample = np.sort(rng.choice(len(particles), count, replace=False))
    total, square = 0.0, 0.0
    with progress.step("measuring the signal", count) as step:
        for start in range(0, count, particles.chunk):
            index = sample[start : start + particles.chunk]
            images = particles.clean_images(particles.least_exposed(index))
            total += float(images.sum(dtype=np.float64))
            square += float(np.square(images, dtype=np.float64).sum())
            step.advance(len(index))
    pixels = count * particles.settings.box_size**2
    return square / pixels - (total / pixels) ** 2


def _draw_poses(settings: SimulationSettings, rng: np.random.Generator) -> Poses:
    axes = 3 if settings.tilts else 2
    position = rng.normal(0, settings.shift_sd * settings.pixel_size, (settings.particles, axes))
    return Poses(random_rotations(settings.particles, rng), -position)


def _perturb(poses: Poses, settings: SimulationSettings, rng: np.random.Generator) -> Poses:
    """Rotations turned by random small rotations about the particle's own axes, shifts moved."""
    turn = rng.normal(0, np.deg2rad(settings.pose_error) / np.sqrt(3), (settings.particles, 3))
    spread = settings.shift_error * settings.pixel_size
    moved = rng.normal(0, spread, poses.shift_angstrom.shape)
    rotation = poses.rotation @ from_rotation_vector(turn)
    return Poses(rotation, poses.shift_angstrom + moved)


def _draw_ctf(settings: SimulationSettings, rng: np.random.Generator) -> CtfParameters:
    count = settings.particles
    mean = rng.uniform(settings.defocus_min, settings.defocus_max, count)
    half = np.minimum(np.abs(rng.normal(0, settings.astigmatism, count)), mean)
    return CtfParameters(
        defocus_u_angstrom=mean + half,
        defocus_v_angstrom=mean - half,
        defocus_angle_radian=rng.uniform(0, np.pi, count),
        phase_shift_radian=np.zeros(count),
        bfactor_angstrom2=np.zeros(count),
    )


def _optics(settings: SimulationSettings) -> Optics:
    """The first group is as the settings say; others differ as microscopes do."""
    groups = settings.optics_groups
    voltage, aberration, amplitude = _GROUP_FACTORS[np.arange(groups) % 3].T
    return Optics(
        name=tuple(f"opticsGroup{group + 1}" for group in range(groups)),
        voltage_kv=settings.voltage * voltage,
        spherical_aberration_mm=settings.spherical_aberration * aberration,
        amplitude_contrast=np.minimum(settings.amplitude_contrast * amplitude, 0.99),
        pixel_size_angstrom=np.full(groups, settings.pixel_size),
        box_size=np.full(groups, settings.box_size, np.int64),
    )
