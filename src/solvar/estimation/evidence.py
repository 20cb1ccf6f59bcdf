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

from solvar.estimation.held_out import (
    component_gains,
    held_out_scale,
    is_beyond_chance,
    transformed,
)
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.nuisances import (
    BACKGROUND,
    CONTRAST,
    DEFOCUS,
    POSE,
    UNITS,
    HeldOutProducts,
    integrated_out,
    residual_only,
)

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

_IMAGE_CAUSES = (POSE, DEFOCUS, BACKGROUND)
VIEW = "any view"
CAUSES = (*_IMAGE_CAUSES, VIEW)
_SPREAD_STEPS = 8
# To first order is not wholly: a nuisance leaves a little of what it makes
_LEAST_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class ComponentEvidence:
    """What r components explain of particles that they were not fitted to.

    Attributes
    ----------
    gain : (r,) float64
        Log-likelihood that each adds to the ones before it, nats a particle.
    explained : (r, 4) float64
        Which share of it each of `CAUSES` could have made, alone, 0 to 1.
    left : (r,) float64
        Which share none of them could have made, 0 to 1.
    real : (r,) bool
        Whether that is beyond chance.
    seen : (r,) bool
        Whether the gain is beyond chance, whatever has made it.
    """

    gain: Float64
    explained: Float64
    left: Float64
    real: Bool
    seen: Bool


def evidence(halves: list[HeldOutProducts]) -> ComponentEvidence:
    """Evidence for the components, from the held-out particles of one or several models.

    Parameters
    ----------
    halves : list of HeldOutProducts
        Each of a model's components, in the same order, and of particles that it did not see.
    """
    gains: dict[tuple[bool, tuple[str, ...]], list[Float64]] = {}
    for half in halves:
        for kinds in ((), *((kind,) for kind in _IMAGE_CAUSES), _IMAGE_CAUSES):
            freed = _freed(half, kinds)
            for turned in (False, True) if kinds in ((), _IMAGE_CAUSES) else (False,):
                columns = half.turned if turned else half.components
                found = component_gains(residual_only(freed, columns), 0.0)
                gains.setdefault((turned, kinds), []).append(found)
    of = {each: np.concatenate(found) for each, found in gains.items()}
    plain, rest = of[False, ()], of[False, _IMAGE_CAUSES]
    left = rest - np.maximum(of[True, _IMAGE_CAUSES].mean(axis=0), 0)
    paired = rest - of[True, _IMAGE_CAUSES]
    gain, mean = plain.mean(axis=0), left.mean(axis=0)
    kept = [of[False, (kind,)] for kind in _IMAGE_CAUSES] + [plain - of[True, ()]]
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


def _freed(half: HeldOutProducts, kinds: tuple[str, ...]) -> Float64:
    """The products with contrasts and nuisances of some kinds integrated out."""
    nuisances = half.nuisances(CONTRAST, *kinds)
    scale = held_out_scale(residual_only(half.products, nuisances), 0.0, _SPREAD_STEPS)
    return integrated_out(half.products, nuisances, scale.factor)


@dataclass(frozen=True)
class PoseDoubt:
    """What the images say of the errors of their poses, to first order.

    A domain that moves looks like a rotation about some axes and a shift along others. Errors of poses go in
    all directions of the molecule alike, because it is seen from all sides. So the direction of least spread
    tells the errors, and the whole spread what they are at most.

    Attributes
    ----------
    rotation_degree : float
        Root mean square of a rotation that is as large about all three axes as about that of least spread.
    shift_pixel : float
        Root mean square along the axis of least spread.
    most_degree, most_pixel : float
        Root mean square of the rotation about all axes, and of the shift along an axis, whatever makes them.
    removable : float
        Share of the squared rotations that one step would take away.
    beyond_chance : bool
        Whether they explain images beyond what none do.
    """

    rotation_degree: float
    shift_pixel: float
    most_degree: float
    most_pixel: float
    removable: float
    beyond_chance: bool


def pose_doubt(halves: list[HeldOutProducts], with_components: bool) -> PoseDoubt:
    """How far poses are off, by particles that took no part in fitting the model.

    Parameters
    ----------
    halves : list of HeldOutProducts
    with_components : bool
        Whether the components explain what they can; motion that no column holds looks like pose errors.
    """
    covariance, known, gains = [], [], []
    for half in halves:
        contrast = half.nuisances(CONTRAST)
        base = np.concatenate([half.components, contrast]) if with_components else contrast
        both = np.concatenate([base, half.nuisances(POSE)])
        products, without = (residual_only(half.products, each) for each in (both, base))
        scale, plain = (held_out_scale(each, 0.0, _SPREAD_STEPS) for each in (products, without))
        found = image_posterior(transformed(products, scale.factor), 0.0)
        before = image_posterior(transformed(without, plain.factor), 0.0)
        gains.append(found.log_likelihood - before.log_likelihood)
        pose = slice(len(base), None)
        left = scale.factor @ found.covariance.mean(axis=0) @ scale.factor.T
        covariance.append((scale.factor @ scale.factor.T)[pose, pose])
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
