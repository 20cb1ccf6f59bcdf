"""What particles that took no part in a fit say about its scale.

A half's columns V are tried on the other half's particles with a free covariance Γ of the latents and a
free spread of the contrasts. Directions that only fitted noise get Γ → 0; Γ gives the amplitudes that
hold for new particles, which neither training likelihood nor prior can. Only r(r+1)/2 + 1 numbers
cross from one half to the other, too few to let the halves' noise agree.

The Gram matrices are computed once; trying another Γ costs r³ a particle and touches no pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.likelihood import image_posterior
from solvar.parallel import OneProcess, Processes
from solvar.threads import ThreadTeam

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# amplitudes are r(r + 1)/2 numbers: more particles than these would not fix them better
MOST_FOR_SCALE = 20_000
_SMALLEST_CONTRAST_SD = 0.01
_LONGEST_STEP = 8.0
_STEP_BOUNDS = (0.2, 3.0)
_FOLD_STEPS = 4
_STANDARD_ERRORS = 3.0
# particles whose posteriors are looked at together: they take several times what products do
_AT_A_TIME = 2048


@dataclass(frozen=True, eq=False)
class HeldOutScale:
    """Amplitudes of a half's columns as the other half's particles see them.

    Attributes
    ----------
    factor : (r, r) float64
        T with Γ = T Tᵀ: columns V T have unit latent variance on new particles.
    contrast_sd : float
        Spread of the contrasts on new particles.
    """

    factor: Float64
    contrast_sd: float


def evenly_spread(index: Int64, count: int) -> Int64:
    """About `count` of some particles."""
    return index[:: max(1, len(index) // count)]


def held_out_scale(
    products: Float64,
    contrast_sd: float,
    steps: int,
    free: Bool | None = None,
    processes: Processes | None = None,
    team: ThreadTeam | None = None,
) -> HeldOutScale:
    """Maximum-likelihood latent covariance and contrast spread for fixed columns.

    EM with each direction's step lengthened by 1/ρ², ρ the share of its variance that the particles explain:
    near the optimum EM closes only ρ² of the distance a step, which would leave directions of pure
    noise at half their training amplitude.

    Parameters
    ----------
    products : (N, r + 2, r + 2)
        As of `e_step.gram_matrices`, of this process's particles that did not take part in fitting the
        columns.
    contrast_sd : float
        Start; 0 keeps the contrasts fixed at 1.
    steps : int
    free : (r, r) bool, optional
        Which covariances of latents need not be 0, as of `blocks.together`; all by default.
    processes : Processes, optional
        Who have products of other particles; these are all by default.
    team : ThreadTeam, optional
        As of `image_posterior`.
    """
    processes = processes or OneProcess()
    free = np.ones((products.shape[1] - 2,) * 2, bool) if free is None else free
    factor = np.eye(products.shape[1] - 2)
    rank = len(factor)
    for _ in range(steps):
        sums = processes.sum(_summed(products, factor, contrast_sd, team))
        means = sums[:-1] / sums[-1]
        explained, unexplained = (
            each.reshape(rank, rank) * free for each in np.split(means[:-1], 2)
        )
        factor = factor @ _lengthened_root(explained + unexplained, explained)
        if contrast_sd > 0:
            contrast_sd = max(float(np.sqrt(means[-1])), _SMALLEST_CONTRAST_SD)
    return HeldOutScale(factor, contrast_sd)


def _summed(
    products: Float64, factor: Float64, contrast_sd: float, team: ThreadTeam | None = None
) -> Float64:
    """Sums over particles under columns V·factor, (2r² + 2,): E[z]E[z]ᵀ, Cov[z], E[(a - 1)²], and 1."""
    count, rank = len(products), len(factor)
    z, away, covariance = np.empty((count, rank)), np.empty(count), np.empty((count, rank, rank))
    for start in range(0, count, _AT_A_TIME):
        here = slice(start, start + _AT_A_TIME)
        found = image_posterior(transformed(products[here], factor), contrast_sd, team)
        z[here], covariance[here] = found.z, found.covariance
        away[here] = found.contrast_square - 2 * found.contrast + 1
    moments = (z.T @ z).ravel(), covariance.sum(axis=0).ravel()
    return np.concatenate([*moments, [away.sum(), count]])


def _lengthened_root(moment: Float64, explained: Float64) -> Float64:
    """Symmetric root of the moment with each eigenvalue raised to the power 1/ρ²."""
    value, axes = np.linalg.eigh(moment)
    share = np.einsum("ij,ik,kj->j", axes, explained, axes) / value
    power = 0.5 * np.minimum(share**-2, _LONGEST_STEP)
    return (axes * np.clip(value**power, *_STEP_BOUNDS)) @ axes.T


def transformed(products: Float64, factor: Float64) -> Float64:
    """Gram matrices of columns V·factor from those of V."""
    full = np.eye(products.shape[1])
    full[1 : 1 + len(factor), 1 : 1 + len(factor)] = factor
    return full.T @ products @ full


def component_gains(products: Float64, team: ThreadTeam | None = None) -> Float64:
    """Log-likelihood that each component adds to the ones before it, for held-out particles, (N, r).

    The latent covariance is fitted to one half of these particles and tested on the other, and the other
    way round, so that a component of pure noise gains nothing on average.

    Parameters
    ----------
    products : (N, r + 2, r + 2)
        Of columns along the principal axes, strongest first; contrasts are 1, or integrated out.
    team : ThreadTeam, optional
        As of `image_posterior`.
    """
    rank = products.shape[1] - 2
    gains = np.empty((len(products), rank))
    for fold in (0, 1):
        tested = products[fold::2]
        scale = held_out_scale(products[1 - fold :: 2], 0.0, _FOLD_STEPS, team=team)
        covariance = scale.factor @ scale.factor.T
        before = image_posterior(_leading(tested, 0), 0.0, team).log_likelihood
        for j in range(1, rank + 1):
            factor = np.asarray(np.linalg.cholesky(covariance[:j, :j]), dtype=np.float64)
            after = image_posterior(transformed(_leading(tested, j), factor), 0.0, team)
            gains[fold::2, j - 1] = after.log_likelihood - before
            before = after.log_likelihood
    return gains


def _leading(products: Float64, rank: int) -> Float64:
    """Gram matrices of the mean, the first `rank` columns and the data."""
    keep = np.append(np.arange(1 + rank), products.shape[1] - 1)
    return products[:, keep][:, :, keep]


def is_beyond_chance(gains: Float64) -> NDArray[np.bool_]:
    """Whether the summed gains (N, r) of components exceed three of their standard errors, (r,)."""
    return gains.sum(axis=0) > _STANDARD_ERRORS * np.sqrt(len(gains)) * gains.std(axis=0)
