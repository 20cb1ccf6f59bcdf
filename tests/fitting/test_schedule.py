"""Bands, batches and stopping."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from solvar.fitting.schedule import (
    has_settled,
    has_settled_on_its_own,
    marching_schedule,
    pose_rounds,
    pose_schedule,
    schedule_bands,
    schedule_final,
    spare_columns,
    split_batches,
    under_spatial_prior,
    with_spare,
)
from solvar.fitting.settings import FitSettings


@pytest.mark.parametrize("k_max", [4, 7, 8, 10, 11, 15, 16, 31, 63, 127])
def test_bands_rise_to_the_finest_and_at_most_double(k_max: int) -> None:
    for schedule in (marching_schedule(k_max), pose_schedule(k_max, FitSettings())):
        radii = [each.k_c for each in schedule]
        assert radii[-1] == k_max
        assert all(a < b <= 2 * a for a, b in pairwise(radii))
        assert radii[0] <= 10


@pytest.mark.parametrize("k_max", [4, 8, 10, 31])
@pytest.mark.parametrize("particles", [500, 50_000])
def test_random_columns_have_time_to_grow(k_max: int, particles: int) -> None:
    first, *others = schedule_bands(k_max, FitSettings(), particles)
    assert first.most_sweeps >= first.fewest_sweeps == 8
    assert all(each.fewest_sweeps == 1 for each in others)
    assert under_spatial_prior(first, k_max).fewest_sweeps == 1


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


def test_few_particles_take_spare_columns_and_more_sweeps() -> None:
    few, many = FitSettings(rank=10), FitSettings(rank=10, halfsets=False)
    assert schedule_final(3000, few).wide_sweeps > 0 and spare_columns(3000, few) == 6
    # nothing to merge, all eight batches, the published schedule
    for particles, settings in ((3000, many), (20_000, few), (3000, FitSettings(solver="adam"))):
        assert schedule_final(particles, settings).wide_sweeps == 0
        assert spare_columns(particles, settings) == 0
    assert with_spare([4, 10]) == [8, 16]
    last = [schedule_bands(31, few, count)[-1].most_sweeps for count in (3000, 20_000)]
    assert last[0] > last[1] == 2
    # batches of a size that the user names count as well
    assert schedule_final(3000, FitSettings(batch_size=100)).wide_sweeps == 0


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
