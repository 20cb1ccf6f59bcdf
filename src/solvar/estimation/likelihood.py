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

Float64 = NDArray[np.float64]

_NODES = np.linspace(-3.2, 3.2, 9)
_SMALLEST_CONTRAST = 0.05


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


def image_posterior(gram: Float64, contrast_sd: float) -> ImagePosterior:
    """Posterior of latents and contrast from Gram matrices.

    Parameters
    ----------
    gram : (B, r + 2, r + 2) float64
        Inner products of (s, E, y), see `solvar.estimation.kernels.gram`.
    contrast_sd : float
        Prior spread τ of the contrast around 1; 0 fixes it at 1.
    """
    problem = _Eigenproblem(gram)
    if contrast_sd > 0:
        node, weight, evidence = _contrast_nodes(problem, contrast_sd)
    else:
        node = np.ones((len(gram), 1))
        weight, evidence = np.ones_like(node), problem.log_likelihood(node)[:, 0]
    return _moments(problem, node, weight, evidence)


class _Eigenproblem:
    """The likelihood in the eigenbasis of G, where M(a) is diagonal for every a."""

    def __init__(self, gram: Float64) -> None:
        eigenvalue, self.basis = np.linalg.eigh(gram[:, 1:-1, 1:-1])
        self.g = np.maximum(eigenvalue, 0.0)
        self.q = np.einsum("bji,bj->bi", self.basis, gram[:, 1:-1, -1])
        self.p = np.einsum("bji,bj->bi", self.basis, gram[:, 1:-1, 0])
        self.mean_data, self.mean_square = gram[:, 0, -1], gram[:, 0, 0]

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


def _contrast_nodes(problem: _Eigenproblem, contrast_sd: float) -> tuple[Float64, Float64, Float64]:
    """Quadrature nodes and weights (B, m) of the posterior of the contrast, and the log evidence."""

    def log_posterior(a: Float64) -> Float64:
        return problem.log_likelihood(a) - 0.5 * ((a - 1) / contrast_sd) ** 2

    count = len(problem.g)
    step = contrast_sd * (_NODES[1] - _NODES[0])
    coarse = np.maximum(1 + contrast_sd * _NODES, _SMALLEST_CONTRAST)
    value = log_posterior(np.broadcast_to(coarse, (count, len(coarse))))
    start = coarse[np.argmax(value, axis=1)]
    # parabola through the best node and one step to each side: mode and curvature
    three = start[:, None] + step * np.array([-1.0, 0.0, 1.0])
    low, middle, high = log_posterior(np.maximum(three, _SMALLEST_CONTRAST)).T
    curvature = np.maximum((2 * middle - low - high) / step**2, contrast_sd**-2)
    mode = start + np.clip((high - low) / (2 * step * curvature), -step, step)
    mode, spread = np.maximum(mode, _SMALLEST_CONTRAST), curvature**-0.5
    first, last = mode + spread * _NODES[0], mode + spread * _NODES[-1]
    is_cut = first < _SMALLEST_CONTRAST
    first = np.where(is_cut, _SMALLEST_CONTRAST, first)
    width = (last - first) / (len(_NODES) - 1)
    node = first[:, None] + width[:, None] * np.arange(len(_NODES))
    value = log_posterior(node)
    peak = value.max(axis=1, keepdims=True)
    weight = np.exp(value - peak)
    # where the integral begins inside the peak, its first node stands for half a step (trapezoidal rule)
    weight[is_cut, 0] /= 2
    total = weight.sum(axis=1, keepdims=True)
    evidence = peak[:, 0] + np.log(total[:, 0] * width / (np.sqrt(2 * np.pi) * contrast_sd))
    return node, weight / total, evidence


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
