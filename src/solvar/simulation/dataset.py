"""A simulated particle set: draw the particles, then make any of their images on demand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.rotations import from_rotation_vector
from solvar.imaging.rotations import random as random_rotations
from solvar.particles import CtfParameters, Optics, Poses
from solvar.progress import Progress, harmless
from solvar.simulation.ensemble import Ensemble, build_ensemble
from solvar.simulation.images import (
    disc_pixels,
    noise_images,
    noise_spectrum,
    project_blobs,
    to_images,
)
from solvar.simulation.settings import SimulationSettings
from solvar.simulation.truth import TruthVolumes, truth_volumes

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK_BYTES = 64 * 2**20
_SCALE_SAMPLE = 1000
_SMALLEST_CONTRAST = 0.1
_PARTICLES_PER_MICROGRAPH = 50
# what optics groups differ in, cycled: factors on voltage, spherical aberration, amplitude contrast
_GROUP_FACTORS = np.array([[1, 1, 1], [2 / 3, 0.75, 0.7], [1, 0.5, 1.3]])


@dataclass(frozen=True, eq=False)
class SimulatedSet:
    """N particles with everything about them known; the noise has unit variance.

    Attributes
    ----------
    settings : SimulationSettings
    ensemble : Ensemble
        Conformations, before `scale`.
    poses : Poses
        True poses; shifts in Å as a star file holds them (the negative of the position).
    noisy_poses : Poses
        The same with the errors that the settings ask for.
    ctf : CtfParameters
    optics : Optics
    optics_group : (N,) int64
    micrograph : (N,) int64
    halfset : (N,) int8
        1 or 2.
    contrast : (N,) float64
    noise_power : (G, L, L) float64
        Centred noise power per optics group, mean 1.
    scale : float
        Factor on the ensemble's densities that gives the wanted signal-to-noise ratio.
    """

    settings: SimulationSettings
    ensemble: Ensemble
    poses: Poses
    noisy_poses: Poses
    ctf: CtfParameters
    optics: Optics
    optics_group: Int64
    micrograph: Int64
    halfset: NDArray[np.int8]
    contrast: Float64
    noise_power: Float64
    scale: float

    def __len__(self) -> int:
        return len(self.contrast)

    @property
    def latent(self) -> Float64 | None:
        """True latents z (N, r) of a 'gaussian' set in units of its eigenvolumes, else None."""
        return None if self.ensemble.modes is None else self.scale * self.ensemble.coordinate

    @property
    def chunk(self) -> int:
        """How many images to make at a time to stay within some 64 MiB."""
        atoms = self.ensemble.place(self.ensemble.coordinate[:1])[0].shape[1]
        box_size = self.settings.box_size
        return int(np.clip(_CHUNK_BYTES // (16 * box_size * (atoms + box_size)), 1, 1024))

    def clean_images(self, index: Int64) -> Float32:
        """Noiseless images (contrast, CTF and position applied) of the particles `index`.

        Returns
        -------
        (n, L, L) float32
            Rows y, columns x, origin at L // 2.
        """
        settings = self.settings
        positions, weights = self.ensemble.place(self.ensemble.coordinate[index])
        transform = project_blobs(
            positions,
            weights * (self.scale * self.contrast[index, None]),
            self.ensemble.sigma_angstrom,
            self.poses.rotation[index],
            -self.poses.shift_angstrom[index],
            settings.box_size,
            settings.pixel_size,
        )
        inside, kx, ky = disc_pixels(settings.box_size)
        transform[:, inside] *= evaluate_ctf(
            kx,
            ky,
            settings.box_size * settings.pixel_size,
            _rows_of(self.ctf, index),
            self.optics,
            self.optics_group[index],
        )
        return to_images(transform)

    def images(self, index: Int64) -> Float32:
        """Images with noise, (n, L, L) float32; the same for a particle in whatever company."""
        noise = noise_images(self.noise_power[self.optics_group[index]], index, self.settings.seed)
        return self.clean_images(index) + noise

    def truth_volumes(self, rank: int = 10) -> TruthVolumes:
        """Mean, up to `rank` scaled eigenvolumes, and mask, at the scale of the images."""
        settings = self.settings
        return truth_volumes(
            self.ensemble, settings.box_size, settings.pixel_size, self.scale, rank
        )

    def write(
        self, folder: str | Path, progress: Progress | None = None, *, overwrite: bool = False
    ) -> Path:
        """Write star files, stack and ground truth to `folder`; returns the main star file.

        Raises
        ------
        InputError
            If a simulated set is there and `overwrite` is false, or the folder cannot be used.
        """
        from solvar.simulation.writing import simulation_folder, write_simulated_set

        with simulation_folder(Path(folder), overwrite) as own:
            return write_simulated_set(self, own, harmless(progress))


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
    # small sets still have a few micrographs for every optics group
    per_micrograph = np.clip(count // (4 * settings.optics_groups), 1, _PARTICLES_PER_MICROGRAPH)
    micrograph = np.arange(count) // per_micrograph
    colour = settings.noise_colour * (1 + 0.5 * np.arange(settings.optics_groups))
    poses = _draw_poses(settings, rng)
    unscaled = SimulatedSet(
        settings=settings,
        ensemble=ensemble,
        poses=poses,
        noisy_poses=_perturb(poses, settings, rng),
        ctf=_draw_ctf(settings, rng),
        optics=_optics(settings),
        optics_group=rng.permutation(micrograph[-1] + 1)[micrograph] % settings.optics_groups,
        micrograph=micrograph,
        # as even as a refinement program would split them
        halfset=(1 + rng.permutation(count) % 2).astype(np.int8),
        contrast=np.maximum(rng.normal(1, settings.contrast_sd, count), _SMALLEST_CONTRAST),
        noise_power=np.stack([noise_spectrum(settings.box_size, c) for c in colour]),
        scale=1.0,
    )
    signal = _signal_variance(unscaled, rng, harmless(progress))
    return replace(unscaled, scale=float(np.sqrt(settings.snr / signal)))


def _signal_variance(
    particles: SimulatedSet, rng: np.random.Generator, progress: Progress
) -> float:
    """Pixel variance of the noiseless images over (a sample of) the set, mean removed."""
    count = min(len(particles), _SCALE_SAMPLE)
    sample = np.sort(rng.choice(len(particles), count, replace=False))
    total, square = 0.0, 0.0
    with progress.step("measuring the signal", count) as step:
        for start in range(0, count, particles.chunk):
            index = sample[start : start + particles.chunk]
            images = particles.clean_images(index)
            total += float(images.sum(dtype=np.float64))
            square += float(np.square(images, dtype=np.float64).sum())
            step.advance(len(index))
    pixels = count * particles.settings.box_size**2
    return square / pixels - (total / pixels) ** 2


def _draw_poses(settings: SimulationSettings, rng: np.random.Generator) -> Poses:
    position = rng.normal(0, settings.shift_sd * settings.pixel_size, (settings.particles, 2))
    return Poses(random_rotations(settings.particles, rng), -position)


def _perturb(poses: Poses, settings: SimulationSettings, rng: np.random.Generator) -> Poses:
    """Rotations turned by random small rotations about the particle's own axes, shifts moved."""
    turn = rng.normal(0, np.deg2rad(settings.pose_error) / np.sqrt(3), (settings.particles, 3))
    moved = rng.normal(0, settings.shift_error * settings.pixel_size, (settings.particles, 2))
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


def _rows_of(ctf: CtfParameters, index: Int64) -> CtfParameters:
    return CtfParameters(
        ctf.defocus_u_angstrom[index],
        ctf.defocus_v_angstrom[index],
        ctf.defocus_angle_radian[index],
        ctf.phase_shift_radian[index],
        ctf.bfactor_angstrom2[index],
    )
