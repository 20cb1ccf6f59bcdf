"""Whether lost particles were found by one and the same turn: the molecule looks alike after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.rotations import nearest_rotation, to_rotation_vector

Float64 = NDArray[np.float64]

# turns below are errors of poses, and turns this near each other are the same, radians
_ERROR, _SAME = np.pi / 4, np.pi / 12
# turns that are tried
_TRIED = 500
# chance allows one such finding in so many; and what is worth telling, a share of all particles
_CHANCE, _WORTH_TELLING = 1e-4, 0.01


@dataclass(frozen=True, eq=False)
class PseudoSymmetry:
    """A turn after which a molecule looks nearly the same.

    Attributes
    ----------
    turn : (3,) float64
        Rotation vector in the frame of the molecule, radians.
    share : float
        Share of all particles that it has taken from one pose to another.
    """

    turn: Float64
    share: float

    @property
    def degree(self) -> float:
        """By how much it turns."""
        return float(np.rad2deg(np.linalg.norm(self.turn)))


def pseudo_symmetry(before: Float64, after: Float64) -> PseudoSymmetry | None:
    """The turn that more particles have made, to or fro, than chance lets agree; None if there is none.

    Particles that were lost, and are found, have turned by anything.

    Parameters
    ----------
    before, after : (N, 3, 3)
        Rotations of the same particles in one frame.
    """
    turns = after @ before.transpose(0, 2, 1)
    far = turns[_cosine(turns) < np.cos(_ERROR)]
    if len(far) < 2:
        return None
    same = 1 + 2 * np.cos(_SAME)
    tried = far[:: -(-len(far) // _TRIED)]
    to = np.einsum("aij,bij->ab", tried, far) > same
    fro = np.einsum("aij,bji->ab", tried, far) > same
    count = (to | fro).sum(axis=1)
    best = int(np.argmax(count))
    share = count[best] / len(turns)
    # of turns by anything, what lies within reach of one or of its inverse, beside itself
    expected = 2 * (_SAME - np.sin(_SAME)) / np.pi * len(far)
    if share < _WORTH_TELLING or len(tried) * _more_than(count[best] - 1, expected) > _CHANCE:
        return None
    mean = nearest_rotation(far[to[best]].sum(axis=0))
    return PseudoSymmetry(to_rotation_vector(mean[None])[0], float(share))


def _cosine(rotation: Float64) -> Float64:
    return np.asarray((np.einsum("nii->n", rotation) - 1) / 2, dtype=np.float64)


def _more_than(count: int, expected: float) -> float:
    """The probability of so many or more where so many are expected."""
    from scipy.stats import poisson

    return float(poisson.sf(count - 1, expected))
