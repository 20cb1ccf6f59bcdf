"""Simulated particles of tomograms, and what is wrong with what is said of them: for tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from solvar.evaluation import Truth
from solvar.imaging.rotations import from_rotation_vector
from solvar.particles import ParticleSet, Poses, read_particles
from solvar.simulation import SimulationSettings, simulate


@dataclass(frozen=True)
class Errors:
    """Of rotations, degrees rms in all; of particles and of tilt images, pixels an axis; of contrasts, sd.

    The last are of exposures: the scales that are given lack them.
    """

    pose_degree: float = 0.0
    shift_px: float = 0.0
    tilt_px: float = 0.0
    contrast_sd: float = 0.0


@dataclass(frozen=True, eq=False)
class TiltSet:
    """Particles as they are given, as they are, and the truth; tilt images' true shifts are 0.

    contrast : (K,)
        Of the exposures: by what they are stronger than is said of them, 1 on average.
    """

    given: ParticleSet
    right: ParticleSet
    truth: Truth
    contrast: np.ndarray

    @property
    def right_tilts(self) -> ParticleSet:
        """With the poses as given, and the right shifts and contrasts of tilt images."""
        return replace(self.given, exposures=self.right.exposures)


def tilt_set(folder: Path, simulation: SimulationSettings, errors: Errors) -> TiltSet:
    """Tilt series in a folder, as RELION 5 writes them."""
    right = read_particles(simulate(simulation).write(folder))
    still = np.zeros((len(right.exposures), 2))
    right = replace(right, exposures=replace(right.exposures, shift_angstrom=still))
    rng = np.random.default_rng([simulation.seed, 10])
    contrast = 1 + errors.contrast_sd * rng.uniform(
        -np.sqrt(3), np.sqrt(3), right.exposures.tilt_images
    )
    contrast /= contrast.mean()
    given = _said_weaker(_with_errors(right, errors, simulation.seed), contrast)
    return TiltSet(given, right, Truth.load(folder), contrast)


def _said_weaker(particles: ParticleSet, contrast: np.ndarray) -> ParticleSet:
    images = particles.exposures
    scale = images.ctf.scale / contrast[images.tilt_image]
    return replace(particles, exposures=replace(images, ctf=replace(images.ctf, scale=scale)))


def _with_errors(right: ParticleSet, errors: Errors, seed: int) -> ParticleSet:
    rng = np.random.default_rng([seed, 9])
    poses, images, pixel = right.poses, right.exposures, right.pixel_size_angstrom
    turn = rng.normal(0, np.deg2rad(errors.pose_degree) / np.sqrt(3), (len(right), 3))
    moved = rng.normal(0, errors.shift_px * pixel, (len(right), 3))
    aside = rng.normal(0, errors.tilt_px * pixel, (images.tilt_image.max() + 1, 2))
    return replace(
        right,
        poses=Poses(from_rotation_vector(turn) @ poses.rotation, poses.shift_angstrom + moved),
        exposures=replace(images, shift_angstrom=aside[images.tilt_image]),
    )
