"""Is a component a change of the molecule? What it explains, beside what else could explain it.

Everything is a gain in log-likelihood of particles that took no part in fitting the components. Contrasts,
pose errors, defocus errors and backgrounds are integrated out with the spreads that make these particles
likeliest when no component is there: so they are given all that they can explain, before a component gets
anything.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.causes import CONTRAST, IMAGE_CAUSES, POSE, ComponentEvidence, PoseDoubt
from solvar.estimation.held_out import (
    component_gains,
    held_out_scale,
    is_beyond_chance,
    transformed,
)
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.nuisances import UNITS, HeldOutProducts, integrated_out, residual_only
from solvar.threads import ThreadTeam

Float64 = NDArray[np.float64]

# A spread is a few numbers: more particles would not fix them better
_SPREAD_STEPS, _MOST_FOR_SPREAD = 8, 1000
# To first order is not wholly: a nuisance leaves a little of what it makes
_LEAST_SHARE = 0.1


def evidence(halves: list[HeldOutProducts], team: ThreadTeam | None = None) -> ComponentEvidence:
    """Evidence for the components, from the held-out particles of one or several models.

    Parameters
    ----------
    halves : list of HeldOutProducts
        Each of a model's components, in the same order, and of particles that it did not see.
    team : ThreadTeam, optional
        As of `image_posterior`.
    """
    gains: dict[tuple[bool, tuple[str, ...]], list[Float64]] = {}
    for half in halves:
        for kinds in ((), *((kind,) for kind in IMAGE_CAUSES), IMAGE_CAUSES):
            freed = _freed(half, kinds, team)
            for turned in (False, True) if kinds in ((), IMAGE_CAUSES) else (False,):
                columns = half.turned if turned else half.components
                found = component_gains(residual_only(freed, columns), team)
                gains.setdefault((turned, kinds), []).append(found)
    of = {each: np.concatenate(found) for each, found in gains.items()}
    plain, rest = of[False, ()], of[False, IMAGE_CAUSES]
    left = rest - np.maximum(of[True, IMAGE_CAUSES].mean(axis=0), 0)
    paired = rest - of[True, IMAGE_CAUSES]
    gain, mean = plain.mean(axis=0), left.mean(axis=0)
    kept = [of[False, (kind,)] for kind in IMAGE_CAUSES] + [plain - of[True, ()]]
    whole = np.maximum(gain, np.finfo(np.float64).tiny)
    explained = 1 - np.stack([each.mean(axis=0) for each in kept], axis=1) / whole[:, None]
    seen = is_beyond_chance(plain)
    real = seen & is_beyond_chance(rest) & is_beyond_chance(paired) & (mean > _LEAST_SHARE * gain)
    return ComponentEvidence(
        gain=gain,
        explained=np.where(seen[:, None], np.clip(explained, 0, 1), 0.0),
        left=np.where(seen, np.clip(mean / whole, 0, 1), 0.0),
        real=real,
        seen=seen,
    )


def _freed(half: HeldOutProducts, kinds: tuple[str, ...], team: ThreadTeam | None) -> Float64:
    """The products with contrasts and nuisances of some kinds integrated out."""
    nuisances = half.nuisances(CONTRAST, *kinds)
    factor = _spread(half.products, nuisances, team)
    return integrated_out(half.products, nuisances, factor, team)


def _spread(products: Float64, columns: NDArray[np.int64], team: ThreadTeam | None) -> Float64:
    """The factor of the covariance of columns' coefficients that suits particles best."""
    some = products[:: -(-len(products) // _MOST_FOR_SPREAD)]
    return held_out_scale(residual_only(some, columns), 0.0, _SPREAD_STEPS, team=team).factor


def pose_doubt(
    halves: list[HeldOutProducts],
    real: NDArray[np.bool_] | None = None,
    team: ThreadTeam | None = None,
) -> PoseDoubt:
    """How far poses are off, by particles that took no part in fitting the model.

    Parameters
    ----------
    halves : list of HeldOutProducts
    real : (r,) bool, optional
        Components that explain what they can first, as motion that no column holds looks like pose errors.
        Others may be made of these errors. None by default.
    team : ThreadTeam, optional
        As of `image_posterior`.
    """
    covariance, known, gains = [], [], []
    for half in halves:
        contrast = half.nuisances(CONTRAST)
        known_motion = half.components[:0] if real is None else half.components[real]
        base = np.concatenate([known_motion, contrast])
        both = np.concatenate([base, half.nuisances(POSE)])
        factor, plain = (_spread(half.products, each, team) for each in (both, base))
        found, before = (
            image_posterior(transformed(residual_only(half.products, each), scale), 0.0, team)
            for each, scale in ((both, factor), (base, plain))
        )
        gains.append(found.log_likelihood - before.log_likelihood)
        pose = slice(len(base), None)
        left = factor @ found.covariance.mean(axis=0) @ factor.T
        covariance.append((factor @ factor.T)[pose, pose])
        known.append(np.diag(covariance[-1] - left[pose, pose]))
    spread, less = np.mean(covariance, axis=0), np.mean(known, axis=0)
    rotation, shift = spread[:3, :3], spread[3:, 3:]
    least, alike = (np.maximum(np.linalg.eigvalsh(each)[0], 0) for each in (rotation, shift))
    return PoseDoubt(
        rotation_degree=UNITS.degrees * float(np.sqrt(3 * least)),
        shift_pixel=UNITS.pixels * float(np.sqrt(alike)),
        most_degree=UNITS.degrees * float(np.sqrt(np.trace(rotation))),
        most_pixel=UNITS.pixels * float(np.sqrt(np.trace(shift) / 3)),
        removable=float(less[:3].sum() / max(np.trace(rotation), 1e-30)),
        # a few numbers of spread cost a nat a set of particles: far less than three standard errors
        beyond_chance=bool(is_beyond_chance(np.concatenate(gains)[:, None])[0]),
    )
