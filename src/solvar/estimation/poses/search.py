"""A local grid search, for input poses that lie outside the reach of Gauss-Newton steps.

At low k_c every particle is compared with the model at a grid of rotations and shifts around its pose,
latents integrated out, contrast 1. The best node becomes the new pose; grids of half the spacing around it
follow. Slices are computed once a rotation; shifts cost their inner products alone.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.kernels import gram, on_host
from solvar.estimation.poses.objective import PoseObjective
from solvar.estimation.poses.state import PoseState
from solvar.imaging.rotations import from_rotation_vector
from solvar.progress import Step

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# nodes an axis from -1 to 1 times the half width
_NODES = np.linspace(-1, 1, 5)
_ROUNDS = 3


def grid(half_width: float, axes: int) -> Float64:
    """Nodes within the ball of radius `half_width` (and a little), the origin first, (K, axes)."""
    nodes = np.array(list(itertools.product(_NODES, repeat=axes)))
    radius = np.linalg.norm(nodes, axis=1)
    kept = nodes[np.argsort(radius, kind="stable")]
    return half_width * kept[: np.count_nonzero(radius <= 1.2)]


def search_poses(
    band: Band,
    columns: Float32,
    state: PoseState,
    half_width: tuple[float, float],
    progress: Step,
) -> PoseState:
    """Move every particle of a band to the best node of ever finer grids.

    Parameters
    ----------
    band : Band
        Of images at the poses of `state`.
    columns : (1 + r, l, l, l)
        W = [μ | V].
    state : PoseState
    half_width : (radians, box lengths)
        Of the first grid, for rotations and shifts.
    progress : Step

    Returns
    -------
    PoseState
    """
    model, found = BandModel(band, ColumnModel(columns, contrast_sd=0.0)), state.copied()
    for batch in band.batches():
        objective = PoseObjective(model, batch, state)
        rotation, shift = objective.start()
        for number in range(_ROUNDS):
            turns = grid(half_width[0] / 2**number, 3)
            moves = grid(half_width[1] / 2**number, 2)
            rotation, shift = _best_node(objective, rotation, shift, turns, moves)
        found.move(batch.index, rotation, shift)
        progress.advance(len(batch))
    return found.shared(band.images)


def _best_node(
    objective: PoseObjective, rotation: Float64, shift: Float64, turns: Float64, moves: Float64
) -> tuple[Float64, Float64]:
    """The best of rotations expm(turn) R and shifts t + move for each particle of a batch."""
    model, images = objective.model, objective.images
    images.refuse_uncertain("a grid search")
    moved = np.stack([objective.shifted(shift + move) for move in moves], axis=1)
    best = np.full(len(rotation), -np.inf)
    best_rotation, best_shift = rotation.copy(), shift.copy()
    everybody = np.arange(len(rotation))
    for turn in turns:
        trial = from_rotation_vector(turn[None]) @ rotation
        slices = model.slices(images.frames(trial), images.ctf)
        products = gram(slices, images.data, model.band.team)[:, :-1, :-1]
        # the moved images are more than the slices: these come to those
        real = on_host(slices).view(np.float32), moved.view(np.float32)
        overlap = np.matmul(real[0], real[1].transpose(0, 2, 1)).astype(np.float64)
        products, overlap = images.per_pose(products), images.per_pose(overlap)
        value = _log_likelihood(products, overlap)
        value += np.stack([objective.log_prior(trial, shift + move) for move in moves], axis=1)
        node = value.argmax(axis=1)
        value = value[everybody, node]
        better = value > best
        best[better], best_rotation[better] = value[better], trial[better]
        best_shift[better] = (shift + moves[node])[better]
    return best_rotation, best_shift


def _log_likelihood(products: Float64, overlap: Float64) -> Float64:
    """Log-likelihood (B, T) at contrast 1 from slices' Gram matrices and their overlaps with T images.

    Parameters
    ----------
    products : (B, 1 + r, 1 + r)
    overlap : (B, 1 + r, T)
    """
    precision = products[:, 1:, 1:] + np.eye(products.shape[1] - 1)
    score = overlap[:, 1:] - products[:, 1:, :1]
    explained = np.sum(score * np.linalg.solve(precision, score), axis=1)
    volume = np.linalg.slogdet(precision)[1]
    return overlap[:, 0] + 0.5 * (explained - products[:, :1, 0] - volume[:, None])
