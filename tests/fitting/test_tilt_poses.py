"""Poses of tilted particles, and shifts of their tilt images, as good as the images allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from solvar.cli.summary import poses_table
from solvar.errors import InputError
from solvar.evaluation import evaluate
from solvar.evaluation.pose_bound import pose_bound
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.results.run import Run
from solvar.simulation import SimulationSettings
from tilt_set import Errors, TiltSet, tilt_set
from written import written

SIMULATED = {
    "box_size": 32, "pixel_size": 6.0, "snr": 0.2, "heterogeneity": "discrete", "states": 2, "seed": 1,
}  # fmt: skip
PARTS = ("out_of_plane_degree", "in_plane_degree", "shift_px")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> TiltSet:
    """Sixty particles, five tilts each."""
    coarse = {**SIMULATED, "box_size": 16, "pixel_size": 12.0}
    settings = SimulationSettings(**coarse, particles=60, tilts=5)
    errors = Errors(pose_degree=2.0, shift_px=0.3, tilt_px=0.5)
    return tilt_set(tmp_path_factory.mktemp("tilts"), settings, errors)


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> TiltSet:
    """Three hundred particles, eleven tilts each, poses off by 3° and tilt images by a pixel."""
    settings = SimulationSettings(**SIMULATED, particles=300, tilts=11)
    errors = Errors(pose_degree=3.0, shift_px=1.0, tilt_px=1.0)
    return tilt_set(tmp_path_factory.mktemp("series"), settings, errors)


@pytest.fixture(scope="module")
def best(series: TiltSet) -> dict:
    """What refined poses come to where tilt images are right."""
    return evaluate(fit(series.right_tilts, FitSettings(rank=2, refine_pose=True)), series.truth)


def _means(told: dict) -> np.ndarray:
    return np.array([told[part]["mean"] for part in PARTS])


@pytest.mark.slow
def test_refined_poses_of_tilted_particles_are_near_the_bound(best: dict) -> None:
    """Within states: where the states of a molecule lie to each other is in no image."""
    told = best["poses"]
    bound = np.array([told["bound_unknown_shape"][part] for part in PARTS])
    assert (_means(told["within_state"]) < 1.5 * bound).all()
    assert _means(told["start"])[2] > 10 * bound[2]
    assert 0.55 < told["calibration"]["shift_within_1_sd"] < 0.85
    assert 0.55 < told["calibration"]["rotation_within_1_sd"] < 0.9


@pytest.mark.slow
def test_refined_tilts_give_back_what_their_shifts_had_cost(series: TiltSet, best: dict) -> None:
    lost, refined = (
        evaluate(
            fit(series.given, FitSettings(rank=2, refine_pose=True, refine_tilts=refine_tilts)),
            series.truth,
        )
        for refine_tilts in (False, True)
    )
    right, without, found = (_means(told["poses"]) for told in (best, lost, refined))
    assert (without - found > 0.9 * (without - right)).all()
    # that of 300 particles at the same poses goes up and down by 0.02
    captured = [told["covariance"]["captured_variance"] for told in (best, lost, refined)]
    assert captured[2] - captured[1] > 0.7 * (captured[0] - captured[1])


def test_the_bound_of_tilted_particles_adds_up_over_their_images(small: TiltSet) -> None:
    particles = small.right
    power = np.full((len(particles.noise_groups), 8), 5.0)
    once = pose_bound(particles, power, small.truth, latents=False)
    images = particles.exposures
    twice = np.repeat(np.arange(len(images)), 2)
    doubled = replace(images.rows(twice), particle=np.repeat(images.particle, 2))
    same = pose_bound(replace(particles, exposures=doubled), 2 * power, small.truth, latents=False)
    fewer = replace(particles, exposures=images.rows(np.flatnonzero(images.frame % 5 != 0)))
    less = pose_bound(fewer, power, small.truth, latents=False)
    for part, error in once.items():
        assert same[part] == pytest.approx(error, rel=1e-3)
        assert less[part] > 1.02 * error


@pytest.fixture(scope="module")
def refined(small: TiltSet) -> Fit:
    return fit(
        small.given, FitSettings(rank=1, refine_pose=True, refine_tilts=True, halfsets=False)
    )


def test_a_run_knows_poses_and_tilts_that_were_refined(
    small: TiltSet, refined: Fit, tmp_path: Path
) -> None:
    particles = refined.particles
    assert particles.poses.shift_angstrom.shape == (60, 3)
    assert refined.pose_refinement is not None and refined.tilt_refinement is not None
    assert refined.pose_refinement.covariance.shape == (60, 6, 6)
    assert np.linalg.eigvalsh(refined.pose_refinement.covariance).min() > 0
    moved = particles.exposures.shift_angstrom - small.given.exposures.shift_angstrom
    np.testing.assert_allclose(moved, refined.tilt_refinement.moved_angstrom, atol=1e-12)
    # the images of an exposure are moved alike
    number = small.given.exposures.tilt_image
    known, first = np.unique(number, return_index=True)
    assert 10 <= len(known) < 60
    np.testing.assert_allclose(moved, moved[first[np.searchsorted(known, number)]], atol=1e-12)
    assert np.abs(moved).max() > 1
    written(tmp_path / "run", refined)
    run = Run(tmp_path / "run")
    rows = list(poses_table(run).columns[0].cells)
    assert rows[-1] == "tilt images per axis (Å)" and len(rows) == 4
    np.testing.assert_array_equal(run.particles["shift_angstrom"], particles.poses.shift_angstrom)
    assert run.pose_refinement.covariance.shape == (60, 6, 6)
    known = run.with_own_tilts(small.given, np.arange(60)).exposures
    np.testing.assert_array_equal(known.shift_angstrom, particles.exposures.shift_angstrom)


def test_what_is_seen_of_particles_and_tilts_is_nearer_to_the_truth(
    small: TiltSet, refined: Fit
) -> None:
    true = small.right.image_poses.shift_angstrom
    before, after = (
        np.std(each.image_poses.shift_angstrom - true) for each in (small.given, refined.particles)
    )
    assert after < 0.7 * before


def test_a_truth_of_particles_that_were_not_tilted_is_refused(small: TiltSet, refined: Fit) -> None:
    flat = replace(small.truth, shift_angstrom=small.truth.shift_angstrom[:, :2])
    assert "poses" in evaluate(refined, small.truth)
    with pytest.raises(InputError, match="those of the run were tilted"):
        evaluate(refined, flat)


def test_tilts_are_refined_beside_poses_alone() -> None:
    with pytest.raises(ValidationError, match="give --refine-pose, too"):
        FitSettings(refine_tilts=True)


def test_particles_that_were_not_tilted_have_no_tilts_to_refine(tiny_stack) -> None:
    particles = read_particles(tiny_stack / "particles.star")
    with pytest.raises(InputError, match="is no tilt series"):
        fit(particles, FitSettings(rank=1, refine_pose=True, refine_tilts=True))
