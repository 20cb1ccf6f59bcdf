"""From where particles are seen: directions that no view covers, and rows that share one pose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from solvar.particles import ParticleSet
from solvar.preflight.findings import Finding

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_DIRECTIONS = 400
_MOST_VIEWS = 20_000
# |view · direction| below which a view counts as perpendicular: a band of some 6 degrees
_BAND = 0.1
_THINLY_COVERED = 0.2
# standard errors beyond which a direction is thinly covered and not by chance
_STANDARD_ERRORS = 4.0
# In-plane angles of the coarsest search that programs offer, 30 degrees apart. Particles lie in the ice at
# any in-plane angle, so of the rows of one viewing direction no more than one in twelve share a pose.
_IN_PLANE_STEPS = 12
# how often chance may look like rows that share a pose, in all the poses of a set
_CHANCE = 1e-4
_FEW_ROWS, _MOST_ROWS = 0.01, 0.5


def view_findings(particles: ParticleSet) -> Iterator[Finding]:
    """Findings about view coverage and about rows that share a pose."""
    yield _coverage(_views(particles))
    yield _shared_poses(particles)


def _views(particles: ParticleSet) -> Float64:
    """Viewing directions (M, 3) of the images, of an even choice of them where they are many."""
    images = particles.exposures
    some = np.arange(0, len(images), max(1, len(images) // _MOST_VIEWS))
    rotation = particles.poses.rotation[images.particle[some]]
    if images.tilt is None:
        return rotation[:, :, 2]
    return np.einsum("mij,mj->mi", rotation, images.tilt[some, :, 2])


def _coverage(views: Float64) -> Finding:
    """Coverage of Fourier space: each view is the central plane perpendicular to it."""
    covered = np.zeros(_DIRECTIONS)
    directions = _fibonacci_directions(_DIRECTIONS)
    for first in range(0, len(views), _DIRECTIONS):
        part = views[first : first + _DIRECTIONS]
        covered += (np.abs(part @ directions.T) < _BAND).sum(axis=0)
    mean = covered.mean()
    thinnest = float(covered.min() / mean) if mean else 0.0
    # even views that are as thin as this by chance are too few to say anything
    if mean * (1 - _THINLY_COVERED) < _STANDARD_ERRORS * np.sqrt(mean):
        text = f"{len(views):,} views are too few to tell how evenly they lie"
        return Finding("ok", "orientations", text)
    text = f"the least covered direction of Fourier space has {thinnest:.0%} of the mean coverage"
    if thinnest >= _THINLY_COVERED:
        return Finding("ok", "orientations", text)
    return Finding(
        "warning", "orientations", f"{text}: preferred views; volumes will be smeared along it"
    )


def _fibonacci_directions(count: int) -> Float64:
    """Even directions (count, 3) on the upper half sphere."""
    z = (np.arange(count) + 0.5) / count
    angle = np.pi * (1 + np.sqrt(5)) * np.arange(count)
    radius = np.sqrt(1 - z**2)
    return np.column_stack([radius * np.cos(angle), radius * np.sin(angle), z])


def _shared_poses(particles: ParticleSet) -> Finding:
    """Rows whose rotation and shift are the same to the last bit, more than any search would leave."""
    rotation, shift = particles.poses.rotation, particles.poses.shift_angstrom
    pose = _alike(np.concatenate([rotation.reshape(-1, 9), shift], axis=1))
    # rounded: one direction comes from several sets of angles
    view = _alike(np.round(rotation[:, :, 2], 6))
    rows = np.bincount(pose)
    of_view = np.bincount(view)[view[np.unique(pose, return_index=True)[1]]]
    suspect = _are_too_many(rows, of_view)
    shared = suspect[pose]
    count, total = int(shared.sum()), len(pose)
    if count <= max(1, _FEW_ROWS * total):
        return Finding("ok", "alignment", "no pose stands in more rows than a search would leave")
    first = int(np.argmax(shared))
    poses = int(suspect.sum())
    what = (
        "one rotation and shift" if poses == 1 else f"{poses:,} rotations and shifts between them"
    )
    if not shift[first].any() and np.array_equal(rotation[first], np.eye(3)):
        what += " (all angles and shifts 0)"
    text = (
        f"{count:,} of {total:,} rows ({count / total:.0%}), the first of them row "
        f"{int(particles.row[first]) + 1}, have {what}: they were not aligned; leave them out (--ind)"
    )
    return Finding("error" if count > _MOST_ROWS * total else "warning", "alignment", text)


def _are_too_many(rows: Int64, of_view: Int64) -> NDArray[np.bool_]:
    """Whether so many rows of one pose (P,), of those of its viewing direction, are no chance."""
    from scipy.special import bdtrc  # scipy.stats takes a run's gate as long as all else

    chance = bdtrc(rows - 1, of_view, 1 / _IN_PLANE_STEPS)
    return (rows > 1) & (chance * len(rows) < _CHANCE)


def _alike(values: Float64) -> Int64:
    """A number of each row of values (N, D), the same for equal ones."""
    exact = np.ascontiguousarray(values + 0.0)  # -0 is 0
    whole = exact.view(np.dtype((np.void, exact.shape[1] * exact.itemsize))).ravel()
    return np.unique(whole, return_inverse=True)[1].reshape(-1).astype(np.int64)
