"""Whether particles ask for a valley of their density, or would be as well off without it.

A valley is filled by a bridge of Gaussians along the ridge that crosses it, as wide as what is there already,
until it is as high as the lower of its hills. The others adapt to that. What likelihood is lost is what the
particles say for the valley: a mixture of few Gaussians, of few particles or seen through wide errors, has
valleys that cost nothing to fill.

A sheet that bends through many components, two motions at once, is cut into lumps of unlike thickness. The
straight way between two of them leaves it, so that filling costs what no gap is worth. Seen from the side the
lumps lie behind each other, and states still have their valley.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture import Likelihoods, Mixture, improved, log_evidence
from solvar.analysis.ridges import ridges, widths

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SEEN_THROUGH, _WIDER = 0.1, 2.0
_PLACES = 200


def visible(mixture: Mixture, seen: Likelihoods) -> Mixture:
    """The density, no finer than errors and the Gaussians that it is made of allow."""
    wide = Mixture(mixture.share, mixture.mean, _WIDER * mixture.covariance)
    return wide.widened(_SEEN_THROUGH * seen.error)


def told_by_particles(
    mixture: Mixture, seen: Likelihoods, start: Float64, end: Float64, level: float
) -> float:
    """Log-likelihood that is lost where the valley between two hills is filled.

    Parameters
    ----------
    mixture : Mixture
        Fitted to `seen`.
    seen : Likelihoods
    start, end : (m,)
        Hilltops of the visible density.
    level : float
        Visible density up to which it is filled.

    Returns
    -------
    float
        Nats, of all particles; about 0 where none asks for the valley.
    """
    path = ridges(visible(mixture, seen), start[None], end[None])[0]
    bridge = _bridge(mixture, seen, path, level)
    if len(bridge) == 0:
        return 0.0
    # the bridge comes on top of what is there
    factor = 1 / (1 + float(bridge.share.sum()))
    filled = improved(mixture.scaled(factor), seen, bridge.scaled(factor))
    return log_evidence(seen, mixture) - log_evidence(seen, filled)


def log_side_pass(shown: Mixture, one: Bools, other: Bools) -> float:
    """Log of how populated the valley between two states is, of the lower one, seen from the side.

    That is the density of both, summed over all directions but Fisher's, which tells them apart best. Lumps
    of a sheet that particles fill evenly hide each other's gaps.

    Parameters
    ----------
    shown : Mixture
        The visible density.
    one, other : (K,) bool
        Which Gaussians belong to the states.
    """
    (mean, width), (other_mean, other_width) = (
        shown.of_some(which).moments() for which in (one, other)
    )
    line = np.asarray(np.linalg.solve(width + other_width, other_mean - mean), dtype=np.float64)
    if not line.any():
        # one lies about the middle of the other
        return 0.0
    side = shown.of_some(one | other).projected(line)
    places = np.linspace(side.mean.min(), side.mean.max(), _PLACES)[:, None]
    height = side.log_density(places)
    before, behind = np.maximum.accumulate(height), np.maximum.accumulate(height[::-1])[::-1]
    return float((height - np.minimum(before, behind)).min())


def _bridge(mixture: Mixture, seen: Likelihoods, path: Float64, level: float) -> Mixture:
    """Gaussians on a path (n, m) that lift the visible density there to a level."""
    from scipy.optimize import nnls

    missing = np.maximum(level - np.exp(visible(mixture, seen).log_density(path)), 0)
    nodes = Mixture(np.ones(len(path)), path, widths(mixture, path))
    share, _ = nnls(np.exp(visible(nodes, seen).log_parts(path)), missing)
    kept = share > 0
    return Mixture(share[kept], path[kept], nodes.covariance[kept])
