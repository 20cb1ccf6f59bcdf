"""Associations are found where they were planted, and nowhere else."""

import numpy as np
import pytest

from solvar.analysis.diagnostics import (
    angular_coverage,
    associations,
    compare_groups,
    compare_halves,
    plain_warnings,
    regress,
    view_harmonics,
)
from solvar.imaging import rotations

COUNT = 4000


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def factors(rng):
    return {
        "viewing direction": view_harmonics(rotations.random(COUNT, rng)),
        "defocus": rng.normal(size=(COUNT, 2)),
        "micrograph": rng.integers(0, 200, COUNT),
    }


def test_nothing_is_found_where_nothing_was_planted(rng):
    found = associations(rng.normal(size=(COUNT, 5)), np.arange(5), factors(rng))
    assert len(found) == 15
    assert not any(one.worrying for one in found)
    assert max(abs(one.r_squared) for one in found) < 0.02
    assert min(one.p_value for one in found) > 1e-3


@pytest.mark.parametrize("factor", ["viewing direction", "defocus", "micrograph"])
def test_planted_association_is_found_with_its_size_and_told(rng, factor):
    known = factors(rng)
    column = known[factor]
    if column.ndim == 1:
        signal = rng.normal(size=200)[column]
    else:
        signal = column @ rng.normal(size=column.shape[1])
    z = rng.normal(size=(COUNT, 3))
    z[:, 1] += 0.5 * signal / signal.std()  # a fifth of the variance
    found = associations(z, np.arange(3), known)
    worrying = [one for one in found if one.worrying]
    assert [(one.factor, one.component) for one in worrying] == [(factor, 2)]
    assert worrying[0].r_squared == pytest.approx(0.2, abs=0.05)
    (sentence,) = plain_warnings(found, np.ones(2), [])
    assert sentence.startswith(f"Component 2 follows the {factor} (")


def test_p_values_are_uniform_without_association(rng):
    from scipy.stats import kstest

    values = rng.normal(size=(300, 500))
    for test in (
        regress(values, rng.normal(size=(300, 8))),
        compare_groups(values, rng.integers(0, 20, 300)),
    ):
        assert kstest(test[1], "uniform").pvalue > 0.01
        assert abs(test[0].mean()) < 0.01


def test_constant_regressors_explain_nothing(rng):
    r_squared, p_value = regress(rng.normal(size=(50, 2)), np.ones((50, 3)))
    assert (r_squared == 0).all() and (p_value == 1).all()
    r_squared, _ = compare_groups(rng.normal(size=(50, 2)), np.arange(50))
    assert (r_squared == 0).all()


def test_cluster_from_a_cone_of_views_is_told(rng):
    rotation = rotations.random(COUNT, rng)
    label = (np.abs(rotation[:, 2, 2]) > 0.85).astype(np.int64)
    coverage = angular_coverage(rotation, label)
    assert coverage[0] > 0.8 and coverage[1] < 0.35
    assert "Cluster 2 sees only" in plain_warnings([], coverage, [])[0]


def test_small_cluster_with_even_views_is_not_told(rng):
    rotation = rotations.random(COUNT, rng)
    label = (np.arange(COUNT) < 100).astype(np.int64)
    assert angular_coverage(rotation, label).min() > 0.85


def test_halves_are_compared(rng):
    z, half = rng.normal(size=(COUNT, 2)), 1 + np.arange(COUNT) % 2
    assert not any(one.worrying for one in compare_halves(z, np.arange(2), half))
    z[half == 2, 1] += 0.5
    first, second = compare_halves(z, np.arange(2), half)
    assert second.worrying and not first.worrying
    assert second.energy_distance > 3 * first.energy_distance
    assert compare_halves(z, np.arange(2), np.ones(COUNT)) == []
