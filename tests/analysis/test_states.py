"""States are hills that come back; a plateau, a horseshoe and few particles have none."""

import numpy as np
import pytest

from analysis.test_density import measured
from solvar.analysis.mixture import Likelihoods, Mixture, fit_mixture
from solvar.analysis.ridges import log_passes, ridges, tops
from solvar.analysis.states import deconvolved, find_states
from solvar.analysis.valleys import log_side_pass, told_by_particles, visible
from solvar.analysis.words import gap_sentence, states_sentence


def found_in(truth, seed=0):
    seen = measured(truth, seed)
    return find_states(deconvolved(seen, seed), seen, seed)


def corners(count, share, seed=0):
    """Particles in narrow states at the corners of a square, and which one (N,)."""
    rng = np.random.default_rng(seed)
    state = rng.choice(len(share), count, p=share)
    place = np.array([[-1.2, -1.2], [1.2, 1.2], [1.2, -1.2], [-1.2, 1.2]])[state]
    return place + rng.normal(0, 0.1, (count, 2)), state


def plateau(count, seed):
    return np.random.default_rng(seed).uniform(-1.7, 1.7, (count, 2))


def horseshoe(count, seed):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-0.2, np.pi + 0.2, count)
    return 1.5 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 0.05, (count, 2))


def test_separate_states_are_found_with_their_shares():
    share = np.array([0.45, 0.3, 0.15, 0.1])
    truth, state = corners(1500, share)
    states = found_in(truth)
    assert len(states) == 4
    assert states.counts == {4: 1.0}
    assert (states.probability == 1).all()
    np.testing.assert_allclose(states.population, share, atol=0.03)
    assert (states.population_error < 0.02).all()
    assert np.mean(states.label == state + 1) > 0.97
    assert states.membership.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("shape", [plateau, horseshoe])
def test_a_continuum_has_no_states(shape, seed):
    states = found_in(shape(1000, seed), seed)
    assert len(states) == 1
    assert (states.label == 0).all()
    assert states.population == pytest.approx(1)


@pytest.mark.parametrize("seed", [3, 7])
def test_few_particles_have_no_states(seed):
    # those of seed 7 have a gap by chance, which nine in ten of their random halves have as well
    assert len(found_in(horseshoe(300, seed), seed)) == 1


@pytest.mark.parametrize(("apart", "least", "most"), [(2.4, 30, np.inf), (0.0, -1, 3)])
def test_filling_a_valley_costs_what_particles_say_for_it(apart, least, most):
    """Two Gaussians, fitted where there are two states and where there is one plateau."""
    rng = np.random.default_rng(0)
    if apart:
        truth = rng.choice([-apart / 2, apart / 2], (300, 1)) + rng.normal(0, 0.2, (300, 1))
    else:
        truth = rng.uniform(-1.7, 1.7, (300, 1))
    seen = measured(truth, 0)
    mixture = fit_mixture(seen, 2, rng)
    hills, _ = tops(visible(mixture, seen), mixture.mean)
    level = np.exp(visible(mixture, seen).log_density(hills).min())
    assert least <= told_by_particles(mixture, seen, hills[0], hills[-1], level) <= most


def seen_alike(truth, seed, error=0.3):
    """Through errors that are the same for all particles (N, m)."""
    image = truth + error * np.random.default_rng(seed).normal(size=truth.shape)
    information = np.tile(np.eye(truth.shape[1]) / error**2, (len(truth), 1, 1))
    return Likelihoods(information, image / error**2, np.ones(len(truth)))


@pytest.mark.parametrize("seed", [2, 5])
def test_two_motions_at_once_are_no_states(seed):
    """A sheet that bends in four components: without the look from the side both have three states."""
    first, second = np.random.default_rng(seed).uniform(0, np.pi, (2, 300))
    once, twice = [np.cos(first), np.cos(second)], [np.cos(2 * first), np.cos(2 * second)]
    seen = seen_alike(np.stack([*once, *(0.7 * np.array(twice))], axis=1) * 1.7, seed)
    assert len(find_states(deconvolved(seen, seed), seen, seed)) == 1


def test_states_are_found_across_a_motion():
    rng = np.random.default_rng(0)
    state, angle = rng.choice(2, 400, p=[0.7, 0.3]), rng.uniform(0, np.pi, 400)
    across = np.where(state == 0, -1.1, 1.1) + rng.normal(0, 0.2, 400)
    seen = seen_alike(np.stack([1.4 * np.cos(angle), 1.4 * np.sin(angle), across], axis=1), 0)
    states = find_states(deconvolved(seen), seen)
    assert len(states) == 2
    assert np.mean(states.label == state + 1) > 0.97


def patches(share):
    """Gaussians 1 apart on a grid, with these shares, and which column each is in."""
    row, column = np.indices(share.shape)
    mean = np.stack([column.ravel(), row.ravel()], axis=1).astype(float)
    mixture = Mixture(
        share.ravel() / share.sum(), mean, np.tile(0.2 * np.eye(2), (share.size, 1, 1))
    )
    return mixture, column.ravel()


def test_a_gap_in_part_of_a_sheet_is_no_valley_from_the_side():
    passes = list[float]()
    for rows in range(5):
        share = np.ones((4, 4))
        share[:rows, 1] = 0.05
        mixture, column = patches(share)
        passes.append(np.exp(log_side_pass(mixture, column < 2, column >= 2)))
    assert (np.diff(passes) < 0).all()
    assert passes[0] > 0.9
    assert passes[2] > 0.5
    assert passes[4] < 0.25


def test_the_side_view_does_not_depend_on_the_units_of_the_components():
    mixture, column = patches(np.array([[3.0, 0.4, 2.0], [2.0, 0.6, 1.0]]))
    change = np.array([[2.0, 0.3], [-0.5, 0.1]])
    turned = change @ mixture.covariance @ change.T
    other = Mixture(mixture.share, mixture.mean @ change.T, turned)
    sides = column < 1, column >= 1
    assert log_side_pass(other, *sides) == pytest.approx(log_side_pass(mixture, *sides), abs=1e-6)


def test_states_do_not_depend_on_the_order_of_the_particles():
    truth, _ = corners(1000, [0.6, 0.4])
    one, other = found_in(truth), found_in(truth[::-1])
    assert len(one) == len(other) == 2
    np.testing.assert_allclose(one.population, other.population, atol=0.02)


def test_ridges_bend_and_passes_are_where_the_way_is_lowest():
    angle = np.linspace(0, np.pi, 9)
    centre = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    arch = Mixture(np.full(9, 1 / 9), centre, np.tile(0.15 * np.eye(2), (9, 1, 1)))
    path = ridges(arch, centre[:1], centre[-1:])[0]
    assert np.abs(np.linalg.norm(path, axis=1) - 2).max() < 0.2
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert steps.std() < 0.05 * steps.mean()
    hills, which = tops(arch, centre)
    assert len(which) == 9
    passes = log_passes(arch, hills)
    height = arch.log_density(hills)
    np.testing.assert_allclose(np.diag(passes), height)
    assert (passes <= np.minimum(height[:, None], height) + 1e-9).all()
    # an even arch is hardly lower anywhere; straight across there is nothing
    assert passes.min() > height.min() - 0.3
    assert arch.log_density(np.zeros((1, 2)))[0] < passes.min() - 5


def told(count, resamples, population):
    return {
        "count": count,
        "resamples": resamples,
        "population": population,
        "population_error": [0.012] * count,
    }


def test_sentences_say_what_is_certain():
    assert states_sentence(None) is None
    assert states_sentence(told(1, {"1": 0.8, "2": 0.2}, [1.0])).startswith("No separate states")
    doubtful = states_sentence(told(1, {"2": 0.7, "4": 0.3}, [1.0]))
    assert doubtful.startswith("No state is certain")
    two = states_sentence(told(2, {"2": 0.95, "1": 0.05}, [0.7, 0.3]))
    assert "2 separate states, of 70 ± 1 %, 30 ± 1 %" in two and "1 in 5 %, 2 in 95 %" in two
    path = {"name": "own", "behind": [40, 3], "crosses_gap": True}
    assert "3 particles" in gap_sentence(path)
    assert gap_sentence(path | {"crosses_gap": False}) is None
