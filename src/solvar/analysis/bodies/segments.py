"""Parts of chains: blocks of neighbouring residues, and what of them moves as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.bodies.atoms import Atoms
from solvar.imaging.rotations import nearest_rotation

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_BLOCK_RESIDUES, _MOST_BLOCKS = 10, 100
_FEWEST_RESIDUES = 20
# Å between the centres of residues that touch
_CONTACT = 10.0


@dataclass(frozen=True, eq=False)
class Part:
    """Some residues of one chain.

    Attributes
    ----------
    chain : int
    residues : (m,) int64
        Rising.
    atoms : (a,) int64
        All of theirs.
    """

    chain: int
    residues: Int64
    atoms: Int64

    @classmethod
    def of(cls, atoms: Atoms, residues: Int64) -> Part:
        """The part of a model that residues of one chain are."""
        inside = np.zeros(len(atoms.chain), bool)
        inside[residues] = True
        return cls(int(atoms.chain[residues[0]]), residues, np.flatnonzero(inside[atoms.residue]))

    def name(self, atoms: Atoms) -> str:
        """The chain, and the numbers of the residues where it has others: ``A:30-67,118-160``."""
        chain, whole = atoms.names[self.chain], np.flatnonzero(atoms.chain == self.chain)
        if len(whole) == len(self.residues):
            return chain
        place, number = np.searchsorted(whole, self.residues), atoms.number[self.residues]
        ends = np.flatnonzero((np.diff(place) > 1) | (np.diff(number) < 0)) + 1
        numbers = [(run[0], run[-1]) for run in np.split(number, ends)]
        return f"{chain}:" + ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in numbers)


def blocks_of(atoms: Atoms) -> list[Part]:
    """Every chain cut into pieces of neighbouring residues, at most about a hundred in all."""
    size = max(_BLOCK_RESIDUES, len(atoms.chain) / _MOST_BLOCKS)
    found = []
    for chain in np.unique(atoms.chain):
        residues = np.flatnonzero(atoms.chain == chain)
        cuts = np.array_split(residues, max(1, round(len(residues) / size)))
        found += [Part.of(atoms, cut) for cut in cuts]
    return found


def contacts(atoms: Atoms, parts: list[Part]) -> tuple[Float64, Int64]:
    """Where parts touch: points (n, 3) between residues of two of them, Å, and these two (n, 2)."""
    from scipy.spatial import cKDTree

    owner = np.zeros(len(atoms.chain), np.int64)
    for number, part in enumerate(parts):
        owner[part.residues] = number
    centres = atoms.residue_centres()
    pairs = cKDTree(centres).query_pairs(_CONTACT, output_type="ndarray")
    pairs = pairs[owner[pairs[:, 0]] != owner[pairs[:, 1]]]
    return centres[pairs].mean(axis=1), owner[pairs]


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over weighted points before and after a motion, which tell how well a rigid one explains it.

    Attributes
    ----------
    weight : float
    before, after : (3,) float64
        Sums of positions.
    product : (3, 3) float64
        Sum of after · beforeᵀ.
    square : float
        Sum of the squared lengths of both.
    """

    weight: float
    before: Float64
    after: Float64
    product: Float64
    square: float

    @classmethod
    def of(cls, weights: Float64, before: Float64, after: Float64) -> Moments:
        """Those of points (A, 3)."""
        square = float(weights @ (before**2 + after**2).sum(axis=1))
        product = (after * weights[:, None]).T @ before
        return cls(float(weights.sum()), weights @ before, weights @ after, product, square)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            *(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True))
        )

    def rotation(self) -> Float64:
        """Of the rigid motion that explains most."""
        return nearest_rotation(self._centred())

    def misfit(self) -> float:
        """Weighted sum of the squared distances that the best rigid motion leaves."""
        centred = self._centred()
        square = self.square - (self.before @ self.before + self.after @ self.after) / self.weight
        return float(max(square - 2 * (nearest_rotation(centred) * centred).sum(), 0.0))

    def _centred(self) -> Float64:
        centred: Float64 = self.product - np.outer(self.after, self.before) / self.weight
        return centred


def moving_as_one(
    atoms: Atoms, blocks: list[Part], before: Float64, after: Float64, tolerance: float
) -> list[Part]:
    """Blocks of a chain put together as long as they share a rigid motion.

    Two parts are joined where the motion that explains both leaves the smaller one off by less than
    `tolerance` (root mean square), the best pair first. Then parts of fewer than 20 residues are joined to
    the one they fit best.

    Parameters
    ----------
    atoms : Atoms
    blocks : list of Part
    before, after : (A, 3) float64
        Positions of all atoms, Å.
    tolerance : float
        Å.
    """
    found = []
    for chain in np.unique(atoms.chain):
        here = [part for part in blocks if part.chain == chain]
        sums = [
            Moments.of(atoms.weights[part.atoms], before[part.atoms], after[part.atoms])
            for part in here
        ]
        found += [
            Part.of(atoms, each)
            for each in _joined([part.residues for part in here], sums, tolerance)
        ]
    return found


def _joined(residues: list[Int64], sums: list[Moments], tolerance: float) -> list[Int64]:
    """Residues of the parts of one chain that are left when all that fit have been joined."""
    count = len(residues)
    cost = np.full((count, count), np.inf)
    for g in range(count):
        for h in range(g + 1, count):
            cost[g, h] = cost[h, g] = _strain(sums[g], sums[h])
    parts = dict(enumerate(residues))
    while len(parts) > 1:
        g, h = (int(k) for k in np.unravel_index(np.argmin(cost), cost.shape))
        if cost[g, h] > tolerance:
            g = min(parts, key=lambda k: len(parts[k]))
            if len(parts[g]) >= _FEWEST_RESIDUES:
                break
            h = int(np.argmin(cost[g]))
        parts[g], sums[g] = np.union1d(parts[g], parts.pop(h)), sums[g] + sums[h]
        cost[h], cost[:, h] = np.inf, np.inf
        for k in parts.keys() - {g}:
            cost[g, k] = cost[k, g] = _strain(sums[g], sums[k])
    return sorted(parts.values(), key=lambda each: int(each[0]))


def _strain(one: Moments, other: Moments) -> float:
    """By how much the smaller of two parts is off, root mean square, where one motion explains both, Å."""
    more = (one + other).misfit() - one.misfit() - other.misfit()
    return float(np.sqrt(max(more, 0.0) / min(one.weight, other.weight)))
