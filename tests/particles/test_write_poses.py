"""Poses written for cryoDRGN are read back as they were, here and by old and new numpy."""

import pickle
import warnings

import numpy as np
import pytest

from solvar.particles import write_poses_pickle
from solvar.particles.cryodrgn import read_poses, scale_poses
from synthetic import make_particles


@pytest.fixture
def particles(tmp_path):
    return make_particles(tmp_path, count=50, box=16)


def test_our_own_reader_gives_back_the_poses(tmp_path, particles):
    write_poses_pickle(tmp_path / "poses.pkl", particles)
    poses = scale_poses(
        *read_poses(tmp_path / "poses.pkl"), particles.optics, particles.exposures.optics_group
    )
    np.testing.assert_allclose(poses.rotation, particles.poses.rotation, atol=1e-6)
    np.testing.assert_allclose(poses.shift_angstrom, particles.poses.shift_angstrom, atol=1e-5)


def test_file_is_what_cryodrgn_expects(tmp_path, particles):
    write_poses_pickle(tmp_path / "poses.pkl", particles)
    content = (tmp_path / "poses.pkl").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rotation, fraction = pickle.loads(content)
    assert b"numpy.core.multiarray" in content and b"numpy._core" not in content
    assert rotation.dtype == fraction.dtype == np.float32
    np.testing.assert_allclose(rotation[7].T, particles.poses.rotation[7], atol=1e-6)
    width = particles.box_size * particles.pixel_size_angstrom
    np.testing.assert_allclose(fraction * width, particles.poses.shift_angstrom, atol=1e-5)
