"""A molecule that has moved, and images that have moved with it."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.estimation.image_batch import frames_of
from solvar.estimation.poses import PoseState
from solvar.imaging import rotations
from solvar.imaging.fourier import HalfDisc, centring_phase, moved_volume
from solvar.imaging.frames import (
    common_move,
    move_of,
    shifts_by,
    sums_of_move,
    without_common_move,
)
from solvar.imaging.projector import make_projector

MOVE = np.array([0.06, -0.02, 0.11])


@pytest.mark.parametrize("box", [24, 25])
def test_images_of_a_moved_volume_are_moved_images(box: int) -> None:
    rng, disc = np.random.default_rng(0), HalfDisc.of_radius(9)
    rotation = rotations.random(20, rng)
    axis = (np.arange(box) - box // 2) / box
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    volume = np.exp(-90 * ((x - 0.05) ** 2 + 1.2 * y**2 + 1.5 * (z + 0.05) ** 2)).astype(np.float32)
    projector = make_projector(box, disc)
    ones = np.ones((20, len(disc)), np.float32)
    before, after = (
        projector.project(projector.prepare(each[None]), frames_of(rotation), ones)[:, 0]
        for each in (volume, moved_volume(volume, MOVE))
    )
    moved = before * centring_phase(disc, shifts_by(rotation, MOVE))
    # interpolation leaves a hundredth
    assert np.abs(after - moved).max() < 0.02 * np.abs(before).max()


def test_common_move_is_found_of_all_and_of_parts() -> None:
    rng = np.random.default_rng(1)
    rotation, own = rotations.random(3000, rng), 0.04 * rng.standard_normal((3000, 2))
    shift = own + shifts_by(rotation, MOVE)
    np.testing.assert_allclose(common_move(rotation, shift), MOVE, atol=4 * 0.04 / np.sqrt(2000))
    parts = (slice(0, 7), slice(7, None))
    sums = sum(sums_of_move(rotation[part], shift[part]) for part in parts)
    np.testing.assert_allclose(move_of(sums), common_move(rotation, shift), rtol=1e-9)
    # along one line of sight nothing moves
    np.testing.assert_allclose(
        common_move(np.eye(3)[None], np.array([[0.3, -0.1]])), [0.3, -0.1, 0], atol=1e-9
    )


def test_centred_poses_have_no_move_in_common() -> None:
    rng = np.random.default_rng(2)
    rotation, own = rotations.random(500, rng), 0.04 * rng.standard_normal((500, 2))
    poses = PoseState.of(rotation, shift=own + shifts_by(rotation, MOVE)).centred()
    np.testing.assert_allclose(common_move(rotation, poses.moved), 0, atol=1e-12)
    assert poses.moved.std() < 1.05 * own.std()


def test_particles_that_were_tilted_are_moved_by_all_of_a_common_move() -> None:
    rotation, own = rotations.random(400, np.random.default_rng(3)), np.zeros((400, 3))
    shift = own + shifts_by(rotation, MOVE, 3)
    np.testing.assert_allclose(np.linalg.norm(shift, axis=1), np.linalg.norm(MOVE), rtol=1e-12)
    np.testing.assert_allclose(common_move(rotation[:1], shift[:1]), MOVE, atol=1e-12)
    np.testing.assert_allclose(without_common_move(rotation, shift), 0, atol=1e-12)
