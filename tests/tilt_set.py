"""Simulated tilt series in the frame of their tomograms, with everything known: for tests and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from solvar.evaluation import Truth
from solvar.imaging import rotations
from solvar.imaging.ctf import evaluate_ctf
from solvar.particles import CtfParameters, Exposures, Optics, ParticleSet, Poses
from solvar.particles.stack_write import write_stack
from solvar.simulation import SimulationSettings
from solvar.simulation.ensemble import build_ensemble
from solvar.simulation.images import disc_pixels, project_blobs, to_images
from solvar.simulation.truth import truth_volumes
from solvar.simulation.writing import write_star


@dataclass(frozen=True)
class Tilting:
    """How a set is tilted, and what is wrong with what is said of it.

    Degrees, pixels an axis, and electrons per Å² an exposure.
    """

    tilts: int = 11
    most_degree: float = 60.0
    dose: float = 3.0
    tomograms: int = 4
    pose_degree: float = 0.0
    shift_px: float = 0.0
    tilt_px: float = 0.0


@dataclass(frozen=True, eq=False)
class TiltSet:
    """Particles as they are given, as they are, and the truth; tilt images' true shifts are 0."""

    given: ParticleSet
    right: ParticleSet
    truth: Truth

    @property
    def right_poses(self) -> ParticleSet:
        """With the right poses, and the shifts of tilt images as given."""
        return replace(self.given, poses=self.right.poses)

    @property
    def right_tilts(self) -> ParticleSet:
        """With the poses as given, and the right shifts of tilt images."""
        return replace(self.given, exposures=self.right.exposures)


def tilt_set(folder: Path, simulation: SimulationSettings, tilting: Tilting) -> TiltSet:
    """Images in a stack in `folder`; the signal-to-noise ratio is that of the untilted image."""
    rng = np.random.default_rng([simulation.seed, 9])
    count, each, pixel = simulation.particles, tilting.tilts, simulation.pixel_size
    ensemble = build_ensemble(simulation)
    angle = np.linspace(-tilting.most_degree, tilting.most_degree, each)
    order = np.argsort(np.argsort(np.abs(angle), kind="stable"))
    tomogram = np.arange(count) % tilting.tomograms
    particle, tilt = np.repeat(np.arange(count), each), np.tile(np.arange(each), count)
    # from the image into the specimen, whose tilt axis is y
    back = (
        Rotation.from_euler("y", angle[:, None], degrees=True).as_matrix().transpose(0, 2, 1)[tilt]
    )
    poses = Poses(rotations.random(count, rng), rng.normal(0, 2 * pixel, (count, 3)))
    defocus = rng.uniform(simulation.defocus_min, simulation.defocus_max, (tilting.tomograms, each))
    ctf = CtfParameters(
        *[defocus[tomogram[particle], tilt]] * 2,
        *np.zeros((3, len(tilt))),
        scale=np.cos(np.deg2rad(angle))[tilt],
        dose_per_angstrom2=tilting.dose * order[tilt].astype(float),
    )
    none = np.zeros(len(tilt), np.int64)
    exposures = Exposures(
        particle, none, ctf, none, np.arange(len(tilt)), tilt=back,
        shift_angstrom=np.zeros((len(tilt), 2)), tilt_image=tomogram[particle] * each + tilt,
        row=np.arange(len(tilt)),
    )  # fmt: skip
    source = folder / "tilts.star"
    right = ParticleSet(
        source=source,
        source_format="relion",
        row=np.arange(count),
        uid=np.arange(count, dtype=np.uint64),
        optics=Optics(
            ("one",), *(np.array([v]) for v in (300.0, 2.7, 0.1)), np.array([pixel]),
            np.array([simulation.box_size]),
        ),
        poses=poses,
        stacks=(folder / "tilts.mrcs",),
        exposures=exposures,
        halfset=(1 + rng.permutation(count) % 2).astype(np.int8),
    )  # fmt: skip
    contrast = np.maximum(rng.normal(1, simulation.contrast_sd, count), 0.1)
    coordinate = ensemble.coordinate
    clean = _clean(right, simulation, ensemble, contrast)
    middle = clean[np.abs(angle)[tilt] == np.abs(angle).min()]
    scale = float(np.sqrt(simulation.snr) / middle.std())
    noise = rng.standard_normal(clean.shape, dtype=np.float32)
    write_stack(folder / "tilts.mrcs", clean.shape, pixel, [scale * clean + noise])
    known = truth_volumes(ensemble, simulation.box_size, pixel, scale, 10)
    truth = Truth(
        folder, simulation.box_size, pixel, pixel, poses.rotation, poses.shift_angstrom, contrast,
        state=ensemble.state, state_coordinate=coordinate, mean=known.mean, mask=known.mask,
        eigenvolumes=known.eigenvolumes,
    )  # fmt: skip
    given = _perturbed(right, tilting, rng)
    _write_star(given)
    return TiltSet(given, right, truth)


def _clean(particles: ParticleSet, simulation, ensemble, contrast):
    """Images (M, L, L) without noise, some at a time."""
    images, poses, out = particles.exposures, particles.image_poses, []
    box, pixel = simulation.box_size, simulation.pixel_size
    inside, kx, ky = disc_pixels(box)
    for start in range(0, len(images), 200):
        some = np.arange(start, min(start + 200, len(images)))
        shown = images.particle[some]
        positions, weights = ensemble.place(ensemble.coordinate[shown])
        transform = project_blobs(
            positions, weights * contrast[shown, None], ensemble.sigma_angstrom,
            poses.rotation[some], -poses.shift_angstrom[some], box, pixel,
        )  # fmt: skip
        ctf = images.ctf.take(some)
        transform[:, inside] *= evaluate_ctf(
            kx, ky, box * pixel, ctf, particles.optics, images.optics_group[some]
        )
        out.append(to_images(transform))
    return np.concatenate(out)


def _perturbed(right: ParticleSet, tilting: Tilting, rng: np.random.Generator) -> ParticleSet:
    """Rotations off by `pose_degree` rms in all, shifts of particles and tilt images by pixels an axis."""
    poses, images = right.poses, right.exposures
    pixel, count = right.optics.pixel_size_angstrom[0], len(right)
    turn = rng.normal(0, np.deg2rad(tilting.pose_degree) / np.sqrt(3), (count, 3))
    moved = rng.normal(0, tilting.shift_px * pixel, (count, 3))
    number = images.tilt_image
    aside = rng.normal(0, tilting.tilt_px * pixel, (number.max() + 1, 2))
    return replace(
        right,
        poses=Poses(
            rotations.from_rotation_vector(turn) @ poses.rotation, poses.shift_angstrom + moved
        ),
        exposures=replace(images, shift_angstrom=aside[number]),
    )


def _write_star(particles: ParticleSet) -> None:
    """A flat star file that says what is said of the images."""
    images, poses = particles.exposures, particles.image_poses
    rot, tilt, psi = rotations.to_euler(poses.rotation).T
    columns = {
        "rlnImageName": [f"{frame + 1:06d}@tilts.mrcs" for frame in images.frame],
        "rlnGroupName": [f"particle{number}" for number in images.particle],
        "rlnMicrographName": [f"tilt{number}.mrc" for number in images.tilt_image],
        "rlnOpticsGroup": images.optics_group + 1,
        "rlnDefocusU": images.ctf.defocus_u_angstrom,
        "rlnDefocusV": images.ctf.defocus_v_angstrom,
        "rlnDefocusAngle": np.rad2deg(images.ctf.defocus_angle_radian),
        "rlnCtfScalefactor": images.ctf.scale,
        "rlnMicrographPreExposure": images.ctf.dose_per_angstrom2,
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnOriginXAngst": poses.shift_angstrom[:, 0],
        "rlnOriginYAngst": poses.shift_angstrom[:, 1],
        "rlnRandomSubset": particles.halfset[images.particle],
    }
    write_star(particles.source, particles.optics, columns)
