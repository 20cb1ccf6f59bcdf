"""Paths bend with the particles."""

import numpy as np
import pytest

from solvar.analysis.clusters import find_clusters
from solvar.analysis.density import log_density
from solvar.analysis.trajectories import build_graph, find_path, propose_ends, resampled
from solvar.errors import InputError

RADIUS = 1.5


def horseshoe(count=3000, rank=3, seed=0):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-0.2, np.pi + 0.2, count)
    points = rng.normal(0, 0.12, (count, rank))
    points[:, 0] += RADIUS * np.cos(angle)
    points[:, 1] += RADIUS * np.sin(angle)
    return points


def steps(points):
    return np.linalg.norm(np.diff(points, axis=0), axis=1)


@pytest.mark.parametrize("rank", [2, 3, 6])
def test_path_stays_on_the_horseshoe(rank):
    points = horseshoe(rank=rank)
    density = log_density(points, 15)
    graph = build_graph(points, density)
    start, end = points[points[:, 0].argmin()], points[points[:, 0].argmax()]
    path = find_path(graph, start, end, 20, log_density=density)
    # the ends are given: here the two particles that stick out most
    radius = np.linalg.norm(path.points[1:-1, :2], axis=1)
    assert np.all(np.abs(radius - RADIUS) < 0.35)
    assert path.length == pytest.approx(np.pi * RADIUS, rel=0.2)
    np.testing.assert_allclose(path.points[[0, -1]], [start, end], atol=1e-12)
    assert path.points[:, 1].max() > 0.85 * RADIUS
    # the straight line would leave the particles; the middle of the path is where most are
    assert np.median(path.log_density[2:-2]) > np.quantile(density, 0.4)


def test_points_are_equidistant():
    points = horseshoe()
    graph = build_graph(points, log_density(points, 15))
    path = find_path(graph, points[0], points[1], 12)
    assert steps(path.points).std() < 0.05 * steps(path.points).mean()
    corners = np.array([[0.0, 0], [1, 0], [1, 3]])
    np.testing.assert_allclose(resampled(corners, 5), [[0, 0], [1, 0], [1, 1], [1, 2], [1, 3]])


def test_separate_islands_are_bridged():
    rng = np.random.default_rng(0)
    islands = [rng.normal((x, 0), 0.1, (100, 2)) for x in (0, 5, 9)]
    points = np.concatenate(islands)
    graph = build_graph(points, log_density(points, 10), neighbours=5)
    path = find_path(graph, points[0], points[-1], 10)
    assert path.length == pytest.approx(9, rel=0.1)


def test_particles_on_the_same_spot_do_not_tear_the_graph():
    points = np.repeat(horseshoe(300, rank=2), 3, axis=0)
    graph = build_graph(points, log_density(points, 10), neighbours=10)
    path = find_path(graph, points[0], points[300], 5)
    assert np.isfinite(path.points).all()


def test_landmarks_are_enough():
    points = horseshoe(5000)
    graph = build_graph(points, log_density(points, 15), limit=800)
    assert len(graph.row) == 800
    np.testing.assert_array_equal(graph.points, points[graph.row])
    low, high = points[points[:, 0].argmin()], points[points[:, 0].argmax()]
    path = find_path(graph, low, high, 15)
    assert np.all(np.abs(np.linalg.norm(path.points[1:-1, :2], axis=1) - RADIUS) < 0.35)


def test_proposed_ends_are_what_their_names_say():
    points = horseshoe()
    density, clusters = log_density(points, 15), find_clusters(points, 4)
    low, high = propose_ends("extremes", points, density, clusters, axis=0)
    share = [(points[:, 0] < points[row, 0]).mean() for row in (low, high)]
    assert 0.02 < share[0] < 0.08 and 0.92 < share[1] < 0.98
    first, last = propose_ends("distant", points, density, clusters)
    assert np.linalg.norm(points[first] - points[last]) > 1.8 * RADIUS
    assert min(density[[first, last]]) >= np.median(density)
    assert set(propose_ends("densest", points, density, clusters)) <= set(clusters.nearest)


def test_ends_on_the_same_particle_are_refused():
    points = horseshoe(200)
    graph = build_graph(points, log_density(points, 10))
    with pytest.raises(InputError, match="same particle"):
        find_path(graph, points[3], points[3], 5)
