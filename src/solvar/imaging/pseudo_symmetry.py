"""Whether lost particles were found by one and the same turn, after which the molecule looks alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.frames import mirrored
from solvar.imaging.rotations import nearest_rotation, to_rotation_vector

Float64 = NDArray[np.float64]

# turns below are errors of poses, and turns this near each other are the same, radians
_ERROR, _SAME = np.pi / 4, np.pi / 12
# turns that are tried
_TRIED = 500
# chance allows one such finding in so many; and what is worth telling
_CHANCE, _FEWEST = 1e-4, 10


@dataclass(frozen=True, eq=False)
class PseudoSymmetry:
    """A turn after which a molecule, or its mirror image, looks nearly the same.

    Attributes
    ----------
    turn : (3,) float64
        Rotation vector in the frame of the molecule, radians; after `mirrored` where it is one.
    mirror : bool
    count : int
        How many particles it has taken from one pose to another.
    """

    turn: Float64
    mirror: bool
    count: int

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
    trace = np.einsum("nij,nij->n", after, before)
    far = trace < 1 + 2 * np.cos(_ERROR)
    found = [
        _shared_turn(after[far] @ each.transpose(0, 2, 1), mirror)
        for each, mirror in ((before[far], False), (mirrored(before[far]), True))
    ]
    return max((each for each in found if each), key=lambda each: each.count, default=None)


def _shared_turn(turns: Float64, mirror: bool) -> PseudoSymmetry | None:
    """What more of the turns (M, 3, 3) share than chance allows."""
    if len(turns) < _FEWEST:
        return None
    same = 1 + 2 * np.cos(_SAME)
    tried = turns[:: -(-len(turns) // _TRIED)]
    to = np.einsum("aij,bij->ab", tried, turns) > same
    back = mirrored(tried) if mirror else tried
    fro = np.einsum("aij,bji->ab", back, turns) > same
    count = (to | fro).sum(axis=1)
    best = int(np.argmax(count))
    # of turns by anything, what lies within reach of one or of its inverse, beside itself
    expected = 2 * (_SAME - np.sin(_SAME)) / np.pi * len(turns)
    if count[best] < _FEWEST or len(tried) * _more_than(count[best] - 1, expected) > _CHANCE:
        return None
    mean = nearest_rotation(turns[to[best]].sum(axis=0))
    return PseudoSymmetry(to_rotation_vector(mean[None])[0], mirror, int(count[best]))


def _more_than(count: int, expected: float) -> float:
    """The probability of so many or more where so many are expected."""
    from scipy.stats import poisson

    return float(poisson.sf(count - 1, expected))
