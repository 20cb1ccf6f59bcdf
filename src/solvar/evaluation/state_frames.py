"""The truth as its particles are posed: every shape turned and moved as the estimate places it.

Images do not tell how a shape lies in its box, only what shapes have in common: turned by what depends on
the shape, poses are as right, and volumes that go with them are others. A molecule whose arm swings may as
well be one whose body turns a little the other way; which of them needs fewer components is likelier.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.low_rank import LowRankModel
from solvar.evaluation.poses import pose_errors
from solvar.evaluation.truth import Truth
from solvar.evaluation.volumes import coordinate_of, distances, state_volumes, volume_blocks
from solvar.imaging.frames import frame_between
from solvar.imaging.sampler import Sampler
from solvar.particles import Poses

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# volumes that stand for all shapes, and particles that tell how a shape lies
_MOST, _FEWEST = 24, 20
# poses that are off by more are lost, and tell nothing
_LOST = np.pi / 9


def as_posed(truth: Truth, poses: Poses, model: LowRankModel) -> Truth | None:
    """The truth with mean, eigenvolumes and mask of volumes that lie as poses of their particles say.

    Each particle counts for the stored volume nearest to its state. A volume that fewer than 20 particles
    stand for, without those that are lost, stays as it is. None where fewer than two volumes are stored.

    Parameters
    ----------
    truth : Truth
        Of these particles, on the grid of the model.
    poses : Poses
        Of the N particles, in the frame of the truth as a whole.
    model : LowRankModel
        On whose grid volumes are.
    """
    if truth.rotation is None or truth.shift_angstrom is None:
        return None
    paths, group = _nearest_volume(truth)
    true = Poses(truth.rotation, truth.shift_angstrom)
    near = frame_between(poses.rotation, true.rotation, mirror=False).angle < _LOST
    told = [np.flatnonzero((group == number) & near) for number in range(len(paths))]
    if len(paths) < 2:
        return None
    given = [volume for block in volume_blocks(paths, model, None) for volume in block]
    places = [_placement(poses, true, members, model.pixel_size_angstrom) for members in told]
    placed = [Sampler(volume).at(*place) for volume, place in zip(given, places, strict=True)]
    mask = truth.mask
    if mask is not None:
        whole = Sampler(mask)
        masks = (np.clip(whole.at(*place), 0, 1) for place in places)
        mask = reduce(np.maximum, masks, mask)
    weight = np.bincount(group[group >= 0], minlength=len(paths)) / np.sum(group >= 0)
    mean, eigenvolumes = _moments(np.stack(placed), weight)
    return replace(truth, mean=mean, eigenvolumes=eigenvolumes, mask=mask)


def _nearest_volume(truth: Truth) -> tuple[list[Path], Int64]:
    """Some volumes, and which of them each particle counts for, (N,), -1 for none."""
    known, discrete = list(state_volumes(truth).items()), truth.discrete_state()
    if discrete is None and len(known) > _MOST:
        known = [known[each] for each in np.rint(np.linspace(0, len(known) - 1, _MOST)).astype(int)]
    states, paths = [state for state, _ in known], [path for _, path in known]
    group = np.full(truth.count or 0, -1)
    if discrete is not None:
        for number, state in enumerate(states):
            group[discrete == state] = number
        return paths, group
    coordinate = coordinate_of(truth)
    if not states or coordinate is None or not coordinate.shape[1]:
        return [], group
    if truth.state is None:
        assert truth.volume_coordinate is not None
        place = truth.volume_coordinate[states]
    else:
        place = np.stack([coordinate[np.argmax(truth.state == state)] for state in states])
    return paths, np.argmin([distances(coordinate, each) for each in place], axis=0)


def _placement(
    poses: Poses, true: Poses, members: Int64, pixel_angstrom: float
) -> tuple[Float64, Float64]:
    """Where in a true volume to look for what is at x in the estimate: at A·x + m, voxels."""
    if len(members) < _FEWEST:
        return np.eye(3), np.zeros(3)
    errors = pose_errors(
        poses.rotation[members],
        poses.shift_angstrom[members],
        true.rotation[members],
        true.shift_angstrom[members],
    )
    # what is at x in the truth is at Q(x + T) in the estimate
    return errors.drift_rotation.T, -errors.drift_translation_angstrom / pixel_angstrom


def _moments(volumes: Float32, weight: Float64) -> tuple[Float32, Float32]:
    """Mean and eigenvolumes × √eigenvalue of volumes (K, L, L, L) that weigh so much, sum 1."""
    mean = np.tensordot(weight, volumes, axes=1)
    away = (np.sqrt(weight)[:, None] * (volumes - mean).reshape(len(volumes), -1)).astype(
        np.float64
    )
    _, vector = np.linalg.eigh(away @ away.T)
    # they differ by one less than there are
    scaled = vector[:, ::-1].T[: len(volumes) - 1] @ away
    return mean.astype(np.float32), scaled.reshape(-1, *mean.shape).astype(np.float32)
