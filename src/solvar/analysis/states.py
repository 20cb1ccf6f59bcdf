"""How many separate states there are: hills of the density that particles hold apart.

Two hills are separate where every way from one to the other is less than a third as populated as the lower
of them. What is looked at is coarser than the deconvolved density: a tenth of a typical particle's error
variance is put back, and every Gaussian is widened to twice its variance, since a mixture cuts a
plateau into Gaussians 0.29 of a piece wide, with valleys between them that no particle asked for.

A density has hills by chance, and more of them the fewer particles there are. So two hills are one state
where particles are less than a thousand times less likely with the valley filled, where there is no such
valley seen from the side (`valleys`), or where most random halves of the particles, each with a density made
anew, do not separate them. Motions of flat population, seen through a few components, have passes of a third
to two thirds (benchmarks/states.py).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture import Likelihoods, Mixture, best_count, fit_mixture, held_out
from solvar.analysis.neighbours import sample
from solvar.analysis.ridges import log_direct_passes, log_passes, over_other_hills, tops
from solvar.analysis.valleys import log_side_pass, told_by_particles, visible
from solvar.machine import available_cores
from solvar.threads import ThreadTeam

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SAMPLE = 10_000
_SPLITS = 10  # of which each asks two halves
_STARTS = 3
_VALLEY = np.log(1 / 3)
_MOST = 0.5
_DECISIVE = np.log(1000)
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class States:
    """S separate states of N particles, the most populated first; S = 1 where none is separate.

    Attributes
    ----------
    centre : (S, m) float64
        Hilltops in prior standard deviations, errors and shrinkage taken out.
    probability : (S,) float64
        Share of the resamples in which the state is separate from its neighbours.
    population, population_error : (S,) float64
        Share of the particles, and its standard error.
    membership : (N, S) float64
        Probability that a particle belongs to a state.
    counts : dict of int to float
        Share of the resamples that find so many states.
    """

    centre: Float64
    probability: Float64
    population: Float64
    population_error: Float64
    membership: Float64
    counts: dict[int, float]

    def __len__(self) -> int:
        return len(self.centre)

    @property
    def label(self) -> Int64:
        """State (N,) of each particle from 1; 0 where none is likelier than not, or none is separate."""
        best = self.membership.argmax(axis=1) + 1
        return np.where(self.membership.max(axis=1) > 0.5, best, 0) if len(self) > 1 else 0 * best


def deconvolved(seen: Likelihoods, seed: int = 0, team: ThreadTeam | None = None) -> Mixture:
    """The density of the latents of at most 10,000 particles, errors and shrinkage taken out.

    A team shares them out.
    """
    rng = np.random.default_rng(seed)
    some = seen.of_some(sample(len(seen), _SAMPLE, seed))
    count = best_count(some, rng, team)
    fitted = [fit_mixture(some, count, rng, team) for _ in range(_STARTS)]
    return max(fitted, key=partial(held_out, some))


def find_states(mixture: Mixture, seen: Likelihoods, seed: int = 0) -> States:
    """The separate states of a density.

    Parameters
    ----------
    mixture : Mixture
        Of `deconvolved`.
    seen : Likelihoods
        Of all particles.
    seed : int
    """
    shown = visible(mixture, seen)
    hills, hill_of = tops(shown, mixture.mean)
    resamples = _resamples(shown, seen, hills, seed)
    direct = log_direct_passes(shown, hills)
    passes = over_other_hills(direct)
    # what halves separate and the whole does not is no valley either
    separate = _below(passes) * np.mean([each.separate for each in resamples], axis=0)
    some = seen.of_some(sample(len(seen), _SAMPLE, seed))
    state_of_hill = _asked_for(mixture, some, hills, hill_of, direct, _merged(passes, separate))
    counts = [len(set(_merged(each.passes, each.separate))) for each in resamples]
    shares = np.stack([np.bincount(state_of_hill, each.share) for each in resamples])
    membership = _membership(mixture, seen, state_of_hill[hill_of])
    population = seen.weight @ membership / seen.weight.sum()
    order = np.argsort(-population, kind="stable")
    top = np.array([np.flatnonzero(state_of_hill == s)[0] for s in order])
    apart = separate[np.ix_(top, top)] + 2 * np.eye(len(top))
    found, share = np.unique(counts, return_counts=True)
    return States(
        centre=hills[top],
        probability=np.minimum(apart.min(axis=1), 1.0),
        population=population[order],
        # what half of the particles tell varies as much as what all of them do
        population_error=shares.std(axis=0)[order],
        membership=membership[:, order],
        counts={int(n): float(s) / len(counts) for n, s in zip(found, share, strict=True)},
    )


@dataclass(frozen=True, eq=False)
class _Resample:
    """What half of the particles say of H hills: passes between them, who is separate, shares."""

    passes: Float64
    separate: NDArray[np.bool_]
    share: Float64


def _resamples(shown: Mixture, seen: Likelihoods, hills: Float64, seed: int) -> list[_Resample]:
    """What random halves of the particles say of the hills (H, m) of a density."""
    rng = np.random.default_rng(seed + 1)
    some = sample(len(seen), _SAMPLE, seed)
    halves = [half for _ in range(_SPLITS) for half in _halves(some, seen, rng)]
    seeds = rng.integers(2**31, size=len(halves))
    ask = partial(_asked, shown, seen, hills)
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(ask, halves, seeds))


def _halves(some: Int64, seen: Likelihoods, rng: np.random.Generator) -> list[Int64]:
    """Some particles split at random; symmetry copies stay together."""
    particle = some if seen.particle is None else seen.particle[some]
    each, which = np.unique(particle, return_inverse=True)
    parts = np.array_split(rng.permutation(len(each)), 2)
    return [some[np.isin(which.reshape(-1), part)] for part in parts]


def _asked(shown: Mixture, seen: Likelihoods, hills: Float64, half: Int64, seed: int) -> _Resample:
    """What some particles say, by a density made of them alone."""
    part = seen.of_some(half)
    own = fit_mixture(part, len(shown), np.random.default_rng(seed))
    there = visible(own, part)
    reached, which = tops(there, hills)
    passes = log_passes(there, reached)[np.ix_(which, which)]
    _, place = tops(shown, np.concatenate([hills, own.mean]))
    hill_at = {int(at): h for h, at in reversed(list(enumerate(place[: len(hills)])))}
    share = np.zeros(len(hills))
    for at, part_share in zip(place[len(hills) :], own.share, strict=True):
        share[hill_at.get(int(at), 0)] += part_share
    return _Resample(passes, _below(passes), share)


def _below(passes: Float64) -> NDArray[np.bool_]:
    """Whether the best way between two hills (H, H) is a valley."""
    height = np.diag(passes)
    return passes - np.minimum(height[:, None], height) < _VALLEY


def _merged(passes: Float64, separate: Float64 | NDArray[np.bool_]) -> Int64:
    """State (H,) of each hill: from the lowest on, it joins one that is not apart, by the highest pass."""
    height = np.diag(passes)
    state = np.arange(len(height))
    for hill in np.argsort(height, kind="stable"):
        others = np.setdiff1d(np.unique(state), [hill])
        others = others[(height[others] > height[hill]) | (others < hill)]
        doubtful = others[separate[hill, others] <= _MOST]
        if len(doubtful):
            state[state == hill] = doubtful[np.argmax(passes[hill, doubtful])]
    _, numbered = np.unique(state, return_inverse=True)
    return numbered


def _asked_for(
    mixture: Mixture,
    seen: Likelihoods,
    hills: Float64,
    hill_of: Int64,
    direct: Float64,
    state: Int64,
) -> Int64:
    """States (H,) once those are one that no particles hold apart, the least told valley first.

    `hill_of` (K,) is that of each Gaussian, `direct` are the passes (H, H) of direct ways between hills.
    """
    height = np.diag(direct)
    shown = visible(mixture, seen)

    @cache
    def lost(start: int, end: int, level: float) -> float:
        return told_by_particles(mixture, seen, hills[start], hills[end], np.exp(level))

    while state.max() > 0:
        told = list[tuple[float, Int64]]()
        for one in range(state.max() + 1):
            # the highest way out
            out = np.where((state == one)[:, None] & (state != one), direct, -np.inf)
            ways = sorted(int(hill) for hill in np.unravel_index(out.argmax(), out.shape))
            level = min(height[state == state[hill]].max() for hill in ways)
            pair = state[ways]
            sides = [state[hill_of] == each for each in pair]
            apart = log_side_pass(shown, *sides) < _VALLEY
            told.append((lost(*ways, level) if apart else -np.inf, pair))
        least, pair = min(told, key=itemgetter(0))
        if least >= _DECISIVE:
            break
        _, state = np.unique(np.where(state == pair[1], pair[0], state), return_inverse=True)
    return state


def _membership(mixture: Mixture, seen: Likelihoods, state: Int64) -> Float64:
    """Probability (N, S) that a particle belongs to each state, by the state (K,) of each Gaussian."""
    from scipy.special import softmax

    found = np.empty((len(seen), state.max() + 1))
    for first in range(0, len(seen), _BLOCK):
        part = np.arange(first, min(first + _BLOCK, len(seen)))
        share = softmax(mixture.joint(seen.of_some(part)), axis=1)
        found[part] = share @ np.eye(found.shape[1])[state]
    return found
