"""Corrections and spreads of refined poses are told at their size, and compared."""

from dataclasses import replace

import numpy as np
import pytest

from solvar.estimation.posterior import PoseRefinement
from solvar.imaging.rotations import from_rotation_vector
from solvar.imaging.rotations import random as random_rotations
from solvar.particles import Poses
from solvar.results.poses import PoseChange
from solvar.results.run import Run
from synthetic import make_fit, make_refinement
from written import written

N = 2000


def change_of(turn_in_image, moved, covariance):
    rotation = random_rotations(N, np.random.default_rng(0))
    start = Poses(rotation, np.zeros((N, 2)))
    refined = Poses(rotation @ from_rotation_vector(turn_in_image), moved)
    return PoseChange.of(refined, PoseRefinement(start, covariance, 1.0, 1.0))


def test_a_turn_about_the_beam_is_in_plane_alone():
    angle = np.linspace(-0.3, 0.3, N)
    turn = np.column_stack([np.zeros((N, 2)), angle])
    change = change_of(turn, np.zeros((N, 2)), np.zeros((N, 5, 5)))
    np.testing.assert_allclose(change.correction["in_plane"], np.rad2deg(angle), atol=1e-9)
    np.testing.assert_allclose(change.correction["out_of_plane"], 0, atol=1e-9)
    np.testing.assert_allclose(change.correction["shift"], 0)


def test_spread_is_told_in_the_frame_of_the_image():
    rotation = random_rotations(N, np.random.default_rng(0))
    in_image = np.diag(np.deg2rad([3.0, 4.0, 1.0]) ** 2)
    covariance = np.zeros((N, 5, 5))
    covariance[:, :3, :3] = rotation @ in_image @ np.swapaxes(rotation, 1, 2)
    covariance[:, 3:, 3:] = np.diag([0.36, 0.64])
    change = change_of(np.zeros((N, 3)), np.zeros((N, 2)), covariance)
    np.testing.assert_allclose(change.spread["out_of_plane"], 5)
    np.testing.assert_allclose(change.spread["in_plane"], 1)
    np.testing.assert_allclose(change.spread["shift"], 1)


def test_summary_gives_back_the_size_of_the_errors(tmp_path):
    poses = Poses(random_rotations(N, np.random.default_rng(1)), np.zeros((N, 2)))
    told = PoseChange.of(poses, make_refinement(poses)).summary()
    assert told["in_plane_degree"]["correction_rms"] == pytest.approx(2, rel=0.06)
    assert told["out_of_plane_degree"]["correction_rms"] == pytest.approx(2 * 2**0.5, rel=0.06)
    assert told["shift_angstrom"]["correction_rms"] == pytest.approx(3 * 2**0.5, rel=0.06)
    assert told["in_plane_degree"]["spread_median"] == pytest.approx(1, rel=0.06)
    assert told["prior_shift_angstrom"] == 3.0


@pytest.mark.parametrize(("spread", "warned"), [(0.5, False), (2.0, True)])
def test_run_warns_where_more_is_unknown_of_a_pose_than_was_corrected(tmp_path, spread, warned):
    fit = make_fit(tmp_path, refined=True)
    refinement = make_refinement(fit.particles.poses, spread=spread)
    fit = replace(fit, pose_refinement=refinement)
    written(tmp_path / "run", fit)
    said = [text for text in Run(tmp_path / "run").warnings if "images say less" in text]
    assert len(said) == warned
    if warned:
        assert "viewing direction (corrected by 2" in said[0] and "and shift" in said[0]


def test_what_was_far_off_and_what_stays_unknown_is_counted():
    turn = np.random.default_rng(2).normal(0, np.deg2rad(1), (N, 3))
    turn[:30] = [0, np.deg2rad(60), 0]
    covariance = np.tile(np.diag([np.deg2rad(0.4) ** 2] * 3 + [0.1] * 2), (N, 1, 1))
    # the prior has 1° an axis: more than half of its variance is left
    covariance[-20:, :3, :3] *= 2.0
    change = change_of(turn, np.zeros((N, 2)), covariance)
    assert change.applied and change.found_elsewhere.nonzero()[0].tolist() == list(range(30))
    assert change.unknown.sum() == 0
    covariance[-20:, :3, :3] *= 2.0
    change = change_of(turn, np.zeros((N, 2)), covariance)
    assert change.unknown.nonzero()[0].tolist() == list(range(N - 20, N))
    told = change.sentence()
    assert "30 particles had been far off" in told and "images of 20 say less" in told
    assert (told := change.summary())["found_elsewhere"] == 30 and told["unknown"] == 20


def test_a_refinement_that_was_given_up_says_so():
    change = change_of(np.zeros((N, 3)), np.zeros((N, 2)), np.zeros((N, 5, 5)))
    assert not change.applied and not change.summary()["applied"]
    assert "as they were" in change.sentence()
    assert [text for text in change.warnings() if "was not applied" in text]
