"""The density of the latents themselves: a mixture of Gaussians seen through each particle's own error.

A posterior N(z_i, C_i) is the likelihood of the images times the prior N(0, Λ). Without the prior it is

    L_i(x) ∝ exp(-xᵀ W_i x / 2 + b_iᵀ x),   W_i = C_i⁻¹ - Λ⁻¹,   b_i = C_i⁻¹ z_i,

which needs no W that can be inverted. The mixture p maximises Σ w_i log ∫ L_i p by expectation maximisation
(extreme deconvolution, Bovy et al. 2011, Ann. Appl. Stat. 5, 1657): errors and shrinkage are taken out of
the density, each by its own amount. How many Gaussians there are is decided by particles held out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture_kernel import gather
from solvar.threads import ThreadTeam

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MOST = 16
# particles whose sums are formed by themselves, for any number of threads
_PARTICLES_A_TASK = 512
_PATIENCE = 2  # larger numbers are tried until the held-out likelihood has not risen this often
_STEPS = 60
_SETTLED = 1e-4  # nats a particle and step
# a Gaussian is told no narrower than half an error, by as much as so many particles would tell
_NARROWEST, _PSEUDO_COUNT = 0.25, 5.0
_FLAT = 1e-6  # information about what an image does not see at all
_EPSILON = 1e-300
_BLOCK = 1 << 16  # particles whose small matrices are worked on at once


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """What the images of N particles say of their latents, in prior standard deviations.

    Attributes
    ----------
    information : (N, m, m) float64
        W.
    towards : (N, m) float64
        b.
    weight : (N,) float64
        Probability that the image shows a particle; symmetry copies of one share it.
    particle : (N,) int64 or None
        Number of the particle that each shows, where symmetry copies show the same; None otherwise.
    """

    information: Float64
    towards: Float64
    weight: Float64
    particle: Int64 | None = None

    @classmethod
    def of(
        cls,
        points: Float64,
        covariance: Float64,
        weight: Float64,
        copy_of: Int64 | None = None,
    ) -> Likelihoods:
        """From posterior means (N, m) and covariances (N, m, m) under a prior of variance 1.

        Symmetry copies, `copy_of` as that of `ParticleSet`, weigh as much as one particle together.
        """
        if copy_of is not None:
            weight = weight / np.bincount(copy_of)[copy_of]
        information, towards = np.empty_like(covariance), np.empty_like(points)
        for first in range(0, len(points), _BLOCK):
            part = slice(first, first + _BLOCK)
            precision = np.linalg.inv(covariance[part])
            towards[part] = np.einsum("nij,nj->ni", precision, points[part])
            values, vectors = np.linalg.eigh(precision - np.eye(points.shape[1]))
            kept = np.maximum(values, _FLAT)
            information[part] = np.einsum("nij,nj,nkj->nik", vectors, kept, vectors, optimize=True)
        return cls(information, towards, np.asarray(weight, np.float64), copy_of)

    def __len__(self) -> int:
        return len(self.weight)

    def of_some(self, index: Int64) -> Likelihoods:
        """Of particles `index`."""
        particle = None if self.particle is None else self.particle[index]
        return Likelihoods(
            self.information[index], self.towards[index], self.weight[index], particle
        )

    @cached_property
    def error(self) -> Float64:
        """Covariance (m, m) of a latent that the images of a typical particle leave open."""
        mean = np.tensordot(self.weight / self.weight.sum(), self.information, axes=1)
        return np.asarray(np.linalg.inv(mean), dtype=np.float64)

    @cached_property
    def expected(self) -> Float64:
        """Posterior means (N, m)."""
        found, unit = np.empty_like(self.towards), np.eye(self.towards.shape[1])
        for first in range(0, len(self), _BLOCK):
            part = slice(first, first + _BLOCK)
            right = self.towards[part, :, None]
            found[part] = np.linalg.solve(self.information[part] + unit, right)[..., 0]
        return found


@dataclass(frozen=True, eq=False)
class Mixture:
    """K Gaussians in m components.

    Attributes
    ----------
    share : (K,) float64
    mean : (K, m) float64
    covariance : (K, m, m) float64
    """

    share: Float64
    mean: Float64
    covariance: Float64

    def __len__(self) -> int:
        return len(self.share)

    def scaled(self, factor: float) -> Mixture:
        """The same Gaussians with other shares."""
        return replace(self, share=factor * self.share)

    def joined(self, other: Mixture) -> Mixture:
        """The Gaussians of both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Mixture(*(np.concatenate(pair) for pair in pairs))

    def of_some(self, which: NDArray[np.bool_]) -> Mixture:
        """Some of the Gaussians."""
        return Mixture(self.share[which], self.mean[which], self.covariance[which])

    def projected(self, line: Float64) -> Mixture:
        """In the one component x·line, summed over all others."""
        variance = np.einsum("i,kij,j->k", line, self.covariance, line)
        return Mixture(self.share, (self.mean @ line)[:, None], variance[:, None, None])

    def moments(self) -> tuple[Float64, Float64]:
        """Mean (m,) and covariance (m, m) of the density."""
        share = self.share / self.share.sum()
        mean = share @ self.mean
        away = self.mean - mean
        return mean, np.tensordot(share, self.covariance, axes=1) + (share * away.T) @ away

    def widened(self, covariance: Float64) -> Mixture:
        """Seen through an error of covariance (m, m)."""
        return replace(self, covariance=self.covariance + covariance)

    def log_parts(self, points: Float64) -> Float64:
        """Log density (n, K) of each Gaussian, times its share, at points (n, m)."""
        found = np.empty((len(points), len(self)))
        for k, (mean, covariance) in enumerate(zip(self.mean, self.covariance, strict=True)):
            lower = np.linalg.cholesky(covariance)
            away = np.linalg.solve(lower, (points - mean).T)
            log_det = np.log(np.diagonal(lower)).sum() + 0.5 * len(mean) * np.log(2 * np.pi)
            found[:, k] = np.log(self.share[k] + _EPSILON) - log_det - 0.5 * (away**2).sum(axis=0)
        return found

    def log_density(self, points: Float64) -> Float64:
        """Log density (n,) at points (n, m)."""
        return np.logaddexp.reduce(self.log_parts(points), axis=1)

    def joint(self, seen: Likelihoods) -> Float64:
        """Log of each Gaussian's share times the evidence of each particle with it, (N, K)."""
        return _expected(self, seen)[0]


def fit_mixture(
    seen: Likelihoods, count: int, rng: np.random.Generator, team: ThreadTeam | None = None
) -> Mixture:
    """The likeliest mixture of `count` Gaussians, begun at clusters of the posterior means.

    A team shares out the particles, here and below.
    """
    from sklearn.cluster import KMeans

    points = seen.expected
    seed = int(rng.integers(2**31))
    label = KMeans(count, n_init=1, random_state=seed).fit_predict(points)
    floor = _NARROWEST * seen.error
    size = np.bincount(label, minlength=count)
    mean = np.stack([points[label == k].mean(axis=0) for k in range(count)])
    away = points - mean[label]
    spread = np.stack([away[label == k].T @ away[label == k] for k in range(count)])
    covariance = spread / size[:, None, None] + floor
    return improved(Mixture(size / size.sum(), mean, covariance), seen, team=team)


def improved(
    mixture: Mixture,
    seen: Likelihoods,
    held: Mixture | None = None,
    team: ThreadTeam | None = None,
) -> Mixture:
    """The likeliest mixture that is reached from this one; `held` Gaussians belong to it and stay."""
    floor, before = _NARROWEST * seen.error, -np.inf
    free = 1.0 if held is None else 1.0 - float(held.share.sum())
    whole = mixture if held is None else mixture.joined(held)
    for _ in range(_STEPS):
        _, evidence, moments = _expected(whole, seen, team)
        told = float(np.average(evidence, weights=seen.weight))
        if told - before < _SETTLED:
            break
        count, first, second = (moment[: len(mixture)] for moment in moments)
        mixture, before = _maximised(count, first, second, floor).scaled(free), told
        whole = mixture if held is None else mixture.joined(held)
    return whole


def log_evidence(seen: Likelihoods, mixture: Mixture) -> float:
    """Summed log evidence of particles with a mixture."""
    return float(seen.weight @ _expected(mixture, seen)[1])


def held_out(seen: Likelihoods, mixture: Mixture) -> float:
    """Mean log evidence of particles with a mixture."""
    return log_evidence(seen, mixture) / float(seen.weight.sum())


def best_count(seen: Likelihoods, rng: np.random.Generator, team: ThreadTeam | None = None) -> int:
    """How many Gaussians make either half of the particles likeliest to the other."""
    halves = [np.sort(half) for half in np.array_split(rng.permutation(len(seen)), 2)]
    parts = [seen.of_some(half) for half in halves]
    most = max(1, min(_MOST, len(seen) // (10 * (seen.towards.shape[1] + 1))))
    scores = list[float]()
    for count in range(1, most + 1):
        fitted = [fit_mixture(part, count, rng, team) for part in parts]
        scores.append(held_out(parts[0], fitted[1]) + held_out(parts[1], fitted[0]))
        if len(scores) - 1 - int(np.argmax(scores)) >= _PATIENCE:
            break
    return int(np.argmax(scores)) + 1


def _expected(
    mixture: Mixture, seen: Likelihoods, team: ThreadTeam | None = None
) -> tuple[Float64, Float64, tuple[Float64, Float64, Float64]]:
    """Log joint (N, K), log evidence (N,), and moments of the latents in each Gaussian."""
    count, components = mixture.mean.shape
    inverse = np.linalg.inv(mixture.covariance)
    pull = np.einsum("kij,kj->ki", inverse, mixture.mean)
    square = np.einsum("ki,ki->k", pull, mixture.mean)
    constant = -0.5 * (np.linalg.slogdet(mixture.covariance)[1] + square)
    joint, evidence = np.empty((len(seen), count)), np.empty(len(seen))
    log_share = np.log(mixture.share + _EPSILON)
    particles = seen.information, seen.towards, seen.weight, joint, evidence

    def gathered(first: int) -> tuple[Float64, Float64, Float64]:
        *given, own_joint, own_evidence = (
            each[first : first + _PARTICLES_A_TASK] for each in particles
        )
        moments = np.zeros(count), np.zeros((count, components)), np.zeros_like(inverse)
        room = np.zeros_like(inverse), np.zeros_like(pull), np.zeros(components), np.zeros(count)
        results = own_joint, own_evidence, *moments
        gather(*given, log_share, pull, inverse, constant, *results, *room)
        return moments

    starts = range(0, max(len(seen), 1), _PARTICLES_A_TASK)
    parts = (team or ThreadTeam(1)).mapped(gathered, starts)
    # in the order of the particles, for any number of threads
    total, first, lower = (sum(each) for each in zip(*parts, strict=True))
    return joint, evidence, (total, first, lower + np.tril(lower, -1).swapaxes(1, 2))


def _maximised(count: Float64, first: Float64, second: Float64, floor: Float64) -> Mixture:
    """The mixture of these moments; Gaussians that no particle is left to are gone."""
    kept = count > 1.0
    count, first, second = count[kept], first[kept], second[kept]
    mean = first / count[:, None]
    spread = second - count[:, None, None] * mean[:, :, None] * mean[:, None]
    covariance = (spread + _PSEUDO_COUNT * floor) / (count + _PSEUDO_COUNT)[:, None, None]
    return Mixture(count / count.sum(), mean, covariance)
