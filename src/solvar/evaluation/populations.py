"""How far the recovered population is from the true one.

Latents and true coordinates are in different spaces. The map between them is a smooth regression of the true
coordinate on latents, learned on one half of the particles and used for the other, and the other way round.
Two distributions are compared with the true one:

density
    Draws from the posterior of every particle under the deconvolved density of all (`analysis.mixture`); all
    draws together follow that density. Errors and shrinkage are taken out: this is the recovered population.
posterior means
    The mean of the draws of each particle. Noise pulls it to the middle of the population: the distribution
    is too narrow even where the model is perfect, and its distance counts that.

The regression is on features averaged over the posterior of each particle. On features of posterior means a
curved map would come out blurred by the errors of latents, and would blur the density a second time.

What no distance shows: the regression takes up any shift, stretch or bend of the latents, and the mean over
all particles is right by construction. What latents do not tell is missing from both distributions: where
they tell nothing both are a point, the distance of which is `single_point_distance`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture import Likelihoods, Mixture
from solvar.analysis.neighbours import sample
from solvar.analysis.space import LatentSpace
from solvar.analysis.states import deconvolved
from solvar.evaluation.latents import columns, neighbours_of

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_FEWEST = 20  # particles that can be halved
_MOST = 5_000  # more are sampled
_DRAWS = 32  # of each particle
_BUMPS = 100  # that bend the map
_RIDGES = np.logspace(-6, 6, 13)
_LEVELS = np.linspace(0, 1, 101)


def coordinate_metrics(space: LatentSpace, coordinate: Float64, seed: int = 0) -> dict[str, Any]:
    """Earth mover's distances between recovered and true populations, of JSON's types.

    Parameters
    ----------
    space : LatentSpace
        Of N particles.
    coordinate : (N,) or (N, d)
        True coordinates.
    seed : int

    Returns
    -------
    dict
        `distance`, `posterior_means_distance` and `single_point_distance`: 1-Wasserstein distance from the
        true distribution of each coordinate, in its units; `…_over_sd`: over the true standard deviation,
        None where that is 0. `quantiles`: `level` (l,) and, each (d, l), `true`, `density`,
        `posterior_means`. Empty for fewer than 20 particles.
    """
    true = columns(coordinate)
    if len(space) < _FEWEST or not true.shape[1]:
        return {}
    chosen = sample(len(space), _MOST, seed)
    true = true[chosen]
    drawn = recovered_coordinates(_part_of(space, chosen), true, seed)
    populations = {
        "": drawn.reshape(-1, true.shape[1]),
        "posterior_means_": drawn.mean(axis=0),
        "single_point_": true.mean(axis=0, keepdims=True),
    }
    spread = true.std(axis=0)
    metrics: dict[str, Any] = {}
    for name, population in populations.items():
        distance = earth_movers_distance(population, true)
        metrics[f"{name}distance"] = distance.tolist()
        metrics[f"{name}distance_over_sd"] = [
            float(d / sd) if sd > 0 else None for d, sd in zip(distance, spread, strict=True)
        ]
    shown = {
        "true": true,
        "density": populations[""],
        "posterior_means": populations["posterior_means_"],
    }
    quantiles = {name: np.quantile(x, _LEVELS, axis=0).T.tolist() for name, x in shown.items()}
    return {**metrics, "quantiles": {"level": _LEVELS.tolist(), **quantiles}}


def earth_movers_distance(first: Float64, second: Float64) -> Float64:
    """1-Wasserstein distance of two samples (n, d) and (m, d) in each coordinate, (d,)."""
    from scipy.stats import wasserstein_distance

    return np.array([wasserstein_distance(a, b) for a, b in zip(first.T, second.T, strict=True)])


def recovered_coordinates(space: LatentSpace, coordinate: Float64, seed: int = 0) -> Float64:
    """True coordinates as latents tell them, draws from the posterior of each particle, (S, N, d).

    Every particle gets its coordinates by a map that has not seen it. They stay within the range of the true
    ones. Latents that do not vary give the mean of all.

    Parameters
    ----------
    space : LatentSpace
        Of at least 20 particles.
    coordinate : (N, d)
    seed : int
    """
    varying = space.active[space.z[:, space.active].std(axis=0) > 0]
    if not len(varying):
        return np.broadcast_to(coordinate.mean(axis=0), (1, *coordinate.shape))
    seen, rng = space.likelihoods(np.ones(len(space)), varying), np.random.default_rng(seed)
    latent = np.stack(list(_posterior_draws(deconvolved(seen, seed), seen, rng)))
    features = _Features.of(latent, rng)
    expected = np.mean([features.at(points) for points in latent], axis=0)
    low, high = coordinate.min(axis=0), coordinate.max(axis=0)
    found = np.empty((len(latent), *coordinate.shape))
    for learned, asked in _halves(len(space), rng):
        fitted = _ridge(expected[learned], coordinate[learned])
        for s, points in enumerate(latent):
            predicted = fitted.predict(features.at(points[asked]))
            found[s, asked] = np.clip(columns(predicted), low, high)
    return found


def share_metrics(z: Float64, state: Int64, seed: int = 0) -> dict[str, Any]:
    """Shares of discrete states as latents tell them, against the true ones, of JSON's types.

    Each particle is given the state that most of its nearest neighbours in the other half of the particles
    have, by distances of the latents as they are. Where latents overlap, the vote favours the larger state.

    Parameters
    ----------
    z : (N, r)
    state : (N,)
    seed : int

    Returns
    -------
    dict
        `states`, their `true_share` and `recovered_share`; `total_variation`, half the sum of absolute
        differences: 0 for the same shares, 1 for disjoint ones; `single_state_total_variation`, that of a
        run that puts all particles in the largest state. Empty for fewer than 20 particles.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if len(z) < _FEWEST:
        return {}
    chosen = sample(len(z), _MOST, seed)
    z, (states, number) = z[chosen], np.unique(state[chosen], return_inverse=True)
    found = np.empty_like(number)
    for learned, asked in _halves(len(z), np.random.default_rng(seed)):
        voters = KNeighborsClassifier(neighbours_of(len(learned)))
        found[asked] = voters.fit(z[learned], number[learned]).predict(z[asked])
    true, recovered = (np.bincount(x, minlength=len(states)) / len(z) for x in (number, found))
    return {
        "states": states.tolist(),
        "true_share": true.tolist(),
        "recovered_share": recovered.tolist(),
        "total_variation": float(np.abs(recovered - true).sum() / 2),
        "single_state_total_variation": float(1 - true.max()),
    }


def _part_of(space: LatentSpace, chosen: Int64) -> LatentSpace:
    return LatentSpace(space.z[chosen], space.precision[chosen], space.eigenvalues, space.active)


def _halves(count: int, rng: np.random.Generator) -> Iterator[tuple[Int64, Int64]]:
    """Particles to learn from and particles to ask, both ways round."""
    first, second = np.array_split(rng.permutation(count), 2)
    yield first, second
    yield second, first


def _posterior_draws(
    density: Mixture, seen: Likelihoods, rng: np.random.Generator
) -> Iterator[Float64]:
    """A latent of each particle, (N, m), as its images and the density tell it, again and again."""
    joint, inverse = density.joint(seen), np.linalg.inv(density.covariance)
    pull = np.einsum("kij,kj->ki", inverse, density.mean)
    for _ in range(_DRAWS):
        # the largest of these belongs to each Gaussian as often as its posterior probability says
        k = (joint + rng.gumbel(size=joint.shape)).argmax(axis=1)
        covariance = np.linalg.inv(seen.information + inverse[k])
        mean = np.einsum("nij,nj->ni", covariance, seen.towards + pull[k])
        unit = rng.standard_normal(mean.shape)
        yield mean + np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), unit)


@dataclass(frozen=True, eq=False)
class _Features:
    """What the map is linear in: latents, and Gaussian bumps as wide as they are apart.

    Attributes
    ----------
    centre : (B, m) float64
    width : float
    """

    centre: Float64
    width: float

    @classmethod
    def of(cls, latent: Float64, rng: np.random.Generator) -> _Features:
        """Bumps where the draws (S, N, m) are."""
        from scipy.spatial.distance import pdist

        points = latent.reshape(-1, latent.shape[-1])
        centre = points[rng.choice(len(points), _BUMPS, replace=False)]
        return cls(centre, float(np.median(pdist(centre))))

    def at(self, points: Float64) -> Float64:
        """Features (n, m + B) of latents (n, m)."""
        from scipy.spatial.distance import cdist

        bumps = np.exp(-0.5 * cdist(points, self.centre, "sqeuclidean") / self.width**2)
        return np.hstack([points, bumps])


def _ridge(features: Float64, coordinate: Float64) -> Any:
    """Ridge regression; how stiff, particles left out decide for each coordinate."""
    from sklearn.linear_model import RidgeCV

    return RidgeCV(_RIDGES, alpha_per_target=True).fit(features, coordinate)
