"""Poses drawn from what images say of them under a volume: over all rotations, then finer and finer.

At the first band every rotation of a grid is compared with every image at a few shifts of its own, by matrix
products. Finer bands tell more poses apart than can be tried: there, draws of the band before scatter within
their cells and are drawn again by how much likelier they have become.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.abinitio.draws import Draws
from solvar.estimation.abinitio.moving import moved_images
from solvar.estimation.abinitio.trial import Drawn, Trial
from solvar.estimation.band import Band
from solvar.estimation.image_batch import ImageBatch, frames_of
from solvar.estimation.kernels import gram
from solvar.estimation.likelihood import marginal_log_likelihood
from solvar.estimation.poses.bank import Pictures, SliceBank
from solvar.estimation.poses.grids import all_rotations
from solvar.imaging import rotations
from solvar.imaging.fourier import centring_phase, crop_volume
from solvar.imaging.masks import mask_diameter
from solvar.imaging.rotations import from_rotation_vector

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# neighbouring rotations of a grid move the edge of the molecule by this share of the shortest wave
ROTATION_STEP = 0.75
# standard deviations of what draws scatter by: of the distance of neighbouring rotations, and of the wave
_TURN, _MOVE = 1 / 3, 0.1
# poses that are kept at the finest band, at least
_FEWEST = 8
# what likelihoods count for while finer bands are to come: the right cell must be among the draws
_TRUST = 0.7
_IMAGES_AT_A_TIME = 50
# images times shifts of one matrix product, and slices of one call: enough to be fast, few enough for a cache
_ROWS, _SLICES = 96, 1024


def rotation_spacing(band: Band) -> float:
    """Distance of rotations that a band tells apart, radians."""
    edge = 0.5 * mask_diameter(band.support.mean) / band.box
    return float(ROTATION_STEP / (edge * band.k_c))


def drawn_poses(
    bands: Sequence[Band], columns: Float32, trial: Trial, rng: np.random.Generator
) -> Iterator[Drawn]:
    """Poses of those particles of a trial that this process owns.

    Parameters
    ----------
    bands : sequence of Band
        From coarse to fine; rotations of the first one's grid are turned at random.
    columns : (1 + r, l, l, l)
        W = [μ | V] on the grid of the last band; all rotations are tried with the mean alone, at finer bands
        latents are integrated out.
    trial : Trial
    rng : Generator
    """
    drawer = _Drawer.of(bands, columns, rotations.random(1, rng)[0])
    seed, free = int(rng.integers(1 << 62)), SimpleQueue[_Drawer]()
    for each in drawer.for_threads():
        free.put(each)

    def drawn(batch: ImageBatch) -> Drawn:
        own = free.get()
        try:
            # the same draws whoever owns the particles
            return own.drawn(batch, trial, np.random.default_rng([seed, int(batch.index[0])]))
        finally:
            free.put(own)

    batches = bands[-1].batches(trial.index, _IMAGES_AT_A_TIME)
    yield from bands[-1].team.mapped(drawn, map(drawer.ready_for, batches))


@dataclass(frozen=True, eq=False)
class _Drawer:
    """What draws poses of a batch: a grid, then finer and finer bands."""

    grid: _Grid
    finer: list[_Finer]

    @classmethod
    def of(cls, bands: Sequence[Band], columns: Float32, turn: Float64) -> _Drawer:
        """For bands from coarse to fine, see `drawn_poses`; rotations of the grid are turned."""
        # a few images at a time, by all threads side by side: a device would wait for them
        first, *others = bands = [band.on_cpu for band in bands]
        trust = [_TRUST] * len(others) + [1.0]
        grid = _Grid(first, columns, turn, trust[0])
        pairs = zip(bands[:-1], others, trust[1:], strict=True)
        return cls(grid, [_Finer(coarse, band, columns, share) for coarse, band, share in pairs])

    def for_threads(self) -> list[_Drawer]:
        """Drawers that work side by side."""
        parts = [self.grid.for_threads(), *(each.for_threads() for each in self.finer)]
        return [_Drawer(grid, list(finer)) for grid, *finer in zip(*parts, strict=True)]

    def ready_for(self, batch: ImageBatch) -> ImageBatch:
        """The batch, once all drawers can look at it."""
        for _, stretch in batch.by_stretch():
            self.grid.bank(stretch)
        return batch

    def drawn(self, batch: ImageBatch, trial: Trial, rng: np.random.Generator) -> Drawn:
        """Poses of a batch."""
        found = self.grid.drawn(batch, trial, rng)
        for each in self.finer:
            found = each.drawn(found, trial, rng)
        return found.drawn


class _Part:
    """A part of a drawer, on a band."""

    _band: Band

    def for_threads(self) -> list[Self]:
        """The same for each thread; what it has prepared is shared."""
        return [self._on(band) for band in self._band.for_threads]

    def _on(self, band: Band) -> Self:
        other = copy(self)
        other._band = band
        return other


class _Grid(_Part):
    """Every rotation that a band tells apart, turned, and slices of the mean there.

    Parameters
    ----------
    band : Band
        No finer than the images that are compared.
    columns : (1 + r, l, l, l)
    turn : (3, 3)
    trust : float
        What log-likelihoods count for.
    """

    def __init__(self, band: Band, columns: Float32, turn: Float64, trust: float) -> None:
        self._band, self._trust = band, np.float32(trust)
        self._prepared = band.projector.prepare(crop_volume(columns[:1], band.box))
        self._rotation = turn @ all_rotations(rotation_spacing(band))
        self._banks = dict[bytes, SliceBank]()

    def bank(self, stretch: Float64 | None) -> SliceBank:
        """Slices for images of a stretch, made once for all batches."""
        key = b"" if stretch is None else stretch.tobytes()
        if key not in self._banks:
            bank = SliceBank.of(self._band, self._prepared, self._rotation, stretch)
            self._banks[key] = bank
        return self._banks[key]

    def drawn(self, batch: ImageBatch, trial: Trial, rng: np.random.Generator) -> _Found:
        """Draws from the nodes, by the band's pixels of a batch."""
        found = Draws.empty(len(batch), trial.draws)
        moves, prior = trial.moves[batch.place], trial.log_prior[batch.place]
        start: Float64 = rng.random((len(batch),))
        for some, stretch in batch.by_stretch():
            look = partial(self._look, self.bank(stretch), batch, moves, prior, start, found, some)
            self._band.team.over_ranges(len(some), max(1, _ROWS // moves.shape[1]), look)
        move, turn = np.divmod(found.chosen, len(self._rotation))
        shift = np.take_along_axis(moves, move[:, :, None], axis=1)
        # where shifts were drawn from their prior, that is what nodes leave out
        density = found.height - np.take_along_axis(prior, move, axis=1) + trial.log_prior_of(shift)
        best = np.argmax(density, axis=1)
        drawn = Drawn(batch.place, batch, self._rotation[turn], shift, best, found.evidence)
        return _Found(drawn, density)

    def _look(
        self,
        bank: SliceBank,
        batch: ImageBatch,
        moves: Float64,
        prior: Float32,
        start: Float64,
        found: Draws,
        some: Int64,
        first: int,
        last: int,
    ) -> None:
        """Draw for some images of one stretch, from the one at `first` to before `last`.

        Nine arguments: what a batch is compared with, and a part of it for a thread.
        """
        who, pixels = some[first:last], len(self._band.disc)
        seen = batch.ctf[who, :pixels] * batch.data[who, :pixels]
        steps = moves[who].swapaxes(0, 1)
        moved = [seen * centring_phase(self._band.disc, move) for move in steps]
        pictures = Pictures(np.stack(moved, axis=1), batch.ctf_power[who, : self._band.k_c + 1])
        value = bank.log_likelihood(pictures)
        value *= self._trust
        value += prior[who, :, None]
        found.put(who, Draws.of(value.reshape(len(who), -1), start[who], found.chosen.shape[1]))


@dataclass(frozen=True, eq=False)
class _Found:
    """Poses drawn at a band, and the log densities (B, S) that they were drawn by."""

    drawn: Drawn
    density: Float64


class _Finer(_Part):
    """Poses that scatter within the cells of those of a coarser band, drawn by the pixels of this one.

    Parameters
    ----------
    coarse, band : Band
    columns : (1 + r, l, l, l)
    trust : float
        What log-likelihoods count for.
    """

    def __init__(self, coarse: Band, band: Band, columns: Float32, trust: float) -> None:
        self._band, self._trust = band, trust
        self._prepared = band.projector.prepare(crop_volume(columns, band.box))
        self._turn, self._move = _TURN * rotation_spacing(coarse), _MOVE / coarse.k_c

    def drawn(self, found: _Found, trial: Trial, rng: np.random.Generator) -> _Found:
        """Draws from the neighbourhoods of others, half as many."""
        before = found.drawn
        count, draws = before.shift.shape[:2]
        turn = self._turn * rng.standard_normal((count * draws, 3))
        rotation = before.rotation @ from_rotation_vector(turn).reshape(count, draws, 3, 3)
        shift = before.shift + self._move * rng.standard_normal((count, draws, 2))
        likelihood = _log_likelihood(self._band, self._prepared, before.images, rotation, shift)
        density = self._trust * likelihood + trial.log_prior_of(shift)
        # draws stand for cells: what a pose gains over its cell is what it counts for
        gain = (density - found.density).astype(np.float32)
        start: Float64 = rng.random((count,))
        # what is left is less spread out, and each costs more
        again = Draws.of(gain, start, max(_FEWEST, draws // 2))
        rows = np.arange(count)[:, None]
        kept = density[rows, again.chosen]
        drawn = replace(
            before,
            rotation=rotation[rows, again.chosen],
            shift=shift[rows, again.chosen],
            best=np.argmax(kept, axis=1),
            evidence=before.evidence + again.evidence - np.log(draws),
        )
        return _Found(drawn, kept)


def _log_likelihood(
    band: Band, prepared: Any, batch: ImageBatch, rotation: Float64, shift: Float64
) -> Float64:
    """Log-likelihood (B, S) of images at rotations (B, S, 3, 3) and shifts (B, S, 2)."""
    count, draws = shift.shape[:2]
    pixels, channels = len(band.disc), band.projector.channels(prepared)
    every, moves = np.repeat(np.arange(count), draws), shift.reshape(-1, 2)
    frames = rotation.reshape(-1, 3, 3)
    found = np.empty((len(every), channels + 1, channels + 1))
    each = max(1, _SLICES // channels)
    for first in range(0, len(every), each):
        some = slice(first, first + each)
        image = every[some]
        stretch = None if batch.stretch is None else batch.stretch[image]
        frame = frames_of(frames[some], None, stretch)
        slices = band.slices(prepared, frame, batch.ctf[image, :pixels])
        moved = moved_images(batch.data, image, moves[some], band.disc, band.team)
        found[some] = gram(slices, moved, band.team)
    value = marginal_log_likelihood(found[:, :-1, :-1], found[:, :-1, -1:])
    return value.reshape(count, draws)
