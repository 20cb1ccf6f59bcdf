"""Distances between recovered and true populations."""

import numpy as np
import pytest

from solvar.analysis.space import LatentSpace
from solvar.evaluation.populations import (
    coordinate_metrics,
    earth_movers_distance,
    recovered_coordinates,
    share_metrics,
)

N = 2000
# E|x| of a standard Gaussian: the earth mover's distance of two centred ones is this times the
# difference of their standard deviations, and that of a single point this times the standard deviation
GAUSSIAN = np.sqrt(2 / np.pi)


def seen_with(latent, noise_variance, seed=0):
    """Posterior of latents (N, m), prior variance 1, from observations with noise of this variance."""
    count, rank = latent.shape
    noise = np.random.default_rng(seed).standard_normal(latent.shape)
    observed = latent + np.sqrt(noise_variance) * noise
    precision = (1 + 1 / noise_variance) * np.eye(rank)
    z = observed / (1 + noise_variance)
    every = np.broadcast_to(precision, (count, rank, rank))
    return LatentSpace(z, every, np.ones(rank), np.arange(rank))


def gaussian(rank, seed=1):
    return np.random.default_rng(seed).standard_normal((N, rank))


def test_a_stretched_and_moved_sample_is_as_far_as_its_points_move():
    x = np.random.default_rng(0).random((500, 1))
    np.testing.assert_allclose(earth_movers_distance(2 * x + 1, x), 1 + x.mean())
    both = earth_movers_distance(np.hstack([x, x]), np.hstack([x, x - 3]))
    np.testing.assert_allclose(both, [0, 3], atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_shrinkage_is_in_the_distance_of_posterior_means_and_not_in_that_of_the_density(scale):
    latent = gaussian(1)
    metrics = coordinate_metrics(seen_with(latent, 1.0), scale * latent + 5)
    # half of the variance is left to posterior means
    shrunk = GAUSSIAN * (1 - np.sqrt(0.5))
    assert metrics["posterior_means_distance"][0] == pytest.approx(scale * shrunk, rel=0.15)
    assert metrics["posterior_means_distance_over_sd"][0] == pytest.approx(shrunk, rel=0.15)
    assert metrics["distance_over_sd"][0] < 0.07
    assert metrics["single_point_distance"][0] == pytest.approx(scale * GAUSSIAN, rel=0.05)


def test_what_latents_do_not_hold_is_missing_from_the_population():
    hidden = gaussian(2)
    metrics = coordinate_metrics(seen_with(hidden[:, :1], 0.1), hidden.sum(axis=1))
    assert metrics["distance"][0] == pytest.approx(GAUSSIAN * (np.sqrt(2) - 1), rel=0.15)


def test_a_curved_map_of_two_hills_is_followed():
    rng = np.random.default_rng(2)
    hill = np.where(rng.random(N) < 0.3, 1.0, -1.0) + 0.2 * rng.standard_normal(N)
    latent = (hill - hill.mean())[:, None] / hill.std()
    true = np.exp(latent[:, 0])
    metrics = coordinate_metrics(seen_with(latent, 0.1), true)
    assert metrics["distance_over_sd"][0] < 0.04
    assert metrics["posterior_means_distance_over_sd"][0] > 0.07


@pytest.mark.parametrize("collapsed", [gaussian(2, seed=5), np.zeros((N, 2))])
def test_latents_that_tell_nothing_are_as_far_as_a_single_point(collapsed):
    true = gaussian(1, seed=6)
    space = LatentSpace(
        collapsed, np.broadcast_to(20 * np.eye(2), (N, 2, 2)), np.ones(2), np.arange(2)
    )
    metrics = coordinate_metrics(space, true)
    for name in ("distance", "posterior_means_distance"):
        assert metrics[name][0] == pytest.approx(metrics["single_point_distance"][0], rel=0.05)


def test_coordinates_are_told_by_particles_of_the_other_half():
    # a map that had seen these coordinates could follow some of them
    true = gaussian(1, seed=8)[:60]
    drawn = recovered_coordinates(seen_with(gaussian(3)[:60], 0.01), true)
    assert np.corrcoef(drawn.mean(axis=0)[:, 0], true[:, 0])[0, 1] < 0.3


def test_no_draw_is_outside_the_range_of_the_true_coordinates():
    true = np.random.default_rng(9).uniform(-1.7, 1.7, (N, 1))
    drawn = recovered_coordinates(seen_with(true, 0.1), true)
    assert true.min() <= drawn.min() and drawn.max() <= true.max()


def test_a_coordinate_that_is_constant_has_no_share_of_its_spread():
    latent = gaussian(1)
    metrics = coordinate_metrics(seen_with(latent, 0.5), np.hstack([latent, np.ones((N, 1))]))
    assert metrics["distance"][1] == 0 and metrics["distance_over_sd"][1] is None
    assert metrics["distance_over_sd"][0] < 0.1


def test_states_whose_latents_are_apart_have_their_true_shares():
    state = np.repeat([2, 5, 9], [600, 300, 100])
    z = np.eye(3)[np.searchsorted([2, 5, 9], state)]
    shares = share_metrics(z + 0.01 * np.random.default_rng(0).standard_normal(z.shape), state)
    assert shares["states"] == [2, 5, 9] and shares["total_variation"] == 0
    np.testing.assert_allclose(shares["recovered_share"], [0.6, 0.3, 0.1])
    assert shares["single_state_total_variation"] == pytest.approx(0.4)


def test_a_state_in_the_place_of_a_larger_one_is_lost_to_it():
    state = np.repeat([0, 1, 2], [600, 350, 50])
    place = np.array([0.0, 1.0, 0.0])[state]
    z = place[:, None] + 0.01 * np.random.default_rng(0).standard_normal((1000, 1))
    shares = share_metrics(z, state)
    assert shares["total_variation"] == pytest.approx(0.05, abs=0.005)
    assert shares["recovered_share"][2] < 0.005


def test_few_particles_have_no_distances():
    latent = gaussian(1)[:19]
    assert coordinate_metrics(seen_with(latent, 1.0), latent) == {}
    assert share_metrics(latent, np.arange(19) % 2) == {}
