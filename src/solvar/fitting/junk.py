"""Which images show no particle, as the fit sees it: judged by models that never saw them.

A model of one half-set judges the particles of the other. Whether there is any junk at all a sample decides,
once, by the means: particles of a set without any keep the weight 1 to the last bit, and cost next to
nothing. Where there is, weights and means take turns, and each band judges anew with its columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.held_out import evenly_spread
from solvar.estimation.junk import Mixture, RangeProducts, holds_junk, range_products
from solvar.fitting.context import Context
from solvar.fitting.start import START_CONTRAST_SD, half_means, with_means
from solvar.fitting.state import FitState, PartModel
from solvar.imaging.fourier import crop_volume
from solvar.imaging.fsc import HALVES_THRESHOLD, fourier_shell_correlation
from solvar.parallel import agreed, gathered

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SAMPLE = 1000
# shares of a handful of kinds: more particles of a half would not fix them better
_MOST_FOR_SHARES = 10_000
# particles whose products are held at once
_AT_A_TIME = 5000
_ROUNDS = 3
# the least that a mean of a molecule shows
_COARSEST = 3


def without_junk(context: Context, state: FitState) -> FitState:
    """A state with means, its particles weighted by the probability that their images show one.

    Images without a particle had their share in the means that judge them, so means of the weighted
    particles judge again.
    """
    if not agreed(_has_junk(context, state), context.images.processes):
        return state
    for _ in range(_ROUNDS):
        state = with_means(context, _weighed(context, state))
    return state


def weight_anywhere(context: Context, evidence: Float64, index: Int64 | None = None) -> Float64:
    """Weights (N,) of particles that were looked for at every pose: none needs a pose to be judged by.

    Parameters
    ----------
    context : Context
    evidence : (N,)
        How much likelier images are with the molecule, at any pose, than without: log of the ratio.
    index : (M,), optional
        Whose it is known of; all by default. The others keep the weight that they had at first.
    """
    weight = _at_start(context).copy()
    judged = np.flatnonzero(weight > 0) if index is None else index[weight[index] > 0]
    if len(judged) == 0:
        return weight
    found = evidence[judged][:, None]
    some = found[evenly_spread(np.arange(len(found)), _MOST_FOR_SHARES)]
    mixture = Mixture.of(some)
    if agreed(holds_junk(some, mixture), context.images.processes):
        weight[judged] = mixture.probability(found)
    return weight


def weighed_again(context: Context, state: FitState) -> FitState:
    """Weights, and means that belong to them, by models with columns; as it is where there was no junk.

    Where poses were found from the images alone the weights of the search for them stay: noise has
    been looked for at every pose too, and lies where it looks most like a particle.
    """
    prior = state.prior
    if prior is None or np.array_equal(state.weight, _at_start(context)):
        return state
    if context.settings.ab_initio:
        return state
    state = _weighed(context, state)
    bands = [context.band(state, part, context.k_max) for part in range(len(context.parts))]
    means, precision = half_means(bands)
    if len(state.models) == 1:
        means = [np.asarray(np.mean(means, axis=0), dtype=np.float32)]
    return replace(state, means=means, prior=replace(prior, mean=precision))


def unjudged(context: Context, state: FitState) -> FitState:
    """The state with the weights of before any model has judged."""
    return replace(state, weight=_at_start(context))


def monstrous_count(context: Context) -> int:
    """How many particles were left out for the power of an image, before any model judged."""
    return int((_at_start(context) == 0).sum())


def _at_start(context: Context) -> Float64:
    """Weights (N,) before any model has judged: 0 for monstrous images, 1 for the others."""
    count, weight = len(context.images), context.images.weight
    return np.ones(count) if weight is None else weight


def _has_junk(context: Context, state: FitState) -> bool:
    found = []
    for judge in _judges(context, state):
        some = evenly_spread(context.one_of_each(judge.index), _SAMPLE)
        power, own = judge.residual_power(some), judge.owned(some)
        evidence = judge.products(some[own]).evidence(power)
        found.append(gathered(len(some), own, evidence, context.images.processes))
    if not found:
        return False
    evidence = np.concatenate(found)
    return holds_junk(evidence, Mixture.of(evidence))


def _weighed(context: Context, state: FitState) -> FitState:
    """With the weights that models of the other half give."""
    weight, processes = _at_start(context).copy(), context.images.processes
    for judge in _judges(context, state):
        index, own = judge.index, judge.owned(judge.index)
        power = judge.residual_power(evenly_spread(index, _SAMPLE))
        pieces = np.array_split(index[own], max(1, -(-len(own) // _AT_A_TIME)))
        evidence = np.concatenate([judge.products(piece).evidence(power) for piece in pieces])
        some = evenly_spread(np.arange(len(index)), _MOST_FOR_SHARES)
        shown = np.isin(own, some)
        place = np.searchsorted(some, own[shown])
        mixture = Mixture.of(gathered(len(some), place, evidence[shown], processes))
        weight[index] = gathered(len(index), own, mixture.probability(evidence), processes)
    return replace(state, weight=weight)


@dataclass(frozen=True, eq=False)
class _Judge:
    """A model, the particles that it judges, and the ranges of shells by which it does."""

    model: BandModel
    index: Int64
    edges: list[int]

    def owned(self, index: Int64) -> Int64:
        return self.model.band.images.owned(index)

    def products(self, index: Int64) -> RangeProducts:
        return range_products(self.model, index, self.edges)

    def residual_power(self, index: Int64) -> Float64:
        own = self.products(index[self.owned(index)])
        return own.residual_power(self.model.band.images.processes)


def _judges(context: Context, state: FitState) -> Iterator[_Judge]:
    """The model of each part with the particles that never met it; monstrous ones are judged by nobody.

    Images are seen with weight 1: what an image says must not depend on what was thought of it before.
    """
    candidates, edges = _at_start(context) > 0, _edges(context, state)
    even = replace(state, weight=np.ones(len(context.images)))
    models = state.models or [PartModel(part, None, START_CONTRAST_SD) for part in (0, 1)]
    for model, mean in zip(models, state.means, strict=True):
        band = context.band(even, model.part, edges[-1])
        columns = (crop_volume(mean, band.box) * band.support.mean)[None]
        if model.columns is not None:
            columns = np.concatenate([columns, crop_volume(model.columns[1:], band.box)])
        whole = ColumnModel(columns, model.contrast_sd)
        judged = context.members(None) if model.part is None else context.held_out(model.part)
        judged = judged[candidates[judged]]
        if len(judged):
            yield _Judge(BandModel(band, whole), judged, edges)


def _edges(context: Context, state: FitState) -> list[int]:
    """Last shells of ranges, half an octave each, up to where the means of the halves agree."""
    finest = context.k_max
    if len(state.means) == 2:
        first, second = state.means
        agreement = fourier_shell_correlation(first, second, context.k_max + 1)
        below = np.flatnonzero(agreement[_COARSEST:] < HALVES_THRESHOLD)
        finest = _COARSEST + max(0, int(below[0]) - 1) if len(below) else finest
    steps = np.rint(_COARSEST * 2 ** (np.arange(20) / 2)).astype(int)
    return sorted({int(k) for k in steps if k < finest} | {finest})
