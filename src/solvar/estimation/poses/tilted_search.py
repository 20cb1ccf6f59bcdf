"""The search of `search.py` for particles that were tilted: their images are compared one by one.

Each image has rotations of its own at every rotation of its particle: only those of one tilt share a bank of
slices. A few images of each particle are looked at, those that show the most; steps from the candidates
then see all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.image_batch import ImageBatch, frames_of
from solvar.estimation.kernels import gram, on_host
from solvar.estimation.likelihood import marginal_log_likelihood
from solvar.estimation.poses.bank import Best, Pictures, SliceBank
from solvar.estimation.poses.objective import PoseObjective

Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# images of a particle that are looked at
_VIEWS = 7
# rotations that they are compared with at once
_BLOCK = 1024
# tilts are one if they differ by less, and slices of an image are made so many at a time
_DECIMALS, _SLICES = 6, 512


@dataclass(frozen=True, eq=False)
class _Views:
    """The images of a batch that show the most of its particles.

    Attributes
    ----------
    row : (V,) int64
        Which images they are.
    particle : (V,) int64
        Place in the batch of the particle that each shows, rising.
    """

    row: Int64
    particle: Int64

    @classmethod
    def of(cls, images: ImageBatch) -> _Views:
        """At most `_VIEWS` a particle, by CTF power."""
        count = images.images_each()
        particle = np.repeat(np.arange(len(images)), count)
        order = np.lexsort((-np.sum(images.ctf**2, axis=1), particle))
        rank = np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count)
        row = np.sort(order[rank < _VIEWS])
        return cls(row, particle[row])

    def by_tilt(self, images: ImageBatch) -> list[Int64]:
        """Places (…) of views that share tilt and stretch."""
        assert images.tilt is not None
        kind = images.tilt[self.row].reshape(-1, 9)
        if images.stretch is not None:
            kind = np.concatenate([kind, images.stretch[self.row].reshape(-1, 4)], axis=1)
        _, number = np.unique(kind.round(_DECIMALS), axis=0, return_inverse=True)
        number = number.reshape(-1)
        return [np.flatnonzero(number == each) for each in range(number.max() + 1)]


def rotations_of_tilted(
    objective: PoseObjective, everywhere: Float64, moves: Float64, reach: float, keep: int
) -> Float64:
    """The rotations that suit a model best that is a mean alone, (B, keep, 3, 3).

    Parameters
    ----------
    objective : PoseObjective
    everywhere : (K, 3, 3)
    moves : (T, 3)
        Further shifts of particles that are tried at each, box lengths.
    reach : float
        Radians around the present rotation; from π on everywhere.
    keep : int
    """
    band, images = objective.model.band, objective.images
    assert images.tilt is not None
    views, (start, _) = _Views.of(images), objective.start()
    moved = images.ctf[views.row, None] * objective.shifted_by_each(moves)[views.row]
    shell = band.disc.shell[:, None] == np.arange(band.k_c + 1)
    power = (images.ctf[views.row] ** 2 @ shell).astype(np.float32)
    best = Best.none(len(images), keep)
    for first in range(0, len(everywhere), _BLOCK):
        some = everywhere[first : first + _BLOCK]
        value = np.zeros((len(images), len(moves), len(some)), np.float32)
        for alike in views.by_tilt(images):
            row = views.row[alike[0]]
            stretch = None if images.stretch is None else images.stretch[row]
            bank = SliceBank.of(band, objective.model.prepared, some @ images.tilt[row], stretch)
            pictures = Pictures(moved[alike], power[alike])
            np.add.at(value, views.particle[alike], bank.log_likelihood(pictures))
        likeliest = value.max(axis=1)
        if reach < np.pi:
            near = Pictures(moved[:0], power[:0], near=start, reach=reach)
            likeliest[~near.within_reach(some)] = -np.inf
        best = best.joined(likeliest, first)
    return everywhere[best.which]


def log_posterior_of_tilted(objective: PoseObjective, rotation: Float64, moves: Float64) -> Float64:
    """Log posterior (B, K, T) of rotations (B, K, 3, 3) and further shifts (T, 3), contrast 1."""
    images, views = objective.images, _Views.of(objective.images)
    moved = objective.shifted_by_each(moves)[views.row]
    value = objective.state.log_prior(objective.index, rotation, moves)
    for place in range(len(images)):
        mine = np.flatnonzero(views.particle == place)
        for first in range(0, rotation.shape[1], _SLICES):
            some = slice(first, first + _SLICES)
            found = _log_likelihood(objective, views.row[mine], moved[mine], rotation[place, some])
            value[place, some] += objective.state.trust * found
    return value


def _log_likelihood(
    objective: PoseObjective, row: Int64, moved: Complex64, rotation: Float64
) -> Float64:
    """Log-likelihood (K, T) of images `row` (V,) of a particle at rotations (K, 3, 3), (V, T, n) moved."""
    model, images, nodes = objective.model, objective.images, len(rotation)
    assert images.tilt is not None
    channels = model.model.rank + 1
    products = np.zeros((nodes, channels, channels))
    overlap = np.zeros((nodes, channels, moved.shape[1]))
    for number, each in enumerate(row):
        many = np.repeat(each, nodes)
        stretch = None if images.stretch is None else images.stretch[many]
        slices = model.slices(frames_of(rotation, images.tilt[many], stretch), images.ctf[many])
        products += gram(slices, images.data[many], model.band.team)[:, :-1, :-1]
        flat = on_host(slices).view(np.float32)
        flat = flat.reshape(-1, flat.shape[-1])
        found = flat @ moved[number].view(np.float32).T
        overlap += found.reshape(overlap.shape)
    return marginal_log_likelihood(products, overlap)
