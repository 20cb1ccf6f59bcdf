"""How two frames of one molecule relate: by a rotation, and perhaps a mirror.

Images do not tell the hand of a molecule, nor how it lies in its box. Poses that were found without any to
begin with are right in a frame of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.point_groups import nearest_equivalent
from solvar.imaging.rotations import angles_between, nearest_rotation

Float64 = NDArray[np.float64]

_MIRROR = np.diag([1.0, 1.0, -1.0])
# pairs of poses that a frame is guessed from, and pairs that tell how good a guess is
_GUESSES, _TOLD = 60, 500
# a pose counts by how near it is, beside this many radians: errors of a few do not matter, lost ones neither
_SOFT = 0.1
_STEPS = 10


def mirrored(rotation: Float64) -> Float64:
    """Poses (N, 3, 3) of the mirror image, in z, of a molecule that looks the same at `rotation`."""
    return _MIRROR @ rotation @ _MIRROR


def common_move(rotation: Float64, shift: Float64) -> Float64:
    """The move T (3,) of a molecule that explains shifts of its images best, by least squares.

    A molecule that has moved by T moves images by (Rᵀ T)_xy, and particles that were tilted by all of Rᵀ T.

    Parameters
    ----------
    rotation : (N, 3, 3)
    shift : (N, d)
        Of images, d = 2, or of particles that were tilted, d = 3; in any unit. T is in the same one.
    """
    return move_of(sums_of_move(rotation, shift))


def sums_of_move(rotation: Float64, shift: Float64) -> Float64:
    """What parts of the particles add up to before `move_of`, (3, 4)."""
    axes = rotation[:, :, : shift.shape[1]]
    normal = np.einsum("nij,nkj->ik", axes, axes)
    return np.column_stack([normal, np.einsum("nij,nj->i", axes, shift)])


def move_of(sums: Float64) -> Float64:
    """The move of `common_move`; nothing along a line of sight that all particles share."""
    found, *_ = np.linalg.lstsq(sums[:, :3], sums[:, 3], rcond=1e-9)
    return found.astype(np.float64)


def shifts_by(rotation: Float64, move: Float64, axes: int = 2) -> Float64:
    """Shifts (N, axes) of images, or of particles that were tilted (3), by a move (3,) of the molecule."""
    return np.einsum("nij,i->nj", rotation[:, :, :axes], move)


def without_common_move(rotation: Float64, shift: Float64) -> Float64:
    """Shifts (N, d) of images at rotations (N, 3, 3) once the molecule is where they are smallest."""
    return shift - shifts_by(rotation, common_move(rotation, shift), shift.shape[1])


@dataclass(frozen=True, eq=False)
class Frame:
    """How one frame lies in another.

    Attributes
    ----------
    rotation : (3, 3) float64
        Q: a pose R of the one is Q·R in the other, after `mirrored` where hands differ.
    mirror : bool
    angle : (N,) float64
        By how much poses still differ, radians.
    """

    rotation: Float64
    mirror: bool
    angle: Float64

    @property
    def matrix(self) -> Float64:
        """What takes points of the one frame into the other, (3, 3): a rotation, after the mirror."""
        return self.rotation @ _MIRROR if self.mirror else self.rotation

    def of(self, rotation: Float64) -> Float64:
        """Poses (M, 3, 3) of the one frame as they are in the other."""
        return self.rotation @ (mirrored(rotation) if self.mirror else rotation)


def frame_between(
    first: Float64, second: Float64, mirror: bool = True, operations: Float64 | None = None
) -> Frame:
    """The frame of poses (N, 3, 3) in that of others of the same images, whatever share of them is lost.

    Parameters
    ----------
    first, second : (N, 3, 3)
    mirror : bool
        Whether hands may differ.
    operations : (n, 3, 3), optional
        Rotations of a point group in the second frame: poses that these make alike are the same.
    """
    operations = np.eye(3)[None] if operations is None else operations
    found = [_frame(first, second, False, operations)]
    if mirror:
        found.append(_frame(mirrored(first), second, True, operations))
    return min(found, key=lambda each: float(np.median(each.angle)))


def _frame(first: Float64, second: Float64, mirror: bool, operations: Float64) -> Frame:
    rng = np.random.default_rng(0)
    relative = np.einsum("nij,nkj->nik", second, first)
    told = relative[rng.permutation(len(relative))[:_TOLD]]
    guesses = [_improved(each, told, operations) for each in told[:_GUESSES]]

    def typical(guess: Float64) -> float:
        return float(np.median(angles_between(guess, _nearest_equivalent(guess, told, operations))))

    best = _improved(min(guesses, key=typical), relative, operations)
    return Frame(
        best, mirror, angles_between(best, _nearest_equivalent(best, relative, operations))
    )


def _nearest_equivalent(rotation: Float64, relative: Float64, operations: Float64) -> Float64:
    """Relative rotations (N, 3, 3) after the operation that brings each nearest to one rotation."""
    if len(operations) == 1:
        return relative
    near = np.broadcast_to(rotation, relative.shape)
    return nearest_equivalent(relative, near, operations)


def _improved(rotation: Float64, relative: Float64, operations: Float64) -> Float64:
    """The rotation that most of the relative ones (N, 3, 3) are near, from a guess."""
    for _ in range(_STEPS):
        there = _nearest_equivalent(rotation, relative, operations)
        weight = 1 / (angles_between(rotation, there) + _SOFT) ** 2
        rotation = nearest_rotation(np.einsum("n,nij->ij", weight, there))
    return rotation
