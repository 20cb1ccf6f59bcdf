"""A start: from random rotations to a volume that images agree on, or not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.abinitio.consensus import (
    Consensus,
    Moments,
    Stage,
    at_random,
    signal_power,
    step,
)
from solvar.estimation.abinitio.placing import Placed, placed
from solvar.estimation.band import Band
from solvar.imaging.point_groups import PointGroup
from solvar.imaging.symmetry import find_axes
from solvar.progress import Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# particles that tell how strong the molecule is in the images
_TELLING = 2000
_FINER = 4 / 3
# no stage ends before so much of it
_LEAST = 0.2


@dataclass(frozen=True, eq=False)
class Start:
    """Where a start has come to.

    Attributes
    ----------
    first : (l, l, l) float32
        The volume it began with.
    consensus : Consensus
        What it has ended with.
    judged : Placed
        Poses of particles that took no part.
    axes : (3, 3) float64
        How the axes of a point group lie in it, as `imaging.symmetry.Axes.rotation`.
    """

    first: Float32
    consensus: Consensus
    judged: Placed
    axes: Float64

    @property
    def evidence(self) -> float:
        """How much likelier an image that took no part is with the molecule than without, nats."""
        return float(self.judged.evidence.mean())


# the finest band at which every rotation is tried; beyond it draws go on from there
GRID_SHELL = 12


def bands_to(band_of: Callable[[int], Band], k_c: int) -> list[Band]:
    """Bands of a draw that ends at k_c, or where images do: the grid's, and each a third finer at most."""
    bands = [band_of(each) for each in band_shells(k_c)]
    return bands[:1] + [band for coarse, band in pairwise(bands) if band.k_c > coarse.k_c]


def band_shells(k_c: int) -> list[int]:
    """The finest frequencies of these bands."""
    shells = [k_c]
    while shells[0] > GRID_SHELL:
        shells.insert(0, max(GRID_SHELL, round(shells[0] / _FINER)))
    return shells


def run_stages(
    band_of: Callable[[int], Band],
    stages: Sequence[Stage],
    pool: Int64,
    consensus: Consensus | float,
    rng: np.random.Generator,
    progress: Step,
) -> tuple[Float32, Consensus]:
    """The first volume and the consensus after all stages.

    Parameters
    ----------
    band_of : callable
        Makes the band of a k_c.
    stages : sequence of Stage
        From coarse to fine.
    pool : (P,)
        Particles that may take part.
    consensus : Consensus or float
        What to go on from; a new one is begun from the standard deviation of shifts in box lengths.
    rng : Generator
    progress : Step
        Told of every particle.
    """
    first = None
    order = pool[:0]
    for stage in stages:
        bands = bands_to(band_of, stage.k_c)
        power = signal_power(bands[-1], np.sort(rng.permutation(pool)[:_TELLING]))
        count = min(stage.images, len(pool))
        if isinstance(consensus, float):
            some = np.sort(rng.permutation(pool)[:count])
            consensus = at_random(bands[-1], some, power, stage.raised, consensus, rng)
        else:
            consensus = consensus.on(bands[-1], power)
        first = consensus.volume if first is None else first
        resolution = bands[-1].images.store.extent_angstrom / bands[-1].k_c
        for number in range(stage.steps):
            if number >= _LEAST * stage.steps and consensus.settled > stage.enough:
                break
            if len(order) < count:
                order = rng.permutation(pool)
            some, order = np.sort(order[:count]), order[count:]
            consensus = step(bands, some, consensus, power, stage, rng)
            progress.note(f"{resolution:.0f} Å, {consensus.settled:.0%} of the particles settled")
            progress.advance(count)
    assert first is not None and not isinstance(consensus, float)
    return first, consensus


def judged(
    bands: Sequence[Band],
    first: Float32,
    consensus: Consensus,
    index: Int64,
    group: PointGroup,
) -> Start:
    """The start that has led to a consensus, with the poses of particles that took no part."""
    found = placed(bands, consensus.volume[None], index, consensus.shift_sd)
    axes = find_axes(consensus.volume, group).rotation if len(group) > 1 else np.eye(3)
    return Start(first, consensus, found, axes)


def blank_start(first: Band, last: Band, judges: int) -> Start:
    """What has the form of a start that went from one band to another."""
    blank = [np.zeros((band.box,) * 3, np.float32) for band in (first, last)]
    moments = Moments(blank[1], np.zeros((2 * last.k_c + 3,) * 3))
    consensus = Consensus(moments, blank[1], np.zeros((len(last.images), 2)), 0.0)
    found = Placed(np.zeros((judges, 3, 3)), np.zeros((judges, 2)), np.zeros(judges))
    return Start(blank[0], consensus, found, np.eye(3))
