"""Symmetry copies: rows that show one particle at poses which its point group makes alike.

Copies share an image and its noise. They belong to the same half-set, and whatever counts particles counts
them once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.point_groups import (
    HIGHEST_ORDER,
    PointGroup,
    distinct,
    generated,
    nearest_operation,
)
from solvar.particles.identity import first_of_each, mix, seeded
from solvar.particles.particle_set import ParticleSet, Poses

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]

# particles whose copies tell which rotations there are
_ASKED = 200
# radians from an operation; angles in files have six digits, and some have fewer
_COPY = 7e-3


def copies_by_pose(image: Int64, rotation: Float64) -> Int64 | None:
    """For each row the first that shows the same image, if poses say that the others are symmetry copies.

    They are if the rotations between rows of an image are those of a point group, each once.

    Parameters
    ----------
    image : (N,) int64
        Number of the image that a row shows.
    rotation : (N, 3, 3)

    Returns
    -------
    (N,) int64 or None
        None where no image is repeated, or rows are repeated in another way.
    """
    first = first_of_each(image)
    copies = np.flatnonzero(first != np.arange(len(image)))
    if not len(copies) or not np.isfinite(rotation).all():
        return None
    between = rotation[copies] @ rotation[first[copies]].transpose(0, 2, 1)
    asked = np.isin(first[copies], np.unique(first[copies])[:_ASKED])
    some = distinct(between[asked][: HIGHEST_ORDER * _ASKED])
    found = generated(some) if len(some) < HIGHEST_ORDER else None
    if found is None:
        return None
    which, angle = nearest_operation(between, found)
    # a row at the pose of another is no copy by symmetry
    is_operation = (which > 0) & (angle < _COPY)
    pairs = np.unique(np.stack([first[copies], which]), axis=1)
    return first if is_operation.all() and pairs.shape[1] == len(copies) else None


def copy_numbers(copy_of: Int64) -> Int64:
    """How many rows before each show the same particle, (N,)."""
    order = np.argsort(copy_of, kind="stable")
    ranked = copy_of[order]
    start = np.flatnonzero(np.diff(ranked, prepend=-1))
    number = np.empty_like(copy_of)
    number[order] = np.arange(len(ranked)) - np.repeat(
        start, np.diff(np.append(start, len(ranked)))
    )
    return number


def uids_of_copies(uid: UInt64, copy_of: Int64) -> UInt64:
    """Identities (N,) that differ, from those of the images; that of a first row stays as it is."""
    number = copy_numbers(copy_of)
    return np.where(number == 0, uid, mix(uid ^ mix(number.astype(np.uint64))))


def expanded(particles: ParticleSet, group: PointGroup) -> ParticleSet:
    """Every particle at all the poses that a point group makes alike, its own pose first, side by side.

    Parameters
    ----------
    particles : ParticleSet
        (N,)
    group : PointGroup
        Of n operations, axes as in the frame of the poses.

    Returns
    -------
    ParticleSet
        (N·n,), with the particles' rows in the source.

    Raises
    ------
    InputError
        If they are expanded already, or the group has no symmetry.
    """
    particles.exposures.refuse_several("symmetry expansion")
    if particles.copy_of is not None:
        raise InputError(
            "is symmetry-expanded already",
            file=particles.source,
            remedy="pass the file from before the expansion",
        )
    if len(group) == 1:
        raise InputError(
            f"{group.name} has no symmetry to expand by", remedy="give --symmetry C2 …"
        )
    count, order = len(particles), len(group)
    all_of = particles.select(np.repeat(np.arange(count), order))
    rotation = group.operations @ particles.poses.rotation[:, None]
    copy_of = np.repeat(order * np.arange(count), order)
    return replace(
        all_of,
        poses=Poses(rotation.reshape(-1, 3, 3), all_of.poses.shift_angstrom),
        uid=uids_of_copies(all_of.uid, copy_of),
        copy_of=copy_of,
    )


def spread_over(particles: ParticleSet, group: PointGroup, seed: int) -> ParticleSet:
    """Every particle at one of the poses that a point group makes alike, by chance.

    Programs look for poses in one asymmetric unit: what is not symmetric would be seen from there alone.
    Sets with symmetry copies stay as they are.
    """
    if len(group) == 1 or particles.copy_of is not None:
        return particles
    rotation = spreading(particles, group, seed) @ particles.poses.rotation
    return replace(particles, poses=Poses(rotation, particles.poses.shift_angstrom))


def spreading(particles: ParticleSet, group: PointGroup, seed: int) -> Float64:
    """The operation (N, 3, 3) by which `spread_over` moves each particle: a function of seed and uid."""
    if particles.copy_of is not None:
        return np.tile(np.eye(3), (len(particles), 1, 1))
    key = seeded(particles.uid, seed)
    return group.operations[(key % np.uint64(len(group))).astype(np.int64)]
