"""Paths follow the particles, and say how many stand behind each point."""

import numpy as np
import pytest

from analysis.test_density import measured
from solvar.analysis.clusters import find_clusters
from solvar.analysis.density import log_density
from solvar.analysis.mixture import Likelihoods
from solvar.analysis.ridges import equidistant
from solvar.analysis.states import deconvolved
from solvar.analysis.trajectories import Field, find_path, propose_ends
from solvar.errors import InputError

RADIUS = 1.5


def horseshoe(count=2000, rank=3, seed=0):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-0.2, np.pi + 0.2, count)
    points = rng.normal(0, 0.12, (count, rank))
    points[:, 0] += RADIUS * np.cos(angle)
    points[:, 1] += RADIUS * np.sin(angle)
    return points


def seen_field(points, error=0.02):
    """The field of latents (N, m) that are seen with an error of this variance."""
    covariance = np.tile(error / (1 + error) * np.eye(points.shape[1]), (len(points), 1, 1))
    seen = Likelihoods.of(points, covariance, np.ones(len(points)))
    return Field.of(deconvolved(seen), seen)


@pytest.mark.parametrize("rank", [2, 3, 6])
def test_path_stays_on_the_horseshoe(rank):
    points = horseshoe(rank=rank)
    field = seen_field(points)
    start, end = points[points[:, 0].argmin()], points[points[:, 0].argmax()]
    path = find_path(field, start, end, 20, log_density=log_density(points, 15))
    # the ends are given: here the two particles that stick out most
    radius = np.linalg.norm(path.points[1:-1, :2], axis=1)
    assert np.all(np.abs(radius - RADIUS) < 0.3)
    assert path.length == pytest.approx(np.pi * RADIUS, rel=0.2)
    np.testing.assert_allclose(path.points[[0, -1]], [start, end], atol=1e-12)
    steps = np.linalg.norm(np.diff(path.points, axis=0), axis=1)
    assert steps.std() < 0.1 * steps.mean()
    assert not path.crosses_gap
    across = field.behind(np.zeros((1, rank)))
    assert across < 10 < path.behind[1:-1].min()


def test_particles_behind_a_point_are_as_many_as_are_within_an_error():
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, (4000, 2))
    field = seen_field(truth, error=0.2)
    # Σ exp(-d²/2) over the latents themselves
    away = truth / np.sqrt(0.2)
    expected = np.exp(-0.5 * (away**2).sum(axis=1)).sum()
    assert field.behind(np.zeros((1, 2)))[0] == pytest.approx(expected, rel=0.5)


def test_a_path_between_islands_crosses_a_gap():
    rng = np.random.default_rng(0)
    islands = [rng.normal((x, 0), 0.1, (300, 2)) for x in (-1.5, 1.5)]
    points = np.concatenate(islands)
    path = find_path(seen_field(points), points[0], points[-1], 10)
    assert path.crosses_gap and path.behind.min() == 0
    assert path.length == pytest.approx(3, rel=0.15)


def test_points_are_equidistant():
    corners = np.array([[0.0, 0], [1, 0], [1, 3]])
    np.testing.assert_allclose(equidistant(corners, 5), [[0, 0], [1, 0], [1, 1], [1, 2], [1, 3]])


def test_proposed_ends_are_what_their_names_say():
    points = horseshoe()
    field, density, clusters = seen_field(points), log_density(points, 15), find_clusters(points, 4)
    low, high = propose_ends("extremes", field, density, clusters, axis=0)
    share = [(points[:, 0] < points[row, 0]).mean() for row in (low, high)]
    assert 0.02 < share[0] < 0.08 and 0.92 < share[1] < 0.98
    first, last = propose_ends("distant", field, density, clusters)
    way = find_path(field, points[first], points[last], 20)
    # the straight line between the two ends of the horseshoe is much shorter than the way
    assert way.length > 1.2 * 2 * RADIUS
    assert set(propose_ends("densest", field, density, clusters)) <= set(clusters.nearest)


def test_one_gaussian_has_no_longest_way():
    points = np.random.default_rng(0).normal(size=(400, 2))
    seen = measured(points)
    field = Field.of(deconvolved(seen), seen)
    if len(field.density) == 1:
        first, last = propose_ends("distant", field, np.zeros(400), find_clusters(points, 2))
        assert first == last


def test_ends_on_the_same_particle_are_refused():
    points = horseshoe(200)
    with pytest.raises(InputError, match="same particle"):
        find_path(seen_field(points), points[3], points[3], 5)
