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

from solvar.threads import ThreadTeam

Float64 = NDArray[np.float64]

_NODES = np.linspace(-3.2, 3.2, 9)
# Simpson's rule, for an integrand that does not fade out at both ends
_SIMPSON = np.array([1, 4, 2, 4, 2, 4, 2, 4, 1]) / 3
_SMALLEST_CONTRAST = 0.05
_FINER_GRIDS = 3
_NARROW, _LOOKS = 4.0, 3
# images whose posteriors are computed together, for any number of threads
_AT_A_TIME = 256


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
    parts = np.split(gram, range(_AT_A_TIME, len(gram), _AT_A_TIME))
    found = (team or ThreadTeam(1)).mapped(lambda some: _posterior(some, contrast_sd), parts)
    each = list(zip(*(vars(part).values() for part in found), strict=True))
    return ImagePosterior(*(np.concatenate(values) for values in each))


def _posterior(gram: Float64, contrast_sd: float) -> ImagePosterior:
    """`image_posterior` of some images."""
    if contrast_sd == 0:
        return _at_contrast_one(gram)
    problem = _Eigenproblem.from_gram(gram)
    return _moments(problem, *_contrast_nodes(problem, contrast_sd))


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


@dataclass(frozen=True, eq=False)
class _Eigenproblem:
    """The likelihood in the eigenbasis of G, where M(a) is diagonal for every a.

    Eigenvalues g (B, r), basis (B, r, r), q and p in that basis (B, r), ⟨s, y⟩ and ‖s‖² (B,).
    """

    g: Float64
    basis: Float64
    q: Float64
    p: Float64
    mean_data: Float64
    mean_square: Float64

    @classmethod
    def from_gram(cls, gram: Float64) -> _Eigenproblem:
        """Of Gram matrices (B, r + 2, r + 2) of (s, E, y)."""
        eigenvalue, basis = np.linalg.eigh(gram[:, 1:-1, 1:-1])
        return cls(
            np.maximum(eigenvalue, 0.0),
            basis,
            np.einsum("bji,bj->bi", basis, gram[:, 1:-1, -1]),
            np.einsum("bji,bj->bi", basis, gram[:, 1:-1, 0]),
            gram[:, 0, -1],
            gram[:, 0, 0],
        )

    def of(self, index: NDArray[np.int64]) -> _Eigenproblem:
        """That of some of the images."""
        return _Eigenproblem(*(values[index] for values in vars(self).values()))

    def precision(self, a: Float64) -> Float64:
        """Eigenvalues of M at contrasts a (B, m) -> (B, m, r)."""
        return 1.0 + a[..., None] ** 2 * self.g[:, None, :]

    def mean(self, a: Float64) -> Float64:
        """z(a) in the eigenbasis, (B, m) -> (B, m, r)."""
        score = self.q[:, None, :] - a[..., None] * self.p[:, None, :]
        return a[..., None] * score / self.precision(a)

    def log_likelihood(self, a: Float64) -> Float64:
        """log p(y | a) + ½‖y‖² at contrasts a, (B, m) -> (B, m)."""
        precision = self.precision(a)
        score = self.q[:, None, :] - a[..., None] * self.p[:, None, :]
        explained = np.sum(a[..., None] ** 2 * score**2 / precision - np.log(precision), axis=-1)
        linear = 2 * a * self.mean_data[:, None] - a**2 * self.mean_square[:, None]
        return 0.5 * (linear + explained)

    def log_posterior(self, a: Float64, contrast_sd: float) -> Float64:
        """The same with the prior of the contrast, up to a constant; below the least contrast as if at it."""
        a = np.maximum(a, _SMALLEST_CONTRAST)
        return self.log_likelihood(a) - 0.5 * ((a - 1) / contrast_sd) ** 2


def _contrast_nodes(problem: _Eigenproblem, contrast_sd: float) -> tuple[Float64, Float64, Float64]:
    """Quadrature nodes and weights (B, m) of the posterior of the contrast, and the log evidence."""
    count = len(problem.g)
    step = contrast_sd * (_NODES[1] - _NODES[0])
    coarse = np.maximum(1 + contrast_sd * _NODES, _SMALLEST_CONTRAST)
    value = problem.log_posterior(np.broadcast_to(coarse, (count, len(coarse))), contrast_sd)
    best = np.argmax(value, axis=1)
    start = coarse[best]
    # an image that shows next to nothing: its contrast lies below what the prior's own nodes reach
    faint = np.flatnonzero((best == 0) & (coarse[0] > _SMALLEST_CONTRAST))
    if len(faint):
        start[faint] = _climbed_down(problem.of(faint), contrast_sd, coarse[0])
    mode, spread = _peak(problem, contrast_sd, start, np.full(count, step))
    # much narrower than the nodes are apart: look again, from there
    narrow = np.flatnonzero(spread < step / _NARROW)
    for _ in range(_LOOKS if len(narrow) else 0):
        again = _peak(problem.of(narrow), contrast_sd, mode[narrow], 2 * spread[narrow])
        mode[narrow], spread[narrow] = again
    first, last = mode + spread * _NODES[0], mode + spread * _NODES[-1]
    is_cut = first < _SMALLEST_CONTRAST
    first = np.where(is_cut, _SMALLEST_CONTRAST, first)
    width = (last - first) / (len(_NODES) - 1)
    node = first[:, None] + width[:, None] * np.arange(len(_NODES))
    value = problem.log_posterior(node, contrast_sd)
    peak = value.max(axis=1, keepdims=True)
    weight = np.exp(value - peak)
    # where the integral begins inside the peak, equal weights would count its first node twice
    weight[is_cut] *= _SIMPSON
    total = weight.sum(axis=1, keepdims=True)
    evidence = peak[:, 0] + np.log(total[:, 0] * width / (np.sqrt(2 * np.pi) * contrast_sd))
    return node, weight / total, evidence


def _peak(
    problem: _Eigenproblem, contrast_sd: float, start: Float64, step: Float64
) -> tuple[Float64, Float64]:
    """Mode and spread (B,) of the contrast's posterior, from a parabola around contrasts (B,)."""
    three = start[:, None] + step[:, None] * np.array([-1.0, 0.0, 1.0])
    low, middle, high = problem.log_posterior(three, contrast_sd).T
    curvature = np.maximum((2 * middle - low - high) / step**2, contrast_sd**-2)
    mode = start + np.clip((high - low) / (2 * step * curvature), -step, step)
    return np.maximum(mode, _SMALLEST_CONTRAST), curvature**-0.5


def _climbed_down(problem: _Eigenproblem, contrast_sd: float, above: float) -> Float64:
    """The best contrast (B,) below a node, by ever finer grids."""
    count = len(problem.g)
    low, high = np.full(count, _SMALLEST_CONTRAST), np.full(count, above)
    for _ in range(_FINER_GRIDS):
        node = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, len(_NODES))
        value = problem.log_posterior(node, contrast_sd)
        best = np.argmax(value, axis=1)[:, None]
        low, high = (
            np.take_along_axis(node, np.clip(best + side, 0, len(_NODES) - 1), axis=1)[:, 0]
            for side in (-1, 1)
        )
    return np.take_along_axis(node, best, axis=1)[:, 0]


def _moments(
    problem: _Eigenproblem, node: Float64, weight: Float64, evidence: Float64
) -> ImagePosterior:
    """Mix the Gaussian posteriors of the nodes and leave the eigenbasis."""
    basis = problem.basis
    z, variance = problem.mean(node), 1.0 / problem.precision(node)
    mean = np.einsum("bm,bmi->bi", weight, z)
    spread = z - mean[:, None, :]
    covariance = np.einsum("bm,bmi,bmj->bij", weight, spread, spread, optimize=True)
    covariance += _diagonal(np.einsum("bm,bmi->bi", weight, variance))
    a, a2 = weight * node, weight * node**2
    first = np.concatenate([a.sum(1)[:, None], np.einsum("bm,bmi->bi", a, z)], axis=1)
    second = np.empty((*first.shape, first.shape[1]))
    second[:, 0, 0] = a2.sum(1)
    second[:, 0, 1:] = np.einsum("bm,bmi->bi", a2, z)
    inner = np.einsum("bm,bmi,bmj->bij", a2, z, z, optimize=True)
    inner += _diagonal(np.einsum("bm,bmi->bi", a2, variance))
    second[:, 1:, 1:] = basis @ inner @ basis.transpose(0, 2, 1)
    second[:, 0, 1:] = np.einsum("bij,bj->bi", basis, second[:, 0, 1:])
    second[:, 1:, 0] = second[:, 0, 1:]
    first[:, 1:] = np.einsum("bij,bj->bi", basis, first[:, 1:])
    return ImagePosterior(
        first=first,
        second=second,
        z=np.einsum("bij,bj->bi", basis, mean),
        covariance=basis @ covariance @ basis.transpose(0, 2, 1),
        contrast=a.sum(1),
        contrast_square=a2.sum(1),
        log_likelihood=evidence,
    )


def _diagonal(values: Float64) -> Float64:
    """(B, r) -> (B, r, r) diagonal matrices."""
    return values[:, :, None] * np.eye(values.shape[1])


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
