"""Poses of tilt series against the truth: three components, whichever file they stood in."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.test_report import ideal_estimate
from solvar.evaluation import evaluate
from solvar.imaging.rotations import angles_between
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate


@pytest.fixture(scope="module", params=["relion5", "warp1"])
def noisy(request, tmp_path_factory):
    """A set, and what is evaluated of one who believes the poses that are off."""
    settings = SimulationSettings(
        particles=300,
        tilts=5,
        box_size=16,
        pixel_size=8.0,
        heterogeneity="gaussian",
        rank=3,
        tilt_format=request.param,
    )
    particles = simulate(settings)
    folder = tmp_path_factory.mktemp(request.param)
    particles.write(folder)
    found = read_particles(folder / "particles_noisy.star")
    ideal = ideal_estimate(particles)
    model = replace(ideal.model, pixel_size_angstrom=8.0)
    poses = found.poses
    believed = replace(
        ideal,
        model=model,
        rotation=poses.rotation,
        shift_angstrom=poses.shift_angstrom + found.exposures.common_moves(),
        particles=found,
    )
    return particles, folder, believed


def test_errors_are_those_that_were_made(noisy):
    particles, folder, believed = noisy
    metrics = evaluate(believed, folder)["poses"]
    true, off = particles.poses, particles.noisy_poses
    turned = np.rad2deg(angles_between(true.rotation, off.rotation))
    moved = np.linalg.norm(off.shift_angstrom - true.shift_angstrom, axis=1)
    # all that is common to the particles has been removed, which is little of 300
    angle = np.hypot(metrics["out_of_plane_degree"]["rms"], metrics["in_plane_degree"]["rms"])
    assert angle == pytest.approx(np.sqrt((turned**2).mean()), rel=0.02)
    rms = metrics["shift_angstrom"]["rms"]
    assert rms == pytest.approx(np.sqrt((moved**2).mean()), rel=0.02)
    assert rms == pytest.approx(8.0 * np.sqrt(3), rel=0.1)


def test_the_right_poses_have_no_errors(noisy):
    _, folder, believed = noisy
    found = read_particles(folder / "particles.star")
    poses = found.poses
    shift = poses.shift_angstrom + found.exposures.common_moves()
    right = replace(believed, rotation=poses.rotation, shift_angstrom=shift, particles=found)
    metrics = evaluate(right, folder)["poses"]
    assert metrics["shift_angstrom"]["rms"] < 1e-4
    assert metrics["out_of_plane_degree"]["rms"] < 1e-4
