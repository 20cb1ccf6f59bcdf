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

from solvar.estimation.kernels import gram
from solvar.estimation.level import Level
from solvar.estimation.likelihood import image_posterior

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_CHUNK = 512
_SMALLEST_CONTRAST_SD = 0.01
# 2 × log-likelihood ratio that a component must gain on held-out particles; under no signal it follows
# a half-half mixture of 0 and χ²₁, for which 12 is a chance of 3·10⁻⁴
_EVIDENCE = 12.0


@dataclass(frozen=True, eq=False)
class HeldOutScale:
    """Amplitudes of a half's columns as the other half's particles see them.

    Attributes
    ----------
    factor : (r, r) float64
        T with Γ = T Tᵀ: columns V T have unit latent variance on new particles.
    contrast_sd : float
        Spread of the contrasts on new particles.
    log_likelihood : float
        Mean per particle.
    """

    factor: Float64
    contrast_sd: float
    log_likelihood: float


def gram_matrices(level: Level, columns: Float32, index: Int64) -> Float64:
    """Gram matrices (N, r + 2, r + 2) of the particles `index` under columns W = [μ | V]."""
    prepared = level.projector.prepare(columns)
    out = np.empty((len(index), len(columns) + 1, len(columns) + 1))
    for first in range(0, len(index), _CHUNK):
        batch = index[first : first + _CHUNK]
        data, ctf, rotation = level.images.batch(batch, len(level.disc))
        slices = level.projector.project(prepared, rotation, ctf)
        out[first : first + len(batch)] = gram(slices, data, level.team)
    return out


def held_out_scale(products: Float64, contrast_sd: float, steps: int) -> HeldOutScale:
    """Maximum-likelihood latent covariance and contrast spread for fixed columns, by EM.

    Parameters
    ----------
    products : (N, r + 2, r + 2)
        As of `gram_matrices`, of particles that did not take part in fitting the columns.
    contrast_sd : float
        Start; 0 keeps the contrasts fixed at 1.
    steps : int
    """
    factor = np.eye(products.shape[1] - 2)
    log_likelihood = -np.inf
    for _ in range(steps):
        found = image_posterior(transformed(products, factor), contrast_sd)
        log_likelihood = float(found.log_likelihood.mean())
        moment = (found.z.T @ found.z + found.covariance.sum(axis=0)) / len(products)
        factor = factor @ np.linalg.cholesky(moment)
        if contrast_sd > 0:
            variance = np.mean(found.contrast_square - 2 * found.contrast + 1)
            contrast_sd = max(float(np.sqrt(variance)), _SMALLEST_CONTRAST_SD)
    return HeldOutScale(factor, contrast_sd, log_likelihood)


def transformed(products: Float64, factor: Float64) -> Float64:
    """Gram matrices of columns V·factor from those of V."""
    full = np.eye(products.shape[1])
    full[1 : 1 + len(factor), 1 : 1 + len(factor)] = factor
    return full.T @ products @ full


def component_evidence(products: Float64, contrast_sd: float) -> Float64:
    """2 × log-likelihood that each column adds on held-out particles, (r,).

    Parameters
    ----------
    products : (N, r + 2, r + 2)
        For columns scaled to unit held-out latent variance.
    """
    everything = image_posterior(products, contrast_sd).log_likelihood.sum()
    rank = products.shape[1] - 2
    out = np.empty(rank)
    for j in range(rank):
        keep = np.delete(np.arange(rank + 2), 1 + j)
        without = image_posterior(products[:, keep][:, :, keep], contrast_sd)
        out[j] = 2 * (everything - without.log_likelihood.sum())
    return out


def passes(evidence: Float64) -> NDArray[np.bool_]:
    """Whether the evidence of a component is beyond chance."""
    return evidence > _EVIDENCE
