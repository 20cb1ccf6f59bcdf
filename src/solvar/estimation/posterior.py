"""What is known of each particle: latents, contrast, and its corrected pose."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.point_groups import nearest_equivalent
from solvar.particles import Poses

Float64 = NDArray[np.float64]


def squared_differences(z: Float64, point: Float64, unit: Float64 | None = None) -> Float64:
    """‖V z_i - V z*‖² (N,) of latents (N, r) and a point (r,) in units (r,): who is near to it.

    Units are those of eigenvolumes by default.

    Eigenvolumes are orthonormal, so it is how much volumes differ: a component counts by what it changes.
    Each particle's own precision takes no part, for as a metric it has those nearest of which least is
    known, and as a penalty those best seen, which show few views
    (docs/decisions/0025-particles-near-a-point.md).
    """
    found = np.zeros(len(z))
    # one component after the other: no copy of all latents
    units = np.ones(len(point)) if unit is None else unit
    for values, value, one in zip(z.T, point, units, strict=True):
        found += (one * (values - value)) ** 2
    return found


@dataclass(frozen=True, eq=False)
class Posterior:
    """What is known of each particle given the model (N particles in input row order).

    Attributes
    ----------
    z : (N, r) float64
        Posterior mean latents in eigenvolume units (prior variance = eigenvalue).
    precision : (N, r, r) float64
        Posterior precision of `z`. Contrast and, where poses were refined, pose errors are integrated out:
        what they leave uncertain widens the error bars, and so does the error of the model, as far as two
        half models show it.
    contrast : (N,) float64
        Posterior mean of the contrast factor a ~ N(1, τ²).
    log_likelihood : (N,) float64
        Log evidence of the whitened image y up to -½‖y‖² and constants that no parameter changes.
    """

    z: Float64
    precision: Float64
    contrast: Float64
    log_likelihood: Float64


@dataclass(frozen=True, eq=False)
class TiltRefinement:
    """What refinement did to the shifts of tilt images; the refined ones are those of the fit's exposures.

    Attributes
    ----------
    moved_angstrom : (M, 2) float64
        By how much each image was moved by the shift of its exposure.
    prior_angstrom : float
        Estimated spread of these shifts per axis.
    """

    moved_angstrom: Float64
    prior_angstrom: float

    def summary(self) -> dict[str, float]:
        """Rms shift per axis and the prior's width, ready for JSON."""
        rms = float(np.sqrt(np.mean(self.moved_angstrom**2)))
        return {"shift_rms_angstrom": rms, "prior_angstrom": self.prior_angstrom}


@dataclass(frozen=True, eq=False)
class PoseRefinement:
    """What refinement did to the poses; the refined ones are those of the fit's particles.

    Attributes
    ----------
    start : Poses
        Poses of the input, (N, 3, 3) and (N, d) Å.
    covariance : (N, 3 + d, 3 + d) float64
        Posterior covariance of each particle's rotation vector (3, radians, about the x, y, z axes of
        the volume) and shift (x, y and, where it was tilted, z; Å), latents and contrast integrated out.
    prior_rotation_degree, prior_shift_angstrom : float
        Estimated spread of the input's errors per axis: the width of the prior around the input poses.
    """

    start: Poses
    covariance: Float64
    prior_rotation_degree: float
    prior_shift_angstrom: float

    def beginning_near(self, refined: Poses, operations: Float64) -> PoseRefinement:
        """From those of the poses alike by a group (n, 3, 3) that are nearest to the refined ones."""
        rotation = nearest_equivalent(self.start.rotation, refined.rotation, operations)
        return replace(self, start=replace(self.start, rotation=rotation))
