"""Clusters of latents against discrete states."""

import numpy as np
import pytest

from solvar.evaluation import cluster_agreement, kmeans_labels
from solvar.evaluation.clustering import confusion


def test_names_of_clusters_do_not_matter():
    state = np.array([0, 0, 1, 1, 2, 2])
    assert cluster_agreement((state + 1) % 3, state) == pytest.approx({"ari": 1, "ami": 1})


def test_rand_index_of_a_case_worked_by_hand():
    # cells 2 1 / 0 3: pairs together in both 1 + 3 = 4; in rows 3 + 3 = 6; in columns 1 + 6 = 7; of 15;
    # expected 6·7/15 = 2.8; (4 - 2.8)/((6 + 7)/2 - 2.8)
    found = cluster_agreement(np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 0, 1, 1, 1]))
    assert found["ari"] == pytest.approx(1.2 / 3.7)
    assert 0 < found["ami"] < 1


def test_both_indices_agree_with_their_definitions_on_random_tables():
    # the program takes them from scikit-learn; these are sums over pairs and over permutations
    rng = np.random.default_rng(3)
    state = rng.integers(0, 3, 60)
    labels = np.where(rng.random(60) < 0.6, state, rng.integers(0, 4, 60))
    found = cluster_agreement(labels, state)
    assert found["ari"] == pytest.approx(pair_index(labels, state))

    def information(a, b):
        joint = np.histogram2d(a, b, bins=(np.arange(5), np.arange(5)))[0] / len(a)
        outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
        seen = joint > 0
        return np.sum(joint[seen] * np.log(joint[seen] / outer[seen]))

    chance = np.mean([information(rng.permutation(labels), state) for _ in range(2000)])
    most = (information(labels, labels) + information(state, state)) / 2
    expected = (information(labels, state) - chance) / (most - chance)
    assert found["ami"] == pytest.approx(expected, abs=0.01)


def pair_index(labels, state):
    """Adjusted Rand index by counting pairs."""
    first, second = np.triu_indices(len(state), 1)
    together, alike = labels[first] == labels[second], state[first] == state[second]
    expected = together.sum() * alike.sum() / len(first)
    return ((together & alike).sum() - expected) / ((together.sum() + alike.sum()) / 2 - expected)


def test_random_labels_get_about_nothing():
    rng = np.random.default_rng(0)
    found = cluster_agreement(rng.integers(0, 4, 4000), rng.integers(0, 4, 4000))
    assert abs(found["ari"]) < 0.01 and abs(found["ami"]) < 0.01


def test_kmeans_finds_separate_states():
    rng = np.random.default_rng(1)
    state = rng.integers(0, 3, 25_000)  # more than are fitted
    z = rng.standard_normal((25_000, 2)) + 20 * np.array([[0, 0], [1, 0], [0, 1]])[state]
    labels = kmeans_labels(z, 3)
    assert labels.shape == (25_000,)
    assert cluster_agreement(labels, state)["ari"] > 0.999
    np.testing.assert_array_equal(labels, kmeans_labels(z, 3))


def test_confusion_puts_matching_clusters_on_the_diagonal():
    state = np.array([5, 5, 5, 7, 7, 9])
    labels = np.array([2, 2, 0, 0, 0, 1])
    np.testing.assert_array_equal(confusion(labels, state), [[2, 1, 0], [0, 2, 0], [0, 0, 1]])
