"""The marginal likelihood of one image and the posterior of its latents and contrast.

Everything is a function of the Gram matrix of (s, E, y): s = C P μ the mean's slice, E = C P V the
columns' slices, y the whitened data (not minus the mean). With G = EᵀE, q = Eᵀy, p = Eᵀs and a contrast a,

    M(a) = I + a²G,   z(a) = a M⁻¹(q - a p),
    -log p(y | a) = ½[‖y‖² - 2a⟨s,y⟩ + a²‖s‖² - a²(q - a p)ᵀM⁻¹(q - a p) + log det M] + const.

The contrast is not set to its best value but integrated over, with the prior N(1, τ²): a point estimate
would make the latents too sure of themselves. The integrand is close to a Gaussian in a, so nine nodes
around its mode are exact to the fourth digit (docs/decisions/0005).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.contrast_kernel import integrate_contrast
from solvar.threads import ThreadTeam

Float64 = NDArray[np.float64]

# operations on a number of a Gram matrix
_WORK = 32


@dataclass(frozen=True, eq=False)
class ImagePosterior:
    """Posterior moments of B images under columns W = [μ | V] with z ~ N(0, I).

    Attributes
    ----------
    first : (B, 1 + r)
        E[ζ], ζ = a·(1, z): coefficients of the columns W.
    second : (B, 1 + r, 1 + r)
        E[ζ ζᵀ].
    z : (B, r)
        E[z].
    covariance : (B, r, r)
        Covariance of z, the variance of the contrast included.
    contrast, contrast_square : (B,)
        E[a], E[a²].
    log_likelihood : (B,)
        log p(y), up to -½‖y‖² and constants that no parameter changes.
    """

    first: Float64
    second: Float64
    z: Float64
    covariance: Float64
    contrast: Float64
    contrast_square: Float64
    log_likelihood: Float64

    @classmethod
    def empty(cls, count: int, rank: int) -> ImagePosterior:
        """Room for those of so many images."""
        shapes = (1 + rank,), (1 + rank, 1 + rank), (rank,), (rank, rank), (), (), ()
        return cls(*(np.empty((count, *shape)) for shape in shapes))


def image_posterior(
    gram: Float64, contrast_sd: float, team: ThreadTeam | None = None
) -> ImagePosterior:
    """Posterior of latents and contrast from Gram matrices.

    Parameters
    ----------
    gram : (B, r + 2, r + 2) float64
        Inner products of (s, E, y), see `solvar.estimation.kernels.gram`.
    contrast_sd : float
        Prior spread τ of the contrast around 1; 0 fixes it at 1.
    team : ThreadTeam, optional
        Shares out the images; default: this thread alone.
    """
    found = ImagePosterior.empty(len(gram), gram.shape[1] - 2)

    def some(begin: int, end: int) -> None:
        here = gram[begin:end]
        written = [values[begin:end] for values in vars(found).values()]
        if contrast_sd == 0:
            for target, values in zip(written, vars(_at_contrast_one(here)).values(), strict=True):
                target[...] = values
            return
        eigenvalue, basis = np.linalg.eigh(here[:, 1:-1, 1:-1])
        integrate_contrast(contrast_sd, np.maximum(eigenvalue, 0.0), basis, here, *written)

    (team or ThreadTeam(1)).over_items(len(gram), _WORK * gram.shape[1] ** 2, some)
    return found


def _at_contrast_one(gram: Float64) -> ImagePosterior:
    """The posterior where every contrast is 1: one Gaussian, without eigenvectors in a third of the time."""
    count, rank = len(gram), gram.shape[1] - 2
    precision = np.eye(rank) + gram[:, 1:-1, 1:-1]
    score = gram[:, 1:-1, -1] - gram[:, 1:-1, 0]
    covariance = np.asarray(np.linalg.inv(precision), dtype=np.float64)
    z = np.einsum("bij,bj->bi", covariance, score)
    size = 2 * np.log(np.linalg.cholesky(precision).diagonal(axis1=1, axis2=2)).sum(axis=1)
    explained = np.einsum("bi,bi->b", score, z) - size
    second = np.ones((count, 1 + rank, 1 + rank))
    second[:, 0, 1:] = second[:, 1:, 0] = z
    second[:, 1:, 1:] = z[:, :, None] * z[:, None, :] + covariance
    return ImagePosterior(
        first=second[:, 0].copy(),
        second=second,
        z=z,
        covariance=covariance,
        contrast=np.ones(count),
        contrast_square=np.ones(count),
        log_likelihood=0.5 * (2 * gram[:, 0, -1] - gram[:, 0, 0] + explained),
    )


def marginal_log_likelihood(products: Float64, overlap: Float64) -> Float64:
    """Log-likelihood (B, T) at contrast 1 from slices' Gram matrices and their overlaps with T images.

    Parameters
    ----------
    products : (B, 1 + r, 1 + r)
    overlap : (B, 1 + r, T)
    """
    precision = products[:, 1:, 1:] + np.eye(products.shape[1] - 1)
    score = overlap[:, 1:] - products[:, 1:, :1]
    explained = np.sum(score * np.linalg.solve(precision, score), axis=1)
    volume = np.linalg.slogdet(precision)[1]
    return overlap[:, 0] + 0.5 * (explained - products[:, :1, 0] - volume[:, None])
