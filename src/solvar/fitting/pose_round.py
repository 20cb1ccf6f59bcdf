"""One round of pose refinement: models of two random halves, each particle's pose in that of the other one.

Particles that look misplaced are searched far and wide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.abinitio import Placed, bands_to, placed
from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, told_by_products
from solvar.estimation.latents import leading
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.noise import NoiseModel
from solvar.estimation.poses import (
    Candidates,
    PoseState,
    ToldOfTilts,
    likely_poses,
    look_misplaced,
    refine_poses,
    told_of_tilts,
)
from solvar.estimation.prior import Prior
from solvar.fitting.abinitio import best_start
from solvar.fitting.calibration import with_measured_noise
from solvar.fitting.context import Context
from solvar.fitting.junk import unjudged, weight_anywhere
from solvar.fitting.marching import fit_models
from solvar.fitting.schedule import pose_schedule
from solvar.fitting.start import half_means, mean_models, start_contrast_sd
from solvar.fitting.state import FitState, PartModel
from solvar.imaging.fourier import crop_volume
from solvar.parallel import Array
from solvar.progress import Progress, Step

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# where particles that look misplaced are searched by the mean and by the model, and where climbing begins
_ROUGH_SHELL, _SEARCH_SHELL, _CLIMB_SHELL = 12, 16, 20
_CANDIDATES = 8
# up to which poses are drawn, where they were found from images alone, and by how many columns: ten
# find one particle in a hundred more than four, and take twice the time
_DRAWS_SHELL, DRAWS_COLUMNS = 26, 4
# how many of the candidates climb on at the finest band
_FINALISTS = 2
# steps of the shifts of tilt images in a round
_TILT_STEPS = 2


class Search(Enum):
    """Who is searched far and wide in a round, and by what.

    Columns may tell a molecule from its mirror image, or from what it looks like after a turn: then particles
    at either pose are as likely, and stay where they are. The mean alone is likelier where more of them are.
    """

    NOBODY = "nobody"
    MISPLACED = "those who look misplaced"
    ALL_BY_MEAN = "all, by the mean alone"
    ALL = "all"

    @property
    def is_of_all(self) -> bool:
        """Whether everybody is searched."""
        return self in (Search.ALL_BY_MEAN, Search.ALL)


@dataclass(frozen=True)
class RoundPlan:
    """What a round does.

    Attributes
    ----------
    number : int
        Counted from 1, unlike any other in the fit.
    k_c : int
        Finest frequency.
    search : Search
        Of a round by the mean alone, models have no columns.
    measures_noise : bool
        Whether the noise is measured, for this round and those that follow.
    """

    number: int
    k_c: int
    search: Search = Search.NOBODY
    measures_noise: bool = False

    @property
    def name(self) -> str:
        """Of the step, in a checkpoint."""
        return f"poses round {self.number}"


def after_round(context: Context, plan: RoundPlan, progress: Progress, state: FitState) -> FitState:
    """The state with poses, evidence and perhaps noise of a round."""
    rng = state.generator()
    order = rng.permutation(len(context.images))
    context = context.divided([np.sort(half) for half in np.array_split(order, 2)])
    state = state.after(rng)
    begun = state.poses
    assert begun is not None and context.solver is not None
    if context.settings.ab_initio:
        # off the centre a particle would have to move far to take another pose, and stay in its hand
        begun = begun.centred()
        state = replace(state, poses=begun)
    by_mean = plan.search is Search.ALL_BY_MEAN
    schedules = [] if by_mean else pose_schedule(plan.k_c, context.settings)
    sweeps = sum(each.most_sweeps for each in schedules)
    total = len(context.images) * (sweeps + context.solver.steps)
    with progress.step(f"Refining poses, round {plan.number}", total) as step:
        models, noise = _models(context, state, plan, step)
        state = replace(state, noise=noise)
        poses, seen = begun, unjudged(context, state) if context.settings.ab_initio else state
        for part, columns in enumerate(reversed(models)):
            found = replace(seen, poses=poses)
            poses = _found_by(context, found, part, columns, plan, step)
        if state.tilts is not None:
            state, poses = _with_tilts(context, replace(state, poses=poses), models, plan)
    if poses.depends_on_conformation:
        poses = poses.hastened(begun)
    if context.settings.ab_initio and plan.search.is_of_all:
        state = replace(state, weight=weight_anywhere(context, poses.anywhere))
    return replace(state, poses=poses)


def _models(
    context: Context, state: FitState, plan: RoundPlan, step: Step
) -> tuple[list[ColumnModel], NoiseModel]:
    """A model of each part at the present poses, up to the finest band, and the noise."""
    bands = [context.band(state, part, plan.k_c) for part in (0, 1)]
    sd = start_contrast_sd(context.settings)
    if plan.search is Search.ALL_BY_MEAN:
        models = mean_models(bands, half_means(bands)[0], sd)
        if plan.measures_noise:
            state = with_measured_noise(context, state, bands, models)
        return models, state.noise
    # EM goes on with them
    means, precision = half_means(bands, steps=(1, 1))
    fresh = [PartModel(part, None, sd) for part in (0, 1)]
    state = replace(state, means=means, models=fresh, prior=Prior(precision, precision))
    schedules = pose_schedule(plan.k_c, context.settings)
    for schedule in schedules:
        name = f"{plan.name} band {schedule.k_c}"
        state, bands = fit_models(context, state, schedule, name, step)
    if plan.measures_noise:
        state = with_measured_noise(context, state, bands, state.fitted_models)
        state, _ = fit_models(context, state, schedules[-1], f"{plan.name} once more", step)
    return state.fitted_models, state.noise


def _found_by(
    context: Context,
    state: FitState,
    part: int,
    model: ColumnModel,
    plan: RoundPlan,
    step: Step,
) -> PoseState:
    """Poses of the particles of a part, found in a model that has not seen them."""
    assert context.solver is not None and state.poses is not None
    begun, finest = state.poses, context.band(state, part, plan.k_c)
    poses = refine_poses(finest, model, begun, context.solver, step)
    if plan.search is not Search.NOBODY:
        poses = _with_misplaced(
            context, replace(state, poses=poses), part, model, finest, plan, step
        )

    def latents(products: Float64) -> Float64:
        return image_posterior(products, model.contrast_sd, context.team).z

    z = _told(context, replace(state, poses=poses), finest, model, latents)
    if poses.depends_on_conformation:
        poses = poses.following_shape(finest.index, z, begun)
    else:
        poses = poses.without_shape(finest.index, z)
    return poses.with_fitted_prior(finest.index)


def _with_tilts(
    context: Context, state: FitState, models: list[ColumnModel], plan: RoundPlan
) -> tuple[FitState, PoseState]:
    """With the shifts of tilt images that particles tell of in models that have not seen them, and poses.

    What moves of the particles explain as well is theirs.
    """
    assert state.poses is not None and state.tilts is not None
    poses, tilts = state.poses, state.tilts
    for _ in range(_TILT_STEPS):
        told = list[ToldOfTilts]()
        for part, model in enumerate(reversed(models)):
            band = context.band(state, part, plan.k_c)
            told.append(told_of_tilts(band, model, len(tilts.shift)))
        tilts = tilts.moved((told[0] + told[1]).trusted(poses.trust))
        tilts, moves = tilts.without_moves(context.images)
        poses = replace(poses, shift=poses.shift + moves)
        state = replace(state, tilts=tilts, poses=poses)
    return state, poses


def _told(
    context: Context,
    state: FitState,
    band: Band,
    model: ColumnModel,
    tell: Callable[[Float64], Array],
) -> NDArray[Any]:
    """What Gram matrices of a band's particles under a model tell of each, at the poses of a state."""
    there = BandModel(band.seeing(context.seen(state)), model)
    return told_by_products(there, band.index, tell)


def _with_misplaced(
    context: Context,
    state: FitState,
    part: int,
    model: ColumnModel,
    finest: Band,
    plan: RoundPlan,
    step: Step,
) -> PoseState:
    """With particles of a part that look misplaced, or all of them, moved to wherever they are likelier."""
    poses = state.poses
    assert poses is not None
    if context.settings.pose_search == 0:
        return poses
    index = finest.index if plan.search.is_of_all else _misplaced(context, state, finest, model)
    best = poses.copied()
    best.sought[finest.index] = False
    if len(index) == 0:
        return best
    if context.settings.ab_initio:
        drawn = _drawn(context, state, part, model, index, step)
        best.anywhere[index] = drawn.evidence
        found = Candidates.of_one(index, drawn.rotation, drawn.shift)
    else:
        found = _likely_candidates(context, state, part, model, index, step)
    for has, trial in _climbed(context, state, finest, model, found, step):
        climbed = index[has]
        best.take(trial, climbed[trial.evidence[climbed] > best.evidence[climbed]])
    if not plan.search.is_of_all:
        best.sought[index] = ~best.found_elsewhere(poses, index)
    return best


def _misplaced(context: Context, state: FitState, band: Band, model: ColumnModel) -> Int64:
    """Which of a band's particles look misplaced in a model that has not seen them.

    Those that were searched in vain in the round before are not: most of them show little by chance.
    """
    poses = state.poses
    assert poses is not None

    def misplaced(products: Float64) -> NDArray[np.uint8]:
        return look_misplaced(products, model.contrast_sd).astype(np.uint8)

    doubtful = _told(context, state, band, model, misplaced) > 0
    doubtful &= ~poses.sought[band.index]
    # what has gone far is asked again: one model may have erred
    far = poses.prior.nearness(poses.offset(band.index)) < 0.5
    return band.index[doubtful | far]


def _likely_candidates(
    context: Context, state: FitState, part: int, model: ColumnModel, index: Int64, step: Step
) -> Candidates:
    """The best of poses that the mean, then the model, leave over of all within reach."""
    reach, poses = context.settings.pose_search, state.poses
    assert poses is not None
    rough, coarse, middle = (
        context.band(state, part, shell).restricted(index)
        for shell in (_ROUGH_SHELL, _SEARCH_SHELL, _CLIMB_SHELL)
    )
    radians = np.pi if reach == "global" else np.deg2rad(reach)
    columns = crop_volume(model.columns, coarse.box)
    found = likely_poses(rough, coarse, columns, poses, radians, _CANDIDATES, step)
    return _ranked(context, state, middle, model, found, step).first(_FINALISTS)


def _drawn(
    context: Context, state: FitState, part: int, model: ColumnModel, index: Int64, step: Step
) -> Placed:
    """The likeliest of poses that are drawn from all by the mean, then at finer bands by the model."""
    bands = bands_to(partial(context.band, state, part), _DRAWS_SHELL)
    columns = crop_volume(model.columns, bands[-1].box)
    columns = np.concatenate([columns[:1], leading(columns[1:], DRAWS_COLUMNS)])
    return placed(bands, columns, index, best_start(state).consensus.shift_sd, step)


def _ranked(
    context: Context,
    state: FitState,
    band: Band,
    model: ColumnModel,
    candidates: Candidates,
    step: Step,
) -> Candidates:
    """Where steps from each candidate lead in a band, best first."""
    assert state.poses is not None
    evidence = np.full(candidates.rotation.shape[:2], -np.inf)
    rotation, shift = candidates.rotation.copy(), candidates.shift.copy()
    climbed = _climbed(context, state, band, model, candidates, step)
    for number, (has, trial) in enumerate(climbed):
        index = candidates.index[has]
        evidence[has, number] = trial.evidence[index]
        rotation[has, number] = trial.rotation[index]
        shift[has, number] = trial.shift[index] - state.poses.shift[index]
    order = np.argsort(-evidence, axis=1)[:, :, None]
    shift = np.take_along_axis(shift, order, axis=1)
    rotation = np.take_along_axis(rotation, order[..., None], axis=1)
    return replace(candidates, rotation=rotation, shift=shift)


def _climbed(
    context: Context,
    state: FitState,
    band: Band,
    model: ColumnModel,
    candidates: Candidates,
    step: Step,
) -> Iterator[tuple[NDArray[np.bool_], PoseState]]:
    """Which particles (M,) have a first, second, … candidate, and all poses after steps from there."""
    assert context.solver is not None and state.poses is not None
    model = replace(model, columns=crop_volume(model.columns, band.box))
    for number in range(candidates.found.max()):
        has = candidates.found > number
        index, trial = candidates.index[has], state.poses.copied()
        move = trial.begin_at if context.settings.ab_initio else trial.move
        move(index, candidates.rotation[has, number], candidates.shift[has, number])
        there = band.restricted(index).seeing(context.seen(replace(state, poses=trial)))
        yield has, refine_poses(there, model, trial, context.solver, step)
