"""Rotations against scipy and at the poles of the Euler angles."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from solvar.imaging import rotations


def test_euler_angles_are_relions_zyz_about_turning_axes():
    rng = np.random.default_rng(1)
    angles = rng.uniform([-180, 0, -180], [180, 180, 180], (50, 3))
    expected = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
    np.testing.assert_allclose(rotations.from_euler(*angles.T), expected, atol=1e-12)


def test_euler_angles_survive_the_way_to_matrices_and_back():
    rng = np.random.default_rng(2)
    angles = rng.uniform([-180, 1, -180], [180, 179, 180], (200, 3))
    np.testing.assert_allclose(
        rotations.to_euler(rotations.from_euler(*angles.T)), angles, atol=1e-9
    )


@pytest.mark.parametrize("tilt", [0.0, 180.0, 1e-5, 179.99999])
def test_matrices_survive_the_way_to_euler_angles_at_the_poles(tilt):
    rng = np.random.default_rng(3)
    rot, psi = rng.uniform(-180, 180, (2, 40))
    matrices = rotations.from_euler(rot, np.full(40, tilt), psi)
    angles = rotations.to_euler(matrices)
    np.testing.assert_allclose(rotations.from_euler(*angles.T), matrices, atol=1e-8)
    if tilt in (0.0, 180.0):
        assert np.all(angles[:, 0] == 0)


def test_viewing_direction_is_the_third_column_and_in_plane_rotation_leaves_it():
    rot, tilt = np.deg2rad(35), np.deg2rad(70)
    expected = [np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)]
    for psi in (0, 20, 160):
        matrix = rotations.from_euler([35], [70], [psi])[0]
        np.testing.assert_allclose(matrix[:, 2], expected, atol=1e-12)


def test_rotation_vectors_agree_with_scipy():
    rng = np.random.default_rng(4)
    omega = rng.normal(size=(50, 3)) * rng.choice([1e-9, 1e-3, 1, 3], (50, 1))
    omega[0] = 0
    expected = Rotation.from_rotvec(omega).as_matrix()
    np.testing.assert_allclose(rotations.from_rotation_vector(omega), expected, atol=1e-12)


def test_random_rotations_are_rotations_and_uniform():
    sample = rotations.random(20_000, np.random.default_rng(5))
    squares = sample @ sample.transpose(0, 2, 1)
    np.testing.assert_allclose(squares, np.broadcast_to(np.eye(3), squares.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(sample), 1)
    # under the uniform distribution every entry has mean 0 and variance 1/3
    np.testing.assert_allclose(sample.mean(axis=0), 0, atol=0.02)
    np.testing.assert_allclose(sample.var(axis=0), 1 / 3, atol=0.02)
