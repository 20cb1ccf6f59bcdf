"""Deconvolution undoes errors and shrinkage; held-out particles decide when it stops."""

import numpy as np
import pytest

from solvar.analysis.density import deconvolve, log_density

WIDTH, DISTANCE = 0.2, 1.2
PRIOR = np.array([4.0, 1.0])


def measured(count=6000, seed=0):
    """Posterior means and covariances of two narrow states that are seen with known, varying errors."""
    rng = np.random.default_rng(seed)
    state = np.where(rng.random(count) < 0.6, -1.0, 1.0)
    truth = np.stack([DISTANCE * state, 0 * state], axis=1) + rng.normal(0, WIDTH, (count, 2))
    truth *= np.sqrt(PRIOR)
    turn = rng.uniform(0, np.pi, count)
    axes = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], 1).reshape(-1, 2, 2)
    strength = rng.uniform(2, 12, (count, 2))
    information = np.einsum("nji,nj,njk->nik", axes, strength, axes)
    scale = np.sqrt(PRIOR)
    information = information / np.outer(scale, scale)
    covariance = np.linalg.inv(information + np.diag(1 / PRIOR))
    error = np.einsum(
        "nij,nj->ni", np.linalg.cholesky(np.linalg.inv(information)), rng.normal(size=(count, 2))
    )
    seen = np.einsum("nij,njk,nk->ni", covariance, information, truth + error)
    return truth, seen, covariance


def width_of_left_state(density, nodes, middle):
    share = density.sum(axis=0) * (nodes < middle)
    share = share / share.sum()
    return np.sqrt((share * (nodes - share @ nodes) ** 2).sum())


def on_grid(truth, found):
    edges = [
        np.append(n - (n[1] - n[0]) / 2, n[-1] + (n[1] - n[0]) / 2) for n in (found.y, found.x)
    ]
    counts, _, _ = np.histogram2d(truth[:, 1], truth[:, 0], bins=edges)
    return counts / counts.sum()


def test_deconvolved_density_is_narrower_than_the_raw_one_and_closer_to_the_truth():
    from scipy.ndimage import gaussian_filter

    _, seen, covariance = measured()
    found = deconvolve(seen, covariance, PRIOR)
    raw, sharp = (
        width_of_left_state(density, found.x, 0.0) for density in (found.raw, found.deconvolved)
    )
    assert sharp < 0.85 * raw
    many = on_grid(measured(200_000, seed=1)[0], found)
    # a smoothed histogram is the fair rival: the raw one is also rough
    rivals = [gaussian_filter(found.raw, width) for width in (0, 1, 2)]
    error = np.abs(found.deconvolved - many).sum()
    assert error < 0.7 * min(np.abs(rival - many).sum() for rival in rivals)


def test_shrinkage_towards_zero_is_undone():
    truth, seen, covariance = measured()
    found = deconvolve(seen, covariance, PRIOR)
    left = found.x < 0
    share = found.deconvolved.sum(axis=0)
    mean = (share * found.x)[left].sum() / share[left].sum()
    expected = truth[truth[:, 0] < 0, 0].mean()
    assert abs(mean - expected) < 0.05 * abs(expected)
    assert abs(seen[seen[:, 0] < 0, 0].mean()) < 0.9 * abs(expected)


def test_densities_sum_to_one_and_are_not_negative():
    _, seen, covariance = measured(500)
    found = deconvolve(seen, covariance, PRIOR, grid=32)
    for density in (found.raw, found.deconvolved):
        assert density.shape == (32, 32)
        assert density.sum() == pytest.approx(1)
        assert density.min() >= 0


def test_held_out_likelihood_stops_before_noise_is_fitted():
    _, seen, covariance = measured(800)
    found = deconvolve(seen, covariance, PRIOR)
    assert 1 <= found.iterations < 250
    assert found.held_out[found.iterations] == found.held_out.max()
    assert found.held_out[found.iterations] > found.held_out[0]


def test_gaussian_population_gives_its_prior_back():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5000, 2)) * np.sqrt(PRIOR)
    covariance = np.tile(np.diag(PRIOR / 3), (5000, 1, 1))
    error = rng.normal(size=(5000, 2)) * np.sqrt(PRIOR / 2)
    found = deconvolve((truth + error) * 2 / 3, covariance, PRIOR)
    share = found.deconvolved.sum(axis=0)
    mean = share @ found.x
    assert share @ (found.x - mean) ** 2 == pytest.approx(PRIOR[0], rel=0.12)


@pytest.mark.parametrize("rank", [2, 6])
def test_particle_density_follows_the_true_density(rank):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3000, rank))
    found = log_density(points, 15)
    truth = -0.5 * (points**2).sum(axis=1)
    assert np.median(found) == pytest.approx(0)
    assert np.corrcoef(found, truth)[0, 1] > 0.85


def test_particle_density_does_not_depend_on_being_a_reference(monkeypatch):
    monkeypatch.setattr("solvar.analysis.density._SAMPLE", 1000)
    points = np.random.default_rng(0).normal(size=(4000, 3))
    found = log_density(points, 10)
    reference = np.zeros(4000, bool)
    from solvar.analysis.neighbours import sample

    reference[sample(4000, 1000, 0)] = True
    assert abs(found[reference].mean() - found[~reference].mean()) < 0.15
