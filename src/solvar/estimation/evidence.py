"""Is a component a change of the molecule? What it explains, beside what else could explain it.

Everything is a gain in log-likelihood of particles that took no part in fitting the components. Contrasts,
pose errors, defocus errors and backgrounds are integrated out with the spreads that make these particles
likeliest when no component is there: so they are given all that they can explain, before a component gets
anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.held_out import component_gains, held_out_scale, is_beyond_chance
from solvar.estimation.nuisances import (
    BACKGROUND,
    CONTRAST,
    DEFOCUS,
    POSE,
    TestedProducts,
    integrated_out,
    residual_only,
)

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

VIEW = "any view"
CAUSES = (POSE, DEFOCUS, BACKGROUND, VIEW)
_SPREAD_STEPS = 8
# A first-order nuisance leaves a little of what it makes: what is left must be more than this share
_LEAST_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class ComponentEvidence:
    """What r components explain of particles that they were not fitted to.

    Attributes
    ----------
    gain : (r,) float64
        Log-likelihood that each adds to the ones before it, nats a particle.
    explained : (r, 4) float64
        Which share of it `CAUSES` could have made, each alone, 0 to 1.
    left : (r,) float64
        Which share no cause could have made.
    real : (r,) bool
        Whether that is beyond chance.
    """

    gain: Float64
    explained: Float64
    left: Float64
    real: Bool


def evidence(halves: list[TestedProducts]) -> ComponentEvidence:
    """Evidence for the components, from the held-out particles of one or several models.

    Parameters
    ----------
    halves : list of TestedProducts
        Each of a model's components, in the same order, and of particles that it did not see.
    """
    # each is summed up over the halves' particles as soon as it is there: products are large
    gained: dict[tuple[bool, tuple[str, ...]], list[Float64]] = {}
    for half in halves:
        for kinds in ((), *((kind,) for kind in CAUSES[:-1]), CAUSES[:-1]):
            freed = _freed(half, kinds)
            for turned in (False, True) if kinds in ((), CAUSES[:-1]) else (False,):
                columns = half.turned if turned else half.components
                found = component_gains(residual_only(freed, columns), 0.0)
                gained.setdefault((turned, kinds), []).append(found)
    gains = {each: np.concatenate(found) for each, found in gained.items()}
    plain, rest = gains[False, ()], gains[False, CAUSES[:-1]]
    left = rest - np.maximum(gains[True, CAUSES[:-1]], 0)
    gain = plain.mean(axis=0)
    kept = [gains[False, (kind,)] for kind in CAUSES[:-1]] + [plain - gains[True, ()]]
    explained = 1 - np.stack([each.mean(axis=0) for each in kept], axis=1) / gain[:, None]
    real = is_beyond_chance(plain) & is_beyond_chance(rest) & is_beyond_chance(left)
    real &= left.mean(axis=0) > _LEAST_SHARE * gain
    share = np.clip(left.mean(axis=0) / gain, 0, 1)
    return ComponentEvidence(gain, np.clip(explained, 0, 1), share, real)


def _freed(half: TestedProducts, kinds: tuple[str, ...]) -> Float64:
    """The products with contrasts and nuisances of some kinds integrated out."""
    nuisances = half.nuisances(CONTRAST, *kinds)
    scale = held_out_scale(residual_only(half.products, nuisances), 0.0, _SPREAD_STEPS)
    return integrated_out(half.products, nuisances, scale.factor)
