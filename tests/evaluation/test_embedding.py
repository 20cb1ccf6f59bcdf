"""Neighbourhoods and information imbalance of latents and true states."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from solvar.evaluation import information_imbalance, neighbourhood_similarity


def gaussian(count, dimensions, seed):
    return np.random.default_rng(seed).standard_normal((count, dimensions))


def test_identical_spaces_share_all_neighbours():
    z = gaussian(400, 3, 0)
    shared = neighbourhood_similarity(z, 5 * z[:, ::-1] + 2)
    np.testing.assert_allclose(shared.similarity, 1)
    assert information_imbalance(z, 5 * z) == pytest.approx(2 / 400)


def test_independent_spaces_share_what_chance_gives():
    z, other = gaussian(2000, 3, 0), gaussian(2000, 2, 1)
    shared = neighbourhood_similarity(z, other)
    np.testing.assert_allclose(shared.chance, shared.fraction, rtol=1e-9)
    np.testing.assert_allclose(shared.similarity, shared.fraction, atol=0.01)
    assert information_imbalance(z, other) == pytest.approx(1, abs=0.05)


def test_similarity_agrees_with_a_double_loop():
    z, other = gaussian(60, 2, 2), gaussian(60, 2, 2) + 0.3 * gaussian(60, 2, 3)
    shared = neighbourhood_similarity(z, other, fractions=(0.1, 0.5))
    for k, found in zip(shared.neighbours, shared.similarity, strict=True):
        overlap = 0
        for i in range(60):
            nearest = [
                set(np.argsort(np.linalg.norm(space - space[i], axis=1))[1 : k + 1])
                for space in (z, other)
            ]
            overlap += len(nearest[0] & nearest[1])
        assert found == pytest.approx(overlap / (60 * k))


def test_similarity_agrees_with_nearest_neighbours_of_scikit_learn():
    z = gaussian(300, 3, 8)
    other = z[:, :2] + 0.5 * gaussian(300, 2, 9)
    shared = neighbourhood_similarity(z, other, fractions=(0.05, 0.2))
    for k, found in zip(shared.neighbours, shared.similarity, strict=True):
        near, far = (
            NearestNeighbors(n_neighbors=int(k)).fit(space).kneighbors_graph()
            for space in (z, other)
        )
        assert found == pytest.approx(near.multiply(far).sum() / (300 * k))


def test_imbalance_agrees_with_its_definition():
    first, second = gaussian(50, 2, 4), gaussian(50, 2, 4) + 0.5 * gaussian(50, 2, 5)
    ranks = 0
    for i in range(50):
        near, far = (np.linalg.norm(space - space[i], axis=1) for space in (first, second))
        near[i] = far[i] = np.inf
        ranks += 1 + np.flatnonzero(np.argsort(far) == near.argmin())[0]
    assert information_imbalance(first, second) == pytest.approx(2 * ranks / 50**2)


def test_imbalance_tells_which_space_holds_more():
    plane = gaussian(1000, 2, 6)
    assert information_imbalance(plane, plane[:, :1]) < 0.1
    assert information_imbalance(plane[:, :1], plane) > 0.2


def test_particles_of_one_state_count_as_equally_near():
    state = np.repeat(np.arange(40), 25) / 40.0
    z = state[:, None] + 1e-4 * gaussian(1000, 1, 7)
    # 5 of the 24 that share the state: which, is nothing that latents could get wrong
    np.testing.assert_allclose(neighbourhood_similarity(z, state, fractions=(0.005,)).similarity, 1)
    # the mean rank among 24 equals is 12.5
    assert information_imbalance(z, state) == pytest.approx(2 * 12.5 / 1000)
    # and latents that know nothing gain nothing by it
    unrelated = gaussian(1000, 2, 8)
    shared = neighbourhood_similarity(unrelated, state)
    np.testing.assert_allclose(shared.similarity, shared.chance, atol=0.02)
    assert information_imbalance(unrelated, state) == pytest.approx(1, abs=0.08)


def test_many_particles_are_sampled_the_same_way_each_time():
    z, other = gaussian(900, 2, 9), gaussian(900, 2, 10)
    few = neighbourhood_similarity(z, other, most=300)
    assert few.neighbours[-1] == round(0.4 * 299)
    again = neighbourhood_similarity(z, other, most=300)
    np.testing.assert_array_equal(few.similarity, again.similarity)
    assert information_imbalance(z, z, most=300) == pytest.approx(2 / 300)


def test_particles_must_match():
    with pytest.raises(ValueError, match="same particles"):
        information_imbalance(gaussian(10, 2, 0), gaussian(11, 2, 0))
