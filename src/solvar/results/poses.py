"""How far refinement moved the particles, and how sure it is of where it put them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.posterior import PoseRefinement
from solvar.imaging.rotations import to_rotation_vector
from solvar.particles import Poses

Float64 = NDArray[np.float64]

# a particle was far off where it turned by more than this, and by so many times what half of them did
_FAR_DEGREE, _FAR_TIMES = 10.0, 4.0
_ROUNDING = 1e-4
# The parts of a pose: key, words, unit.
PARTS = (
    ("out_of_plane", "viewing direction", "°"),
    ("in_plane", "in-plane angle", "°"),
    ("shift", "shift", "Å"),
)


@dataclass(frozen=True, eq=False)
class PoseChange:
    """Corrections of N poses and their posterior spreads, by part of the pose.

    Both are lengths: the correction of a viewing direction or shift is the length of a vector of two
    numbers (of three for shifts of tilted particles), its spread the root of the trace of their
    covariance, so that the two can be compared.

    Attributes
    ----------
    turn_degree : (N,) float64
        Angle of the whole rotation between the poses.
    correction, spread : dict of str to (N,) float64
        Keys as in `PARTS`; degrees for the angles, Å for the shift. In-plane corrections are signed.
    prior_rotation_degree, prior_shift_angstrom : float
        Width of the prior per axis.
    """

    turn_degree: Float64
    correction: dict[str, Float64]
    spread: dict[str, Float64]
    prior_rotation_degree: float
    prior_shift_angstrom: float

    @classmethod
    def of(cls, refined: Poses, refinement: PoseRefinement) -> PoseChange:
        """Compare refined poses with those that they started from."""
        start = refinement.start
        # rotation vector in the frame of the image, in which z is the beam
        turn = to_rotation_vector(np.swapaxes(start.rotation, -1, -2) @ refined.rotation)
        moved = refined.shift_angstrom - start.shift_angstrom
        to_image = refined.rotation
        angles = np.swapaxes(to_image, -1, -2) @ refinement.covariance[:, :3, :3] @ to_image
        rotation_variance = np.einsum("nii->ni", angles)
        shift_variance = np.einsum("nii->ni", refinement.covariance[:, 3:, 3:])
        return cls(
            turn_degree=np.rad2deg(np.linalg.norm(turn, axis=1)),
            correction={
                "out_of_plane": np.rad2deg(np.linalg.norm(turn[:, :2], axis=1)),
                "in_plane": np.rad2deg(turn[:, 2]),
                "shift": np.linalg.norm(moved, axis=1),
            },
            spread={
                "out_of_plane": np.rad2deg(_root(rotation_variance[:, :2].sum(axis=1))),
                "in_plane": np.rad2deg(_root(rotation_variance[:, 2])),
                "shift": _root(shift_variance.sum(axis=1)),
            },
            prior_rotation_degree=refinement.prior_rotation_degree,
            prior_shift_angstrom=refinement.prior_shift_angstrom,
        )

    @property
    def applied(self) -> bool:
        """Whether any pose was changed: refinement is given up where held-out images gain nothing."""
        moved = np.maximum(self.turn_degree, self.correction["shift"])
        return bool(np.any(moved > _ROUNDING))

    @property
    def found_elsewhere(self) -> NDArray[np.bool_]:
        """Which particles (N,) had been far from where they were found."""
        usual = _FAR_TIMES * np.median(self.turn_degree)
        return np.asarray(self.turn_degree > max(_FAR_DEGREE, usual))

    @property
    def unknown(self) -> NDArray[np.bool_]:
        """Which particles (N,) show less of their viewing direction than the prior knew."""
        # the posterior has more than half the prior's variance, 2 prior² of two axes
        return np.asarray(self.spread["out_of_plane"] > self.prior_rotation_degree)

    def sentence(self) -> str:
        """What refinement did, in words, without a capital or a full stop."""
        if not self.applied:
            return "the poses are as they were: no others made held-out images likelier"
        moved = [
            f"{words} {with_unit(float(np.median(np.abs(self.correction[name]))), unit)}"
            for name, words, unit in PARTS
        ]
        told = f"median corrections: {_listed(moved)}"
        if count := int(self.found_elsewhere.sum()):
            told += f"; {count:,} particles had been far off and were found elsewhere"
        if count := int(self.unknown.sum()):
            told += f"; the images of {count:,} say less of their viewing direction than was known before"
        return told

    def summary(self) -> dict[str, Any]:
        """Median and rms correction and spread of each part, ready for JSON."""
        parts = {
            f"{name}_{'angstrom' if unit == 'Å' else 'degree'}": {
                "correction_median": float(np.median(np.abs(self.correction[name]))),
                "correction_rms": _rms(self.correction[name]),
                "spread_median": float(np.median(self.spread[name])),
                "spread_rms": _rms(self.spread[name]),
            }
            for name, _, unit in PARTS
        }
        return {
            **parts,
            "applied": self.applied,
            "found_elsewhere": int(self.found_elsewhere.sum()),
            "unknown": int(self.unknown.sum()),
            "prior_rotation_degree": self.prior_rotation_degree,
            "prior_shift_angstrom": self.prior_shift_angstrom,
        }

    def warnings(self) -> list[str]:
        """One sentence if nothing was changed, or some part less than it is uncertain, else none.

        The squares of correction and spread add up to that of the prior's width, on average: where
        the spread is the larger, the prior, that is the input, held most of what is known.
        """
        if not self.applied:
            return [
                "Refinement was not applied: no other poses made held-out images any likelier, so "
                "they are as they were before it."
            ]
        unsure = [
            f"{words} (corrected by {with_unit(_rms(self.correction[name]), unit)}, known to "
            f"{with_unit(_rms(self.spread[name]), unit)})"
            for name, words, unit in PARTS
            if _rms(self.spread[name]) > _rms(self.correction[name])
        ]
        if not unsure:
            return []
        return [
            "The images say less about the poses than the input did: what is unknown of a pose after "
            f"refinement is larger than its correction in the {_listed(unsure)}. The poses stay "
            "close to the input; a run without --refine-pose would find much the same."
        ]


def with_unit(value: float, unit: str) -> str:
    """Two digits and the unit, which stands apart unless it is a degree sign."""
    return f"{value:.2g}{unit}" if unit == "°" else f"{value:.2g} {unit}"


def _root(variance: Float64) -> Float64:
    """Standard deviations; rounding may have left a variance below 0."""
    return np.sqrt(np.maximum(variance, 0))


def _rms(values: Float64) -> float:
    return float(np.sqrt((values**2).mean()))


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
