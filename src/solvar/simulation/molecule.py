"""Molecules as sums of Gaussian blobs: a built-in one that bends in two ways, or a file's atoms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.imaging.rotations import from_rotation_vector
from solvar.structure_file import read_structure

if TYPE_CHECKING:
    import gemmi

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# Shape of the built-in molecule in Å: a notched ellipsoid, an arm with a knob, a handle-like loop.
_BODY_AXES = np.array([31.0, 22.0, 19.0])
_NOTCH_CENTRE, _NOTCH_RADIUS = np.array([6.0, -25.0, 3.0]), 14.0
_HINGE = np.array([20.0, 13.0, 4.0])
_ARM_DIRECTION = np.array([0.55, 0.77, 0.32]) / np.linalg.norm([0.55, 0.77, 0.32])
_ARM_AXES = np.array([25.0, 10.0, 8.0])
_KNOB_CENTRE, _KNOB_RADIUS = np.array([40.0, 8.0, 6.0]), 9.0  # in the frame of the arm
_LOOP_ANCHORS = np.array([[-25.0, -8.0, 5.0], [-14.0, 12.0, 11.0]])
_LOOP_HEIGHT = 27.0
_BODY_COUNT, _ARM_COUNT, _LOOP_COUNT = 210, 74, 22
_STEP, _SEPARATION = 5.6, 4.6
# Å; where coordinate files end
_FAR = 1e5
_HINGE_SWING, _LOOP_SWING = np.deg2rad(50.0), np.deg2rad(90.0)


@dataclass(frozen=True, eq=False)
class FlexibleMolecule:
    """Blobs with an arm that turns on a hinge and a loop that swings like a handle.

    Attributes
    ----------
    positions : (A, 3) float64
        Blob centres at hinge = loop = 0.5, Å, xyz, centre of mass at the origin.
    weights : (A,) float64
        Integral of each blob.
    sigma_angstrom : float
        Standard deviation of each blob.
    arm, loop : (A,) bool
        The blobs that each of the two motions carries.
    hinge_point, hinge_axis, loop_point, loop_axis : (3,) float64
        A point on each axis of rotation and its unit direction.
    """

    positions: Float64
    weights: Float64
    sigma_angstrom: float
    arm: Bool
    loop: Bool
    hinge_point: Float64
    hinge_axis: Float64
    loop_point: Float64
    loop_axis: Float64

    def conformation(self, hinge: ArrayLike, loop: ArrayLike) -> Float64:
        """Blob centres of one or many conformations.

        Parameters
        ----------
        hinge, loop : scalar or (n,) array-like
            Each coordinate runs over [0, 1]: 50° for the arm, 90° for the loop.

        Returns
        -------
        (A, 3) or (n, A, 3) float64
            Å, xyz.
        """
        hinge, loop = np.broadcast_arrays(*(np.asarray(u, np.float64) for u in (hinge, loop)))
        moved = np.broadcast_to(self.positions, (*hinge.shape, *self.positions.shape)).copy()
        for part, point, axis, angle in (
            (self.arm, self.hinge_point, self.hinge_axis, (hinge - 0.5) * _HINGE_SWING),
            (self.loop, self.loop_point, self.loop_axis, (loop - 0.5) * _LOOP_SWING),
        ):
            turn = from_rotation_vector(angle[..., None] * axis)
            around = self.positions[part] - point
            moved[..., part, :] = around @ np.swapaxes(turn, -1, -2) + point
        return moved

    def diameter(self) -> float:
        """Twice the largest distance of a blob from the origin over the conformations, Å."""
        ends = self.conformation([0, 0, 0.5, 1, 1], [0, 1, 0.5, 0, 1])
        return 2 * float(np.linalg.norm(ends, axis=-1).max())

    def scaled(self, factor: float) -> FlexibleMolecule:
        """The same molecule, `factor` times as large (blobs included)."""
        return replace(
            self,
            positions=self.positions * factor,
            sigma_angstrom=self.sigma_angstrom * factor,
            hinge_point=self.hinge_point * factor,
            loop_point=self.loop_point * factor,
        )


def flexible_molecule(seed: int = 0) -> FlexibleMolecule:
    """The built-in molecule: about 300 blobs, asymmetric, some 130 Å across.

    Parameters
    ----------
    seed : int
        Chooses the course of the chain; the domain shapes stay.
    """
    rng = np.random.default_rng([seed, 1])
    frame = _arm_frame()
    body = _self_avoiding_walk(np.zeros(3), _BODY_COUNT, _inside_body, np.empty((0, 3)), rng)

    def inside_arm(point: Float64) -> Bool:
        return _inside_arm((point - _HINGE) @ frame.T) & ~_inside_body(point)

    # the walk may not start inside the body: take the first free point outwards along the arm
    outwards = _HINGE + np.arange(0.0, 24.0, 1.0)[:, None] * _ARM_DIRECTION
    start = outwards[np.flatnonzero(inside_arm(outwards))[0]]
    arm = _self_avoiding_walk(start, _ARM_COUNT, inside_arm, body, rng)
    loop = _loop_arc(rng)
    positions = np.concatenate([body, arm, loop])
    part = np.repeat([0, 1, 2], [len(body), len(arm), len(loop)])
    # residues differ in mass; a little spread breaks what symmetry the domains have
    weights = rng.uniform(0.8, 1.2, len(positions)) * np.array([1.0, 1.1, 1.5])[part]
    centre = weights @ positions / weights.sum()
    chord = _LOOP_ANCHORS[1] - _LOOP_ANCHORS[0]
    return FlexibleMolecule(
        positions=positions - centre,
        weights=weights,
        sigma_angstrom=2.0,
        arm=part == 1,
        loop=part == 2,
        hinge_point=_HINGE - centre,
        hinge_axis=frame[2],
        loop_point=_LOOP_ANCHORS[0] - centre,
        loop_axis=chord / np.linalg.norm(chord),
    )


def _arm_frame() -> Float64:
    """Rows: the arm's long direction, its broad side, its thin side."""
    thin = np.cross(_ARM_DIRECTION, [0.0, 0.3, 1.0])
    thin = np.cross(thin, _ARM_DIRECTION)
    thin /= np.linalg.norm(thin)
    return np.stack([_ARM_DIRECTION, np.cross(thin, _ARM_DIRECTION), thin])


def _inside_body(point: Float64) -> Bool:
    ellipsoid = (point**2 / _BODY_AXES**2).sum(axis=-1) <= 1
    notch = ((point - _NOTCH_CENTRE) ** 2).sum(axis=-1) <= _NOTCH_RADIUS**2
    return ellipsoid & ~notch


def _inside_arm(local: Float64) -> Bool:
    """In the arm's frame, whose origin is the hinge."""
    rod = ((local - [_ARM_AXES[0], 0, 0]) ** 2 / _ARM_AXES**2).sum(axis=-1) <= 1
    knob = ((local - _KNOB_CENTRE) ** 2).sum(axis=-1) <= _KNOB_RADIUS**2
    return rod | knob


def _self_avoiding_walk(
    start: Float64,
    count: int,
    inside: Callable[[Float64], Bool],
    occupied: Float64,
    rng: np.random.Generator,
) -> Float64:
    """A chain of `count` beads inside a domain, no two closer than the separation.

    A dead end is left by going on from a random earlier bead, so that the domain fills evenly.
    """
    beads = [np.asarray(start, dtype=np.float64)]
    tip = beads[0]
    for _ in range(200 * count):
        if len(beads) == count:
            break
        direction = rng.standard_normal((24, 3))
        trial = tip + _STEP * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        others = np.concatenate([np.stack(beads), occupied])
        gap = np.linalg.norm(trial[:, None] - others, axis=-1).min(axis=1)
        free = np.flatnonzero(inside(trial) & (gap >= _SEPARATION))
        if len(free):
            tip = trial[free[0]]
            beads.append(tip)
        else:
            tip = beads[rng.integers(len(beads))]
    return np.stack(beads)


def _loop_arc(rng: np.random.Generator) -> Float64:
    """Beads along half an ellipse from anchor to anchor, slightly crumpled."""
    first, last = _LOOP_ANCHORS
    middle, half = (first + last) / 2, (last - first) / 2
    axis = half / np.linalg.norm(half)
    outwards = middle - (middle @ axis) * axis
    outwards /= np.linalg.norm(outwards)
    angle = np.linspace(0, np.pi, _LOOP_COUNT)[:, None]
    # wider than its feet, as loops are
    arc = middle - 1.3 * np.cos(angle) * half + _LOOP_HEIGHT * np.sin(angle) * outwards
    return arc + rng.normal(0, 0.8, arc.shape)


@dataclass(frozen=True, eq=False)
class AtomStates:
    """Atoms of a coordinate file in one or several conformations.

    Attributes
    ----------
    positions : (K, A, 3) float64
        One conformation a model of the file, Å, xyz; common centre of mass at the origin.
    weights : (A,) float64
        Electrons of each atom times its occupancy.
    """

    positions: Float64
    weights: Float64


def atoms_from_file(path: str | Path) -> AtomStates:
    """Read a PDB or mmCIF file (also gzipped); its models become conformations.

    Waters and hydrogens are left out. Raises `InputError` when the file cannot be read, is empty,
    or has models with different atoms.
    """
    structure = read_structure(path)
    models = [
        [(atom.pos.tolist(), atom.element.atomic_number * atom.occ) for atom in _atoms(model)]
        for model in structure
    ]
    for number, model in enumerate(models, start=1):
        if len(model) != len(models[0]):
            raise InputError(
                f"model {number} has {len(model)} atoms and model 1 has {len(models[0])}",
                file=path,
                remedy="give models of the same molecule",
            )
    positions = np.array([[position for position, _ in model] for model in models])
    weights = np.array([weight for _, weight in models[0]], dtype=np.float64)
    if not weights.sum() > 0:
        raise InputError("all atoms have occupancy 0", file=path)
    if not (np.abs(positions) < _FAR).all() or not np.isfinite(weights).all():
        raise InputError("has an atom that is nowhere", file=path)
    centre = weights @ positions.mean(axis=0) / weights.sum()
    return AtomStates(positions - centre, weights)


def _atoms(model: gemmi.Model) -> Iterator[gemmi.Atom]:
    return (atom for chain in model for residue in chain for atom in residue)
