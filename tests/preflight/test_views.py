"""Rows that share a pose, and views that leave a part of Fourier space empty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from solvar.imaging import rotations
from solvar.particles import CtfParameters, Exposures, ParticleSet, Poses
from solvar.preflight.views import view_findings

COUNT = 1200


def particles_at(rotation, shift=None):
    count = len(rotation)
    number = np.arange(count)
    zero = np.zeros(count)
    ctf = CtfParameters(zero, zero, zero, zero, zero)
    images = Exposures.one_each(0 * number, ctf, 0 * number, number)
    shift = np.random.default_rng(1).normal(size=(count, 2)) if shift is None else shift
    # neither optics nor files are looked at
    return ParticleSet(
        source=None, source_format="relion", row=number, uid=number, optics=None,
        poses=Poses(rotation, shift), stacks=(), exposures=images, halfset=np.zeros(count, np.int8),
    )  # fmt: skip


def random_rotations(count=COUNT):
    return rotations.random(count, np.random.default_rng(0))


def levels(particles):
    return {finding.topic: finding.level for finding in view_findings(particles)}


def alignment(particles):
    return next(finding for finding in view_findings(particles) if finding.topic == "alignment")


def test_refined_poses_raise_nothing():
    assert levels(particles_at(random_rotations())) == {"orientations": "ok", "alignment": "ok"}


@pytest.mark.parametrize("pose", [np.eye(3), Rotation.from_euler("ZYZ", [1, 2, 3]).as_matrix()])
@pytest.mark.parametrize(("every", "level"), [(50, "warning"), (3, "warning"), (1, "error")])
def test_rows_with_one_pose_are_counted_and_the_first_is_named(pose, every, level):
    particles = particles_at(random_rotations())
    rows = slice(7, None, every)
    particles.poses.rotation[rows], particles.poses.shift_angstrom[rows] = pose, 0.0
    found = alignment(particles)
    count = len(range(7, COUNT, every))
    assert found.level == level
    assert f"{count:,} of 1,200 rows" in found.text and "row 8," in found.text
    assert ("all angles and shifts 0" in found.text) == bool((pose == np.eye(3)).all())


def test_a_pose_for_each_micrograph_is_no_alignment():
    rotation, shift = random_rotations(), np.zeros((COUNT, 2))
    rotation[: COUNT // 2] = np.repeat(rotation[:60], 10, axis=0)
    found = alignment(particles_at(rotation, shift))
    assert found.level == "warning" and "60 rotations and shifts between them" in found.text


@pytest.mark.parametrize("step", [7.5, 15, 30])
@pytest.mark.parametrize("spread", [180, 20])
def test_a_search_on_a_grid_repeats_poses_and_is_right(step, spread):
    rng = np.random.default_rng(3)
    angles = np.column_stack(
        [rng.uniform(0, 360, 20_000), rng.uniform(0, spread, 20_000), rng.uniform(0, 360, 20_000)]
    )
    rotation = Rotation.from_euler("ZYZ", step * np.round(angles / step), degrees=True).as_matrix()
    assert alignment(particles_at(rotation, np.zeros((20_000, 2)))).level == "ok"


def test_particles_seen_from_one_side_alone_leave_a_cone_empty():
    rng = np.random.default_rng(2)
    angles = np.column_stack(
        [rng.uniform(0, 360, 1200), rng.uniform(0, 30, 1200), rng.uniform(0, 360, 1200)]
    )
    rotation = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    assert levels(particles_at(rotation))["orientations"] == "warning"


def test_few_particles_say_nothing_about_coverage():
    assert levels(particles_at(random_rotations(5)))["orientations"] == "ok"


def test_a_tilt_series_covers_more_than_its_particles_views():
    particles = particles_at(np.tile(np.eye(3), (300, 1, 1)))
    assert levels(particles)["orientations"] == "warning"
    tilt = random_rotations(300)
    exposures = replace(particles.exposures, tilt=tilt)
    assert levels(replace(particles, exposures=exposures))["orientations"] == "ok"
