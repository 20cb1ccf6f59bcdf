"""Clusters that were planted are found, as many as there are."""

import numpy as np
import pytest

from solvar.analysis.clusters import bic_by_count, find_clusters


def planted(counts, rank=4, distance=6.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(counts)), counts)
    centres = distance * np.eye(rank)[: len(counts)]
    return centres[truth] + rng.normal(size=(len(truth), rank)), truth


@pytest.mark.parametrize("counts", [(500, 300), (400, 300, 200), (300, 250, 200, 150)])
@pytest.mark.parametrize("method", ["kmeans", "mixture"])
def test_bic_finds_the_number_of_gaussians_and_labels_follow(counts, method):
    points, truth = planted(counts)
    found = find_clusters(points, method=method)
    assert len(found) == len(counts)
    # sorted by size, as the planted ones are
    assert (found.label == truth).mean() > 0.98
    np.testing.assert_array_equal(found.size, np.bincount(found.label))


def test_nearest_particle_is_the_nearest():
    points, _ = planted((300, 200))
    found = find_clusters(points, 5)
    distance = np.linalg.norm(points[:, None] - found.centre, axis=2)
    np.testing.assert_array_equal(found.nearest, distance.argmin(axis=0))
    assert found.bic == {}


def test_same_seed_same_clusters():
    points, _ = planted((300, 200))
    first, second = (find_clusters(points, 7, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.label, second.label)


def test_many_particles_take_the_minibatch_way(monkeypatch):
    monkeypatch.setattr("solvar.analysis.clusters._MINIBATCH_ABOVE", 500)
    points, truth = planted((600, 400))
    assert (find_clusters(points, 2).label == truth).mean() > 0.99


def test_few_particles_do_not_ask_for_more_gaussians_than_they_determine():
    points, _ = planted((12, 8), rank=2)
    assert max(bic_by_count(points)) <= 2
