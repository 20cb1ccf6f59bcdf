"""What poses at both ends of a component say of a body: how far it moves, and what that explains."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.bodies.fit import STEP, Body, Poses
from solvar.imaging.rotations import to_rotation_vector

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

MOVES, STILL, NOT_RIGID, COMES_AND_GOES = "moves", "still", "not rigid", "comes and goes"

# of the largest density of a body: there it is
_PRESENT_FROM = 0.1
# of a body: at one end as much as at the other; of a change; of chance
_COMES, _EXPLAINED, _BEYOND_CHANCE = 0.5, 0.5, 2.0
# of the largest displacement: less is none; of the density of a body: that much is a change
_STILL, _CHANGED = 0.1, 0.3
_RIDGE, _TINY = 1e-6, 1e-30


@dataclass(frozen=True)
class BodyMotion:
    """How a body gets from one end of a component to the other.

    Attributes
    ----------
    body : str
        A chain, or a chain and its residues: ``A`` or ``A:30-67,118-160``.
    atoms : int
    displacement_angstrom, error_angstrom : float
        Root mean square over its atoms, and the standard error.
    rotation_degree : float
    axis : (3,) floats
        Of the rotation, right-handed, xyz of the map.
    translation_angstrom : (3,) floats
        Of its centre of mass.
    occupancy : (2,) floats
        How much of it is there at either end; 1 is as much as of most atoms.
    correlation : float
        Of the change of density where the body is with that which all bodies together make.
    explained : float
        The share of that change which they make.
    verdict : str
        ``moves``, ``still``, ``not rigid`` or ``comes and goes``.
    """

    body: str
    atoms: int
    displacement_angstrom: float
    error_angstrom: float
    rotation_degree: float
    axis: tuple[float, float, float]
    translation_angstrom: tuple[float, float, float]
    occupancy: tuple[float, float]
    correlation: float
    explained: float
    verdict: str


@dataclass(frozen=True, eq=False)
class Ends:
    """What is known of G bodies at the two ends of a component.

    Attributes
    ----------
    bodies : list of Body
    poses : list of 2 Poses
    change, made : (n, n, n)
        Of density from one end to the other: as it is, and as the bodies make it.
    curvature : list of 2 (7G, 7G) float64
        Of the two fits, as of `body_fit.fit`.
    detail : float
        Resolution of the volumes, Å.
    """

    bodies: list[Body]
    poses: list[Poses]
    change: NDArray[np.floating]
    made: Float64
    curvature: list[Float64]
    detail: float


def motions(names: list[str], ends: Ends) -> list[BodyMotion]:
    """The motion of each body."""
    inverse: Float64 = np.mean([_inverse(curvature) for curvature in ends.curvature], axis=0)
    occupancy = np.stack([poses.occupancy for poses in ends.poses])
    mass = [body.weights.sum() for body in ends.bodies]
    occupancy = occupancy / np.average(occupancy.mean(axis=0), weights=mass)
    told = []
    for g, name in enumerate(names):
        block = slice(STEP * g + 1, STEP * (g + 1))
        told.append(_motion(name, ends, g, inverse[block, block], occupancy[:, g]))
    least = _STILL * max(one.displacement_angstrom for one in told)
    return [
        replace(one, verdict=STILL)
        if one.verdict == MOVES and one.displacement_angstrom < least
        else one
        for one in told
    ]


def _motion(name: str, ends: Ends, g: int, inverse: Float64, occupancy: Float64) -> BodyMotion:
    """The motion of body g, from the inverse (6, 6) of its curvature and its occupancy (2,) at both ends."""
    body, (first, last) = ends.bodies[g], ends.poses
    turn = to_rotation_vector(last.rotation[g] @ first.rotation[g].T)
    shift, angle = last.shift[g] - first.shift[g], float(np.linalg.norm(turn))
    places = [body.moved(poses.rotation[g], poses.shift[g]) for poses in (first, last)]
    square = body.weights @ ((places[1] - places[0]) ** 2).sum(axis=1)
    displacement = float(np.sqrt(square / body.weights.sum()))
    there, density = _present(ends, g)
    change, made = ends.change[there].astype(np.float64), ends.made[there]
    left, square_change = change - made, float(change @ change)
    # what is left is the difference of the errors of two ends; a voxel holds less than one independent number
    share = 4 / 3 * np.pi * (body.pixel_size / ends.detail) ** 3
    covariance = inverse * (left @ left) / (share * max(len(left), 1))
    step = np.concatenate([shift, turn * body.gyration])
    error, chance = _errors(body, first.rotation[g], step, covariance)
    explained = 1 - float(left @ left) / max(square_change, _TINY)
    correlation = float(change @ made) / max(float(np.sqrt(square_change * (made @ made))), _TINY)
    if occupancy.min() < _COMES * occupancy.max():
        verdict = COMES_AND_GOES
    elif explained < _EXPLAINED and square_change > (_CHANGED * density) ** 2:
        verdict = NOT_RIGID
    else:
        verdict = MOVES if displacement > _BEYOND_CHANCE * chance else STILL
    x, y, z = turn / max(angle, _TINY)
    return BodyMotion(
        name, len(body.weights), displacement, error, float(np.rad2deg(angle)), (x, y, z),
        tuple(shift), tuple(occupancy), correlation, explained, verdict,
    )  # fmt: skip


def _errors(
    body: Body, rotation: Float64, step: Float64, covariance: Float64
) -> tuple[float, float]:
    """Standard error of the displacement that a step (6,) makes, and what chance alone would make, Å."""
    # mean squared displacements are a quadratic form of shift, and rotation times gyration
    form = np.eye(len(step))
    moment = rotation @ body.second_moment @ rotation.T
    form[3:, 3:] = (np.trace(moment) * np.eye(3) - moment) / body.gyration**2
    along = form @ step
    error = float(np.sqrt(along @ covariance @ along / max(float(step @ along), _TINY)))
    return error, float(np.sqrt(np.trace(form @ covariance)))


def _inverse(curvature: Float64) -> Float64:
    """Of a body that has vanished and has no curvature it is large, and a number."""
    diagonal = np.diag(curvature)
    ridge = _RIDGE * np.diag(diagonal + diagonal.max())
    return np.asarray(np.linalg.inv(curvature + ridge), np.float64)


def _present(ends: Ends, g: int) -> tuple[Bool, float]:
    """Voxels (n, n, n) where body g is at either end, and the norm of its density at that with more of it."""
    there, norms = np.zeros(ends.change.shape, bool), []
    for poses in ends.poses:
        box, values, _ = ends.bodies[g].density(poses.rotation[g], poses.shift[g], len(there))
        there[box] |= values > _PRESENT_FROM * values.max()
        norms.append(float(poses.occupancy[g] * np.linalg.norm(values)))
    return there, max(norms)
