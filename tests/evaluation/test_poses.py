"""Pose errors read what was put in, and nothing that no image can tell."""

import numpy as np
import pytest

from solvar.evaluation import pose_errors, within_groups
from solvar.evaluation.poses import calibration
from solvar.imaging.rotations import from_euler, from_rotation_vector
from solvar.imaging.rotations import random as random_rotations

N = 500


@pytest.fixture
def truth():
    rng = np.random.default_rng(0)
    return random_rotations(N, rng), rng.normal(0, 6, (N, 2))


def test_a_pure_in_plane_change_reads_zero_out_of_plane(truth):
    rotation, shift = truth
    angle = np.linspace(-20, 20, N)  # mean 0: no global rotation can absorb it
    turned = rotation @ from_euler(np.zeros(N), np.zeros(N), angle)
    errors = pose_errors(turned, shift, rotation, shift)
    # the fitted global rotation is not exactly the identity for finitely many views
    assert np.median(errors.out_of_plane_degree) < 1.0
    relative = pose_errors(turned[:1], shift[:1], turned[:1], shift[:1])
    assert relative.out_of_plane_degree[0] < 1e-6
    assert np.corrcoef(errors.in_plane_degree, angle)[0, 1] > 0.99


def test_in_plane_changes_that_cancel_read_exactly_zero_out_of_plane(truth):
    rotation, shift = truth
    # every pose twice, turned by +10° and by -10°: the best global rotation is the identity
    pair = np.concatenate([rotation, rotation])
    turned = pair @ from_euler(np.zeros(2 * N), np.zeros(2 * N), np.repeat([10.0, -10.0], N))
    errors = pose_errors(turned, np.tile(shift, (2, 1)), pair, np.tile(shift, (2, 1)))
    np.testing.assert_allclose(errors.out_of_plane_degree, 0, atol=1e-5)
    np.testing.assert_allclose(errors.in_plane_degree, np.repeat([10.0, -10.0], N), atol=1e-5)


def test_a_tilt_of_the_viewing_direction_reads_as_out_of_plane_alone(truth):
    rotation, shift = truth
    axis = np.random.default_rng(1).uniform(0, 2 * np.pi, N)
    tilt = np.deg2rad(4) * np.column_stack([np.cos(axis), np.sin(axis), np.zeros(N)])
    pair = np.concatenate([rotation, rotation])
    tilted = pair @ from_rotation_vector(np.concatenate([tilt, -tilt]))
    double = np.tile(shift, (2, 1))
    errors = pose_errors(tilted, double, pair, double)
    np.testing.assert_allclose(errors.out_of_plane_degree, 4, atol=1e-4)
    np.testing.assert_allclose(errors.in_plane_degree, 0, atol=1e-4)


def test_a_global_rotation_and_translation_are_removed_exactly(truth):
    rotation, shift = truth
    turn = from_rotation_vector([[0.4, -0.9, 0.2]])[0]
    translation = np.array([5.0, -3.0, 8.0])
    # the volume turned by Q and then moved by Q·T: poses Q·R, shifts + (Rᵀ T)_x,y
    moved = shift + np.einsum("nji,j->ni", rotation, translation)[:, :2]
    errors = pose_errors(turn @ rotation, moved, rotation, shift)
    assert errors.out_of_plane_degree.max() < 1e-6
    assert np.abs(errors.in_plane_degree).max() < 1e-6
    assert errors.shift_angstrom.max() < 1e-9
    np.testing.assert_allclose(errors.drift_translation_angstrom, translation, atol=1e-9)
    np.testing.assert_allclose(errors.drift_rotation, turn, atol=1e-12)
    drift = errors.summary(3.0)["drift"]
    assert drift["translation_angstrom"] == pytest.approx(np.linalg.norm(translation))
    assert drift["rotation_degree"] == pytest.approx(np.rad2deg(np.linalg.norm([0.4, 0.9, 0.2])))


def test_the_translation_sign_is_that_of_the_simulated_images():
    from solvar.simulation.images import project_blobs

    rng = np.random.default_rng(3)
    rotation, blobs = random_rotations(3, rng), np.broadcast_to(rng.normal(0, 9, (8, 3)), (3, 8, 3))
    weights, translation = np.ones((3, 8)), np.array([4.0, -6.0, 2.0])
    position = rng.normal(0, 4, (3, 2))
    image = project_blobs(blobs, weights, 3.0, rotation, position, 32, 3.0)
    compensated = position - (np.swapaxes(rotation, 1, 2) @ translation)[:, :2]
    same = project_blobs(blobs + translation, weights, 3.0, rotation, compensated, 32, 3.0)
    np.testing.assert_allclose(same, image, atol=1e-4)
    errors = pose_errors(rotation, -compensated, rotation, -position)
    np.testing.assert_allclose(errors.drift_translation_angstrom, translation, atol=1e-9)


def test_random_errors_are_reported_at_their_size(truth):
    rotation, shift = truth
    rng = np.random.default_rng(4)
    turned = rotation @ from_rotation_vector(rng.normal(0, np.deg2rad(3) / np.sqrt(3), (N, 3)))
    moved = shift + rng.normal(0, 2.0, (N, 2))
    summary = pose_errors(turned, moved, rotation, shift).summary(pixel_size_angstrom=4.0)
    assert summary["out_of_plane_degree"]["rms"] == pytest.approx(3 * np.sqrt(2 / 3), rel=0.06)
    assert summary["in_plane_degree"]["rms"] == pytest.approx(3 * np.sqrt(1 / 3), rel=0.08)
    assert summary["shift_angstrom"]["rms"] == pytest.approx(2 * np.sqrt(2), rel=0.06)
    assert summary["shift_px"]["mean"] == pytest.approx(summary["shift_angstrom"]["mean"] / 4)


def test_what_is_a_function_of_the_state_is_gone_when_each_state_is_aligned(truth):
    rotation, shift = truth
    rng = np.random.default_rng(5)
    state = rng.integers(0, 4, N)
    place = from_rotation_vector(rng.normal(0, np.deg2rad(6), (4, 3)))[state]
    translation = rng.normal(0, 5, (4, 3))[state]
    moved = shift + np.einsum("nji,nj->ni", rotation, translation)[:, :2]
    arrays = place @ rotation, moved, rotation, shift
    common, own = pose_errors(*arrays), within_groups(*arrays, state)
    assert np.median(common.out_of_plane_degree) > 2 and np.median(common.shift_angstrom) > 2
    assert own.out_of_plane_degree.max() < 1e-6
    assert np.abs(own.in_plane_degree).max() < 1e-6
    assert own.shift_angstrom.max() < 1e-9


def test_too_few_particles_of_a_state_keep_the_common_alignment(truth):
    rotation, shift = truth
    rng = np.random.default_rng(6)
    turned = rotation @ from_rotation_vector(rng.normal(0, 0.05, (N, 3)))
    state = (np.arange(N) >= 10).astype(np.int64)
    arrays = turned, shift, rotation, shift
    common, own = pose_errors(*arrays), within_groups(*arrays, state)
    np.testing.assert_array_equal(own.in_plane_degree[:10], common.in_plane_degree[:10])
    assert np.any(own.in_plane_degree[10:] != common.in_plane_degree[10:])


@pytest.mark.parametrize("claimed", [1.0, 0.5])
def test_error_bars_are_held_against_the_errors(claimed):
    rng, count = np.random.default_rng(5), 4000
    true, shift = random_rotations(count, rng), rng.normal(0, 6, (count, 2))
    axes = random_rotations(count, rng)
    sd = np.deg2rad([0.5, 1.0, 2.0])
    covariance = np.zeros((count, 5, 5))
    covariance[:, :3, :3] = axes * sd**2 @ np.swapaxes(axes, 1, 2)
    covariance[:, 3:, 3:] = np.diag([0.3**2, 0.6**2])
    error = rng.standard_normal((count, 5))
    # the volume as a whole lies elsewhere, which no image tells
    drift = from_rotation_vector(np.array([[0.3, -0.2, 0.1]]))[0]
    turn = np.einsum("nij,nj->ni", axes, error[:, :3] * sd)
    rotation = from_rotation_vector(turn) @ drift @ true
    moved = shift + error[:, 3:] * [0.3, 0.6]
    found = calibration(rotation, moved, true, shift, claimed**2 * covariance)
    for name in ("rotation", "shift"):
        within = [found[f"{name}_within_{k}_sd"] for k in (1, 2)]
        wanted = [0.683, 0.954] if claimed == 1 else [0.383, 0.683]
        np.testing.assert_allclose(within, wanted, atol=0.02)
