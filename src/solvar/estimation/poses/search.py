"""A search over all rotations, or all within reach, for particles that look misplaced.

A bank of slices of the mean keeps the few dozen best of some ten thousand rotations; these, at several
shifts, are compared with the heterogeneous model, latents integrated out. What comes out is a handful of
candidates a particle, for a pose solver to climb from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.image_batch import ImageBatch, frames_of
from solvar.estimation.kernels import gram, on_host
from solvar.estimation.likelihood import marginal_log_likelihood
from solvar.estimation.poses.bank import Pictures, best_rotations
from solvar.estimation.poses.grids import all_rotations, ball
from solvar.estimation.poses.objective import PoseObjective
from solvar.estimation.poses.state import PoseState
from solvar.estimation.poses.tilted_search import (
    log_posterior_of_tilted,
    rotations_of_tilted,
)
from solvar.imaging.fourier import crop_volume
from solvar.imaging.masks import mask_diameter
from solvar.progress import Step

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# neighbouring nodes move the edge of the molecule by this share of the shortest wave
_STEP = 0.75
# rotations that the mean alone leaves over
_KEEP = 128
# shifts that are tried: standard deviations of the prior of a lost particle's, and the spacing as a share of
# the shortest wave, by the mean alone and by the model
_SHIFT_REACH, _ROUGH_SHIFT_STEP, _SHIFT_STEP = 2.0, 0.5, 0.375
# candidates closer than this many spacings lead to the same pose
_APART = 1.0
# standard deviations by which a particle shows too little: one in six that are in place is looked at in vain
_DOUBTFUL = 1.0
_PARTICLES_AT_A_TIME = 256
_SLICES_AT_A_TIME = 512


@dataclass(frozen=True, eq=False)
class Candidates:
    """The best poses of M particles, best first; the last one turns nothing and moves alone.

    Attributes
    ----------
    index : (M,) int64
        Which particles they are.
    rotation : (M, K, 3, 3) float64
    shift : (M, K, d) float64
        Beyond the present ones, box lengths.
    found : (M,) int64
        How many of the K there are.
    """

    index: Int64
    rotation: Float64
    shift: Float64
    found: Int64

    @classmethod
    def of_one(cls, index: Int64, rotation: Float64, shift: Float64) -> Candidates:
        """One a particle: rotations (M, 3, 3) and shifts (M, d)."""
        return cls(index, rotation[:, None], shift[:, None], np.ones(len(index), np.int64))

    def first(self, count: int) -> Candidates:
        """At most so many a particle."""
        kept = self.rotation[:, :count], self.shift[:, :count]
        return Candidates(self.index, *kept, np.minimum(self.found, count))

    def shared(self, band: Band) -> Candidates:
        """With those that other processes have found for their particles of a band."""
        rotation, shift = band.sum(self.rotation), band.sum(self.shift)
        return Candidates(self.index, rotation, shift, band.sum(self.found))


def likely_poses(
    rough: Band,
    band: Band,
    columns: Float32,
    state: PoseState,
    reach: float,
    count: int,
    progress: Step,
) -> Candidates:
    """Candidates for the poses of a band's particles.

    Parameters
    ----------
    rough, band : Band
        Of the same images at the poses of `state`: where the mean alone is looked at, and what is left of
        rotations by the model.
    columns : (1 + r, l, l, l)
        W = [μ | V], on the grid of `band`.
    state : PoseState
    reach : float
        Radians around the present rotation; from π on everywhere.
    count : int
        At most so many a particle.
    progress : Step
        Told of every particle.
    """
    mean = crop_volume(columns[:1], rough.box)
    models = [
        BandModel(each, ColumnModel(volumes, contrast_sd=0.0))
        for each, volumes in ((rough, mean), (band, columns))
    ]
    edge = 0.5 * mask_diameter(rough.support.mean) / rough.box
    spacing = _STEP / (edge * rough.k_c)
    everywhere = all_rotations(spacing)
    radius = _SHIFT_REACH * state.prior.far_shift
    axes = state.shift.shape[1]
    few = ball(radius, _ROUGH_SHIFT_STEP / rough.k_c, axes)
    moves = ball(radius, _SHIFT_STEP / band.k_c, axes)
    found = _none(band.index, count, axes)
    batches = [each.batches(size=_PARTICLES_AT_A_TIME) for each in (rough, band)]
    for both in zip(*batches, strict=True):
        batch = both[1]
        batch.refuse_uncertain("a search")
        by_mean, objective = (
            PoseObjective(*each, state) for each in zip(models, both, strict=True)
        )
        tried = _tried(by_mean, everywhere, few, reach)
        value = log_posterior_of_nodes(objective, tried, moves)
        present, _ = objective.start()
        aside = log_posterior_of_nodes(objective, present[:, None], moves)[:, 0]
        for place, particle in enumerate(batch.place):
            chosen = _distinct(tried[place], value[place].max(axis=1), count - 1, _APART * spacing)
            found.rotation[particle, : len(chosen)] = tried[place, chosen]
            found.shift[particle, : len(chosen)] = moves[value[place, chosen].argmax(axis=1)]
            found.rotation[particle, len(chosen)] = present[place]
            found.shift[particle, len(chosen)] = moves[aside[place].argmax()]
            found.found[particle] = 1 + len(chosen)
        progress.advance(len(batch))
    return found.shared(band)


def _none(index: Int64, count: int, axes: int) -> Candidates:
    many = len(index)
    rotation, shift = np.zeros((many, count, 3, 3)), np.zeros((many, count, axes))
    return Candidates(index, rotation, shift, np.zeros(many, np.int64))


def _tried(objective: PoseObjective, everywhere: Float64, moves: Float64, reach: float) -> Float64:
    """The rotations that suit a model best that is a mean alone, (B, K, 3, 3)."""
    band, images = objective.model.band, objective.images
    keep = min(_KEEP, len(everywhere))
    if images.tilt is not None:
        return rotations_of_tilted(objective, everywhere, moves, reach, keep)
    out = np.empty((len(images), keep, 3, 3))
    moved = images.ctf[:, None] * objective.shifted_by_each(moves)
    power = images.ctf_power[:, : band.k_c + 1]
    start, _ = objective.start()
    for some, stretch in images.by_stretch():
        near = start[some] if reach < np.pi else None
        pictures = Pictures(moved[some], power[some], stretch, near, reach)
        best = best_rotations(band, objective.model.prepared, pictures, everywhere, keep)
        out[some] = everywhere[best]
    return out


def log_posterior_of_nodes(objective: PoseObjective, rotation: Float64, moves: Float64) -> Float64:
    """Log posterior (B, K, T) of rotations (B, K, 3, 3) and further shifts (T, d), contrast 1."""
    if objective.images.tilt is not None:
        return log_posterior_of_tilted(objective, rotation, moves)
    images, moved = objective.images, objective.shifted_by_each(moves)
    value = objective.state.log_prior(objective.index, rotation, moves)
    # slices of an image at all its rotations times all its shifts are one matrix product
    each = max(1, _SLICES_AT_A_TIME // rotation.shape[1])
    for start in range(0, len(images), each):
        some = np.arange(start, min(start + each, len(images)))
        found = _log_likelihood_of_nodes(objective.model, images, some, rotation[some], moved[some])
        value[some] += objective.state.trust * found
    return value


def _log_likelihood_of_nodes(
    model: BandModel, images: ImageBatch, some: Int64, rotation: Float64, moved: Complex64
) -> Float64:
    """Log-likelihood (b, K, T) of some images of a batch, (b, T, n) at their shifts, contrast 1."""
    count, nodes = rotation.shape[:2]
    every = np.repeat(some, nodes)
    stretch = None if images.stretch is None else images.stretch[every]
    frame = frames_of(rotation.reshape(-1, 3, 3), None, stretch)
    slices = model.slices(frame, images.ctf[every])
    products = gram(slices, images.data[every], model.band.team)[:, :-1, :-1]
    rows = on_host(slices).view(np.float32).reshape(count, -1, 2 * moved.shape[2])
    overlap = np.matmul(rows, moved.view(np.float32).transpose(0, 2, 1))
    overlap = overlap.reshape(len(every), -1, moved.shape[1]).astype(np.float64)
    return marginal_log_likelihood(products, overlap).reshape(count, nodes, -1)


def _distinct(rotation: Float64, value: Float64, count: int, apart: float) -> Int64:
    """Places of the best of K rotations (K, 3, 3) that are `apart` radians from better ones, best first."""
    chosen = list[int]()
    closest = 1 + 2 * np.cos(apart)
    for place in np.argsort(-value):
        trace = np.einsum("kij,ij->k", rotation[chosen], rotation[place])
        if not (trace > closest).any():
            chosen.append(int(place))
        if len(chosen) == count:
            break
    return np.array(chosen, dtype=np.int64)


def look_misplaced(products: Float64, contrast_sd: float) -> NDArray[np.bool_]:
    """Whether images show less of the mean than chance and their contrast could explain, (N,).

    Parameters
    ----------
    products : (N, r + 2, r + 2)
        As of `e_step.gram_matrices`, under a model that has not seen these images.
    contrast_sd : float
    """
    expected, seen = products[:, 0, 0], products[:, 0, -1]
    shapes = np.sum(products[:, 0, 1:-1] ** 2, axis=1)
    spread = np.sqrt(expected + shapes + (contrast_sd * expected) ** 2)
    return expected - seen > _DOUBTFUL * np.maximum(spread, 1e-12)
