"""The posterior of latents and contrast of images, the contrast integrated over: compiled.

In the eigenbasis of an image's Gram matrix G = U diag(g) Uᵀ the precision I + a²G is diagonal for every
contrast a.
More than seven arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours.
"""

from __future__ import annotations

import math

import numpy as np

from solvar.compilation import compiled

_SMALLEST_CONTRAST = 0.05
# nodes, in spreads around the mode; Simpson's rule is for an integrand that does not fade out at both ends
_NODES = np.linspace(-3.2, 3.2, 9)
_SIMPSON = np.array([1, 4, 2, 4, 2, 4, 2, 4, 1]) / 3
_COUNT = len(_NODES)
_FINER_GRIDS = 3
_NARROW, _LOOKS = 4.0, 3
# products of precisions stay below the largest number
_LARGE = 1e100


@compiled()
def _log_posterior(a, contrast_sd, g, q, p, overlap, square):  # type: ignore[no-untyped-def]
    """log p(y | a) + ½‖y‖² and the prior of a, up to a constant; below the least contrast as if at it."""
    a = max(a, _SMALLEST_CONTRAST)
    total, volume = 2 * a * overlap - a * a * square, 1.0
    for i in range(len(g)):
        precision, score = 1.0 + a * a * g[i], a * (q[i] - a * p[i])
        total += score * score / precision
        volume *= precision
        if volume > _LARGE:
            total -= math.log(volume)
            volume = 1.0
    return 0.5 * (total - math.log(volume) - ((a - 1) / contrast_sd) ** 2)


@compiled()
def _peak(start, step, contrast_sd, g, q, p, overlap, square):  # type: ignore[no-untyped-def]
    """Mode and spread of the contrast's posterior, from a parabola around a contrast."""
    low = _log_posterior(start - step, contrast_sd, g, q, p, overlap, square)
    middle = _log_posterior(start, contrast_sd, g, q, p, overlap, square)
    high = _log_posterior(start + step, contrast_sd, g, q, p, overlap, square)
    curvature = max((2 * middle - low - high) / step**2, contrast_sd**-2)
    move = (high - low) / (2 * step * curvature)
    mode = start + min(max(move, -step), step)
    return max(mode, _SMALLEST_CONTRAST), curvature**-0.5


@compiled()
def _climbed_down(above, contrast_sd, g, q, p, overlap, square):  # type: ignore[no-untyped-def]
    """The best contrast below a node, by ever finer grids."""
    low, high, chosen = _SMALLEST_CONTRAST, above, above
    for _ in range(_FINER_GRIDS):
        best, most, step = 0, -math.inf, (high - low) / (_COUNT - 1)
        for m in range(_COUNT):
            value = _log_posterior(low + m * step, contrast_sd, g, q, p, overlap, square)
            if value > most:
                best, most = m, value
        chosen = low + best * step
        low, high = low + max(best - 1, 0) * step, low + min(best + 1, _COUNT - 1) * step
    return chosen


@compiled()
def _mode(contrast_sd, g, q, p, overlap, square):  # type: ignore[no-untyped-def]
    """Mode and spread of the contrast's posterior."""
    step = contrast_sd * (_NODES[1] - _NODES[0])
    best, most = 0, -math.inf
    for m in range(_COUNT):
        a = max(1 + contrast_sd * _NODES[m], _SMALLEST_CONTRAST)
        value = _log_posterior(a, contrast_sd, g, q, p, overlap, square)
        if value > most:
            best, most = m, value
    start = max(1 + contrast_sd * _NODES[best], _SMALLEST_CONTRAST)
    if best == 0 and start > _SMALLEST_CONTRAST:
        # an image that shows next to nothing: its contrast lies below what the prior's own nodes reach
        start = _climbed_down(start, contrast_sd, g, q, p, overlap, square)
    mode, spread = _peak(start, step, contrast_sd, g, q, p, overlap, square)
    if spread < step / _NARROW:
        # much narrower than the nodes are apart: look again, from there
        for _ in range(_LOOKS):
            mode, spread = _peak(mode, 2 * spread, contrast_sd, g, q, p, overlap, square)
    return mode, spread


@compiled()
def _quadrature(node, weight, contrast_sd, g, q, p, overlap, square):  # type: ignore[no-untyped-def]
    """Put nodes and weights of the posterior of the contrast into arrays (9,); the log evidence."""
    mode, spread = _mode(contrast_sd, g, q, p, overlap, square)
    first, last = mode + spread * _NODES[0], mode + spread * _NODES[-1]
    # where the integral begins inside the peak, equal weights would count its first node twice
    is_cut = first < _SMALLEST_CONTRAST
    first = max(first, _SMALLEST_CONTRAST)
    width, most = (last - first) / (_COUNT - 1), -math.inf
    for m in range(_COUNT):
        node[m] = first + width * m
        weight[m] = _log_posterior(node[m], contrast_sd, g, q, p, overlap, square)
        most = max(most, weight[m])
    total = 0.0
    for m in range(_COUNT):
        weight[m] = math.exp(weight[m] - most) * (_SIMPSON[m] if is_cut else 1.0)
        total += weight[m]
    for m in range(_COUNT):
        weight[m] /= total
    return most + math.log(total * width / (math.sqrt(2 * math.pi) * contrast_sd))


@compiled()
def integrate_contrast(  # type: ignore[no-untyped-def]
    contrast_sd, g, basis, gram, first, second, z, covariance, contrast, contrast_square, evidence
):
    """Posterior moments of B images; see `likelihood.ImagePosterior` for what is written.

    Parameters
    ----------
    contrast_sd : float
        Above 0.
    g, basis : (B, r), (B, r, r)
        Eigenvalues, 0 or more, and eigenvectors (columns) of the images' G.
    gram : (B, r + 2, r + 2)
        Inner products of (s, E, y).
    first, second, z, covariance, contrast, contrast_square, evidence
        Get the moments.
    """
    rank = g.shape[1]
    node, weight = np.empty(_COUNT), np.empty(_COUNT)
    q, p, own, seen = np.empty(rank), np.empty(rank), np.empty(rank), np.empty(rank)
    latent, turned = np.empty(rank), np.empty((_COUNT, rank))
    for b in range(len(g)):
        q[:] = 0.0
        p[:] = 0.0
        for j in range(rank):
            for i in range(rank):
                q[i] += basis[b, j, i] * gram[b, 1 + j, rank + 1]
                p[i] += basis[b, j, i] * gram[b, 1 + j, 0]
        evidence[b] = _quadrature(
            node, weight, contrast_sd, g[b], q, p, gram[b, 0, rank + 1], gram[b, 0, 0]
        )
        own[:] = 0.0
        seen[:] = 0.0
        z[b] = 0.0
        first[b] = 0.0
        second[b, 0] = 0.0
        for m in range(_COUNT):
            a, w = node[m], weight[m]
            for i in range(rank):
                variance = 1.0 / (1.0 + a * a * g[b, i])
                own[i] += w * variance
                seen[i] += w * a * a * variance
                latent[i] = a * (q[i] - a * p[i]) * variance
            first[b, 0] += w * a
            second[b, 0, 0] += w * a * a
            for k in range(rank):
                value = 0.0
                for i in range(rank):
                    value += basis[b, k, i] * latent[i]
                turned[m, k] = value
                z[b, k] += w * value
                first[b, 1 + k] += w * a * value
                second[b, 0, 1 + k] += w * a * a * value
        for k in range(rank):
            second[b, 1 + k, 0] = second[b, 0, 1 + k]
            for j in range(k + 1):
                spread, moment = 0.0, 0.0
                for i in range(rank):
                    both = basis[b, k, i] * basis[b, j, i]
                    spread += both * own[i]
                    moment += both * seen[i]
                for m in range(_COUNT):
                    away = (turned[m, k] - z[b, k]) * (turned[m, j] - z[b, j])
                    spread += weight[m] * away
                    moment += weight[m] * node[m] ** 2 * turned[m, k] * turned[m, j]
                covariance[b, k, j] = covariance[b, j, k] = spread
                second[b, 1 + k, 1 + j] = second[b, 1 + j, 1 + k] = moment
        contrast[b], contrast_square[b] = first[b, 0], second[b, 0, 0]
