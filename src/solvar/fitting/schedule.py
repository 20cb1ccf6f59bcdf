"""The order of the work: frequency bands, batches, sweeps and when to stop."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.fitting.settings import FitSettings

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_FIRST_BAND = 8
_RATIO = 1.33
# of the first rounds of pose refinement, and by how much finer the next ones are
_FIRST_POSE_BAND, _POSE_RATIO = 4, 1.5
# sweeps of a model that is made for one look at the poses: those of the finest band cost nearly all of it,
# and with EM's second one held-out particles lose again
_POSE_SWEEPS, _FINEST_POSE_SWEEPS, _FINEST_POSE_EPOCHS = 12, 1, 5
# sweeps under the spatial prior, from columns that have settled without it; more cost half as much again
_AGAIN, _FINEST_AGAIN = 2, 1
_EPOCHS = 20
# sweeps of the final model, with spare columns and without; what more would gain, they lose by noise
_WIDE_SWEEPS, _FINAL_SWEEPS = 2, 2
_MOST_SPARE_COLUMNS = 6
_BATCH = 750
# images of more particles than this may not fit in memory: then so many neighbours stay together
_MANY, _BLOCK = 20_000, 32
# a column grows from a random start as a power of the sweeps: at first held-out particles gain nothing by it
_FEWEST_FROM_RANDOM = 8
# sweeps of the finest band where each has the most M-steps
_FINEST_OF_MANY = 2
# M-steps of a sweep: enough that batches see what the others found; each costs a stored target
_FEWEST_BATCHES, _MOST_BATCHES = 4, 8
# a gain of held-out particles is real from so many standard errors on
_STANDARD_ERRORS = 2.0
# without any, a sweep that gains less than this much log-likelihood a particle was not worth its time
_WORTHWHILE_GAIN = 0.05


@dataclass(frozen=True)
class BandSchedule:
    """How long to work in a frequency band.

    Attributes
    ----------
    k_c : int
        Largest frequency.
    most_sweeps : int
        Of the models of the half-sets.
    fewest_sweeps : int
        Before held-out particles may end them.
    """

    k_c: int
    most_sweeps: int
    fewest_sweeps: int = 1


@dataclass(frozen=True)
class FinalSchedule:
    """How long to fit the model of all particles in the finest band.

    Attributes
    ----------
    wide_sweeps : int
        With spare columns.
    sweeps : int
        With the leading ones alone.
    """

    wide_sweeps: int
    sweeps: int


def schedule_final(particles: int, settings: FitSettings) -> FinalSchedule:
    """The final model of so many particles: M-steps count, of which a sweep of many particles has more.

    Halves of few particles miss columns of each other, which spare ones keep.
    """
    if settings.solver == "adam":
        return FinalSchedule(0, _EPOCHS)
    few = batch_count(particles, settings.batch_size) < _MOST_BATCHES
    return FinalSchedule(_WIDE_SWEEPS if few and settings.halfsets else 0, _FINAL_SWEEPS)


def with_spare(counts: list[int]) -> list[int]:
    """Numbers of columns in each block with spare ones."""
    return [count + min(count, _MOST_SPARE_COLUMNS) for count in counts]


def spare_columns(particles: int, settings: FitSettings) -> int:
    """How many spare columns the final model of so many particles begins with."""
    if not schedule_final(particles, settings).wide_sweeps:
        return 0
    return with_spare([settings.columns])[0] - settings.columns


def schedule_bands(k_max: int, settings: FitSettings, particles: int) -> list[BandSchedule]:
    """The bands of a fit of so many particles up to `k_max`."""
    if settings.solver == "adam":
        return published_schedule(k_max)
    bands = marching_schedule(k_max)
    members = particles // 2 if settings.halfsets else particles
    if len(bands) > 1 and batch_count(members, settings.batch_size) >= _MOST_BATCHES:
        # the other half's particles gain nothing by more
        bands[-1] = replace(bands[-1], most_sweeps=_FINEST_OF_MANY)
    return bands


def published_schedule(k_max: int) -> list[BandSchedule]:
    """The published schedule: twenty sweeps, all at the finest band."""
    return [BandSchedule(k_max, _EPOCHS)]


def marching_schedule(k_max: int) -> list[BandSchedule]:
    """Bands 8, 16, 32, … up to and including `k_max`.

    The first band starts from random columns and costs next to nothing: it may take many sweeps. A band
    is left out where the next one is less than a third finer.
    """
    radii = [k_max]
    while radii[0] > _RATIO * _FIRST_BAND:
        radii.insert(0, max(_FIRST_BAND, -(-radii[0] // 2)))
    first, *others = radii
    schedules = [
        BandSchedule(first, 12, _FEWEST_FROM_RANDOM),
        *(BandSchedule(k, 8) for k in others),
    ]
    if others:
        schedules[-1] = BandSchedule(others[-1], 4)
    return schedules


def pose_schedule(k_max: int, settings: FitSettings) -> list[BandSchedule]:
    """Bands of models that are made for one look at the poses: fewer sweeps do."""
    bands = marching_schedule(k_max)
    last = _FINEST_POSE_EPOCHS if settings.solver == "adam" else _FINEST_POSE_SWEEPS
    sweeps = [_POSE_SWEEPS] * (len(bands) - 1) + [last]
    pairs = zip(bands, sweeps, strict=True)
    return [BandSchedule(band.k_c, most) for band, most in pairs]


def under_spatial_prior(schedule: BandSchedule, k_max: int) -> BandSchedule:
    """A band once more, from columns that are nearly there: few sweeps do."""
    most = _AGAIN if schedule.k_c < k_max else _FINEST_AGAIN
    return replace(schedule, most_sweeps=most, fewest_sweeps=1)


def pose_rounds(k_max: int) -> list[int]:
    """Finest frequency of the first rounds of refining poses that were not fitted to the images, to `k_max`.

    Such poses may be off by more than a short wave, and shifts that are blur all but the first shells:
    refinement goes from coarse to fine.
    """
    radii = [min(_FIRST_POSE_BAND, k_max)]
    while radii[-1] < k_max:
        finer = round(_POSE_RATIO * radii[-1])
        radii.append(finer if finer * _POSE_RATIO**0.5 < k_max else k_max)
    return radii


def split_batches(index: Int64, batch_size: int | None, rng: np.random.Generator) -> list[Int64]:
    """A random partition of particles into batches of about `batch_size`, each in file order.

    Without a size the rule is batches of 750, but 4 to 8 of them. Of many particles neighbours stay
    together, 32 at a time, so that images on disk are read in long pieces.
    """
    count = batch_count(len(index), batch_size)
    if len(index) < _MANY:
        return [np.sort(part) for part in np.array_split(rng.permutation(index), count)]
    blocks = [index[first : first + _BLOCK] for first in range(0, len(index), _BLOCK)]
    parts = np.array_split(rng.permutation(len(blocks)), count)
    return [np.concatenate([blocks[b] for b in np.sort(part)]) for part in parts]


def batch_count(particles: int, batch_size: int | None) -> int:
    """How many batches `split_batches` makes of so many particles, one at least."""
    count = round(particles / (batch_size or _BATCH))
    if batch_size is None:
        count = int(np.clip(count, _FEWEST_BATCHES, _MOST_BATCHES))
    return int(np.clip(count, 1, particles))


def has_settled(before: Float64, now: Float64) -> bool:
    """Whether a sweep was no gain, by log-likelihoods (m,) of the same held-out particles before and after.

    A gain counts when it is more than chance among these particles: beyond two paired standard errors of its
    mean. Particles differ in their log-likelihood by far more than in its change.
    """
    gain = now - before
    return bool(gain.mean() < _STANDARD_ERRORS * gain.std() / np.sqrt(len(gain)))


def has_settled_on_its_own(before: float, now: float) -> bool:
    """Whether a sweep was not worth it, by the mean log-likelihood of the particles that took part.

    That never falls, and no chance enters into it: the threshold is one of time.
    """
    return now - before < _WORTHWHILE_GAIN
