"""Bands, batches and stopping."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from solvar.fitting.schedule import (
    drawn,
    has_settled,
    has_settled_on_its_own,
    marching_schedule,
    pose_rounds,
    pose_schedule,
    split_batches,
)
from solvar.fitting.settings import FitSettings


@pytest.mark.parametrize("k_max", [4, 7, 8, 10, 11, 15, 16, 31, 63, 127])
def test_bands_rise_to_the_finest_and_at_most_double(k_max: int) -> None:
    for schedule in (marching_schedule(k_max), pose_schedule(k_max, FitSettings())):
        radii = [each.k_c for each in schedule]
        assert radii[-1] == k_max
        assert all(a < b <= 2 * a for a, b in pairwise(radii))
        assert radii[0] <= 10


@pytest.mark.parametrize("k_max", [3, 4, 7, 8, 15, 31, 127])
def test_rounds_of_pose_refinement_rise_to_the_finest(k_max: int) -> None:
    radii = pose_rounds(k_max)
    assert radii[0] <= 4 and radii[-1] == k_max
    assert all(a < b <= 2 * a for a, b in pairwise(radii))


@pytest.mark.parametrize(("count", "size"), [(1, None), (3, None), (1000, None), (10, 64), (99, 7)])
def test_batches_partition_the_particles(count: int, size: int | None) -> None:
    index = np.arange(100, 100 + count)
    batches = split_batches(index, size, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), index)
    assert all(len(batch) for batch in batches)


def test_coarse_bands_of_many_particles_take_a_share_of_them() -> None:
    coarse, finest = marching_schedule(32)[0], marching_schedule(32)[-1]
    assert (coarse.taking_part(3000), coarse.taking_part(12_000)) == (3000, 12_000)
    assert coarse.taking_part(50_000) == 25_000 and coarse.taking_part(400_000) == 100_000
    assert finest.taking_part(400_000) == 400_000


@pytest.mark.parametrize(("count", "wanted"), [(5000, 1000), (40_000, 10_000), (50, 50), (50, 80)])
def test_particles_are_drawn_evenly_and_neighbours_together(count: int, wanted: int) -> None:
    index = np.arange(count) * 2
    found = drawn(index, wanted, np.random.default_rng(0))
    assert abs(len(found) - min(wanted, count)) < 32 and np.all(np.diff(found) > 0)
    assert np.isin(found, index).all() and abs(found.mean() / index.mean() - 1) < 0.05
    if count == 40_000:
        assert np.mean(np.diff(found) == 2) > 0.9


def test_batches_of_a_state_sorted_file_mix_the_states() -> None:
    batches = split_batches(np.arange(4000), None, np.random.default_rng(0))
    assert all(abs(batch.mean() - 2000) < 200 for batch in batches)


def test_settles_when_held_out_particles_gain_nothing() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(-500, 30, 2000)
    assert has_settled(before, before + rng.normal(0, 0.3, 2000))
    assert not has_settled(before, before + rng.normal(0.03, 0.3, 2000))
    assert has_settled(before, before - 0.01)
    assert not has_settled_on_its_own(10.0, 10.5)
    assert has_settled_on_its_own(10.5, 10.51)
