"""The density of the latents: errors and shrinkage are taken out, each particle's own."""

import numpy as np
import pytest

from solvar.analysis.density import density_map, log_density
from solvar.analysis.mixture import (
    Likelihoods,
    Mixture,
    best_count,
    fit_mixture,
    held_out,
    improved,
)

WIDTH, DISTANCE = 0.2, 1.2


def measured(truth, seed=0, weight=None):
    """What images of known, varying errors say of latents (N, 2), and the posterior means."""
    rng = np.random.default_rng(seed)
    count = len(truth)
    turn = rng.uniform(0, np.pi, count)
    axes = np.stack([np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)], 1).reshape(-1, 2, 2)
    information = np.einsum("nji,nj,njk->nik", axes, rng.uniform(2, 12, (count, 2)), axes)
    covariance = np.linalg.inv(information + np.eye(2))
    noise = np.linalg.cholesky(np.linalg.inv(information))
    image = truth + np.einsum("nij,nj->ni", noise, rng.normal(size=(count, 2)))
    mean = np.einsum("nij,njk,nk->ni", covariance, information, image)
    return Likelihoods.of(mean, covariance, np.ones(count) if weight is None else weight)


def two_states(count=4000, seed=0):
    rng = np.random.default_rng(seed)
    side = np.where(rng.random(count) < 0.6, -1.0, 1.0)
    return np.stack([DISTANCE * side, 0 * side], axis=1) + rng.normal(0, WIDTH, (count, 2))


def test_likelihoods_give_the_posterior_back():
    seen = measured(two_states(500))
    rng = np.random.default_rng(1)
    covariance = np.linalg.inv(seen.information + np.eye(2))
    mean = np.einsum("nij,nj->ni", covariance, seen.towards)
    np.testing.assert_allclose(seen.expected, mean, atol=1e-10)
    again = Likelihoods.of(mean, covariance, rng.random(500))
    np.testing.assert_allclose(again.information, seen.information, atol=1e-8)
    np.testing.assert_allclose(again.towards, seen.towards, atol=1e-8)


def test_evidence_is_the_integral_of_likelihood_and_density():
    seen = measured(two_states(3))
    mixture = Mixture(
        np.array([0.3, 0.7]), np.array([[0.0, 1], [1, -1]]), np.array([np.eye(2), [[0.5, 0.2], [0.2, 0.3]]])
    )  # fmt: skip
    side = np.linspace(-8, 8, 641)
    nodes = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(mixture.log_density(nodes))
    area = (side[1] - side[0]) ** 2
    assert density.sum() * area == pytest.approx(1, rel=1e-3)
    for i in range(3):
        square = np.einsum("ni,ij,nj->n", nodes, seen.information[i], nodes)
        image = np.exp(nodes @ seen.towards[i] - 0.5 * square)
        expected = np.log((image * density).sum() * area)
        assert np.logaddexp.reduce(mixture.joint(seen)[i]) == pytest.approx(expected, abs=1e-3)


def test_errors_and_shrinkage_are_taken_out():
    truth = two_states()
    seen = measured(truth)
    mixture = fit_mixture(seen, 2, np.random.default_rng(0))
    left = mixture.mean[:, 0].argmin()
    assert mixture.mean[left, 0] == pytest.approx(-DISTANCE, abs=0.05)
    assert np.mean(seen.expected[truth[:, 0] < 0, 0]) > -0.9 * DISTANCE
    # some of the width is the error that a Gaussian is not told narrower than
    assert np.sqrt(mixture.covariance[left, 0, 0]) == pytest.approx(WIDTH, abs=0.05)
    assert mixture.share[left] == pytest.approx(np.mean(truth[:, 0] < 0), abs=0.02)


def test_a_step_never_makes_particles_less_likely_beyond_its_prior():
    seen = measured(two_states(600))
    rng = np.random.default_rng(0)
    start = Mixture(np.full(3, 1 / 3), rng.normal(size=(3, 2)), np.tile(np.eye(2), (3, 1, 1)))
    assert held_out(seen, improved(start, seen)) > held_out(seen, start) + 0.1


def test_held_out_particles_tell_how_many_gaussians_there_are():
    assert best_count(measured(two_states(2000)), np.random.default_rng(0)) == 2
    plain = np.random.default_rng(1).normal(size=(2000, 2))
    assert best_count(measured(plain), np.random.default_rng(0)) == 1


def test_images_without_a_particle_do_not_count():
    truth = two_states(2000)
    weight = np.where(truth[:, 0] < 0, 1.0, 0.0)
    mixture = fit_mixture(measured(truth, weight=weight), 1, np.random.default_rng(0))
    assert mixture.mean[0, 0] == pytest.approx(-DISTANCE, abs=0.05)


def drawn(truth, grid=48):
    seen = measured(truth)
    mixture = fit_mixture(
        seen, best_count(seen, np.random.default_rng(0)), np.random.default_rng(0)
    )
    return density_map(mixture, seen, np.array([2.0, 3.0]), components=(0, 1), grid=grid)


def test_map_is_narrower_than_what_was_measured_and_lies_where_particles_do():
    found = drawn(two_states())
    for density in (found.raw, found.deconvolved):
        assert density.shape == (48, 48)
        assert density.sum() == pytest.approx(1)
        assert density.min() >= 0
    across = [density.sum(axis=1) for density in (found.raw, found.deconvolved)]
    raw, sharp = (np.sqrt(share @ (found.y - share @ found.y) ** 2) for share in across)
    assert sharp < 0.95 * raw
    along = found.deconvolved.sum(axis=0)
    assert (along[found.x < 0] @ found.x[found.x < 0]) / along[found.x < 0].sum() == pytest.approx(
        -2 * DISTANCE, abs=0.15
    )


def test_nothing_is_drawn_where_no_particle_is():
    found = drawn(two_states())
    middle = np.abs(found.x) < 0.3
    assert found.deconvolved[:, middle].max() < 0.02 * found.deconvolved.max()
    assert (found.deconvolved[[0, -1]] == 0).all()


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
