"""Half-sets: the file's where it has them, a reproducible split where it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from particles import particle_files as files
from solvar.particles import assign_halfsets, read_particles
from solvar.particles.identity import image_uid


@pytest.fixture
def unsplit(tmp_path):
    particles = read_particles(files.write_star31(tmp_path))
    index = np.arange(1001) % files.COUNT
    uid = image_uid(["a.mrcs", "b.mrcs"], np.arange(1001) % 2, np.arange(1001) // 2)
    return replace(particles.select(index), uid=uid, halfset=np.zeros(1001, dtype=np.int8))


def test_half_sets_of_the_file_are_kept(tmp_path):
    particles = read_particles(files.write_star31(tmp_path))
    assert assign_halfsets(particles, 3) is particles


@pytest.mark.parametrize("given", [[1, 1, 1, 1, 1, 1], [1, 2, 1, 2, 1, 0], [0, 0, 0, 0, 0, 0]])
def test_useless_half_sets_are_replaced(tmp_path, given):
    particles = read_particles(files.write_star31(tmp_path))
    particles = replace(particles, halfset=np.array(given, dtype=np.int8))
    assert sorted(assign_halfsets(particles, 0).halfset) == [1, 1, 1, 2, 2, 2]


def test_split_is_balanced_and_depends_on_the_seed(unsplit):
    first, second = (assign_halfsets(unsplit, seed).halfset for seed in (0, 1))
    assert np.count_nonzero(first == 1) == 501
    assert 400 < np.count_nonzero(first == second) < 600
    np.testing.assert_array_equal(first, assign_halfsets(unsplit, 0).halfset)


def test_order_of_rows_does_not_change_the_split(unsplit):
    order = np.random.default_rng(0).permutation(len(unsplit))
    shuffled = assign_halfsets(unsplit.select(order), 7).halfset
    np.testing.assert_array_equal(shuffled, assign_halfsets(unsplit, 7).halfset[order])


def test_split_is_independent_of_position_in_the_stack(unsplit):
    halfset = assign_halfsets(unsplit, 7).halfset
    thirds = [np.count_nonzero(part == 1) / len(part) for part in np.array_split(halfset, 3)]
    assert max(abs(t - 0.5) for t in thirds) < 0.1


def test_image_uids_are_distinct():
    stack, frame = np.divmod(np.arange(200_000), 1000)
    uid = image_uid([f"stack{i}.mrcs" for i in range(200)], stack, frame)
    assert len(np.unique(uid)) == len(uid)
