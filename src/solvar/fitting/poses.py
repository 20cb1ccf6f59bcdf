"""Pose refinement: in rounds, each particle against a model that has not seen it.

Poses and models that were made together are wrong together: an image that helped to make a model finds in it
its own noise, at the pose where it put that. So in every round the particles are split at random into two
halves, not those of the round before; models of both are made anew from coarse to fine, and each particle
looks for its pose in the model of the other half. Particles that look misplaced are searched far and wide.

A round tells whether the poses that it started from were better than those of the round before: by the
evidence of particles that took no part. Rounds end where it rises no more, and poses that made it fall are
not kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, gram_matrices
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.noise import NoiseModel
from solvar.estimation.poses import (
    Candidates,
    PoseState,
    likely_poses,
    look_misplaced,
    refine_poses,
)
from solvar.estimation.prior import Prior
from solvar.fitting.calibration import with_measured_noise
from solvar.fitting.context import Context
from solvar.fitting.marching import fit_models
from solvar.fitting.schedule import has_settled, pose_rounds, pose_schedule
from solvar.fitting.start import START_CONTRAST_SD, half_means, with_means
from solvar.fitting.state import FitState, PartModel
from solvar.imaging.fourier import crop_volume
from solvar.parallel import agreed
from solvar.progress import Progress, Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MOST_ROUNDS = 10
# rounds in a row without a gain that end them. Fitted poses have turned each shape by itself, of which
# evidence tells little: they go on getting better for a while. Others soon follow what V lacks
_PATIENCE, _PATIENCE_FITTED = 1, 2
# rounds at the finest band in which misplaced particles are searched
_SEARCHES = 3
# steps of the solver, then the prior, then steps again
_TURNS = 2
# where particles that look misplaced are searched, and where climbing from candidates begins
_SEARCH_SHELL, _CLIMB_SHELL = 16, 20
_CANDIDATES = 6
# how many of the candidates climb on at the finest band
_FINALISTS = 2


def with_refined_poses(context: Context, state: FitState, progress: Progress) -> FitState:
    """The state with better poses, or as it was where no round made them better, and with their means."""
    assert state.poses is not None
    fitted = state.poses.depends_on_conformation
    coarse = len(pose_rounds(context.k_max, fitted)) - 1
    before, now, idle = state, state, 0
    for number in range(coarse + _MOST_ROUNDS):
        step = partial(_round, context, number, progress)
        after = context.once(f"poses round {number + 1}", step, now, now)
        if number == coarse + 1 and not fitted:
            after = _trusting_as_rounds_agree(now, after)
        # models of this round were made at the poses of `now`, those of the last one at those of `before`
        gain, compared = _gain(now, after), number > coarse + (1 if fitted else 2)
        if compared and agreed(_is_loss(*gain), context.images.processes):
            return _with_poses_of(context, state, before, after)
        settled = compared and agreed(has_settled(*gain), context.images.processes)
        before, now, idle = now, after, idle + 1 if settled else 0
        if idle == (_PATIENCE_FITTED if fitted else _PATIENCE):
            break
    return _with_poses_of(context, state, now, _trusting_as_rounds_agree(before, now))


def _trusting_as_rounds_agree(earlier: FitState, later: FitState) -> FitState:
    """With log-likelihoods counting for as much as the models of two rounds agree about poses."""
    assert earlier.poses is not None and later.poses is not None
    poses = later.poses.trusting(later.poses.trusted_after(earlier.poses))
    return replace(later, poses=poses)


def _gain(earlier: FitState, later: FitState) -> tuple[Float64, Float64]:
    """Evidence (N,) of particles under models that had not seen them, in two rounds."""
    assert earlier.poses is not None and later.poses is not None
    return earlier.poses.evidence, later.poses.evidence


def _is_loss(earlier: Float64, later: Float64) -> bool:
    """Whether evidence fell by more than chance."""
    return not has_settled(later, earlier)


def _with_poses_of(context: Context, start: FitState, chosen: FitState, last: FitState) -> FitState:
    """The state from before the rounds at the poses of one of them, its means made anew."""
    assert chosen.poses is not None and last.poses is not None
    poses = replace(
        last.poses, rotation=chosen.poses.rotation, shift=chosen.poses.shift
    ).without_drift()
    state = replace(last, models=[], prior=start.prior, noise=start.noise, poses=poses)
    return with_means(context, state)


def _round(context: Context, number: int, progress: Progress, state: FitState) -> FitState:
    """Models of two random halves, and each particle's pose in that of the other one."""
    rng = state.generator()
    order = rng.permutation(len(context.images))
    context = context.divided([np.sort(half) for half in np.array_split(order, 2)])
    state = state.after(rng)
    assert state.poses is not None and context.solver is not None
    radii = pose_rounds(context.k_max, state.poses.depends_on_conformation)
    k_c, search = radii[min(number, len(radii) - 1)], 0 <= number - len(radii) + 1 < _SEARCHES
    schedules, count = pose_schedule(k_c), len(context.images)
    sweeps = sum(each.most_sweeps for each in schedules)
    total = count * (sweeps + _TURNS * context.solver.steps)
    with progress.step(f"Refining poses, round {number + 1}", total) as step:
        models, noise = _models(context, state, k_c, number, step)
        if number < len(radii):
            # from then on it stays, or rounds could not be compared
            state = replace(state, noise=noise)
        poses = state.poses
        for part, columns in enumerate(reversed(models)):
            found = replace(state, poses=poses)
            poses = _found_by(context, found, part, columns, k_c, search, step)
    return replace(state, poses=poses)


def _models(
    context: Context, state: FitState, k_c: int, number: int, step: Step
) -> tuple[list[ColumnModel], NoiseModel]:
    """A model of each part at the present poses, up to the finest band, and the noise that they leave."""
    bands = [context.band(state, part, k_c) for part in (0, 1)]
    means, precision = half_means(bands)
    sd = START_CONTRAST_SD if context.settings.refine_contrast else 0.0
    fresh = [PartModel(part, None, sd) for part in (0, 1)]
    state = replace(state, means=means, models=fresh, prior=Prior(precision, precision))
    for schedule in pose_schedule(k_c):
        name = f"poses round {number + 1} band {schedule.k_c}"
        state, bands = fit_models(context, state, schedule, name, step)
    found = [ColumnModel(m.columns, m.contrast_sd) for m in state.models if m.columns is not None]
    return found, with_measured_noise(context, state, bands, found).noise


def _found_by(
    context: Context,
    state: FitState,
    part: int,
    model: ColumnModel,
    k_c: int,
    search: bool,
    step: Step,
) -> PoseState:
    """Poses of the particles of a part, found in a model that has not seen them."""
    assert context.solver is not None and state.poses is not None
    finest, poses = context.band(state, part, k_c), state.poses
    for turn in range(_TURNS):
        if turn > 0:
            poses = poses.with_fitted_prior(finest.index)
        band = finest.seeing(context.seen(replace(state, poses=poses)))
        poses = refine_poses(band, model, poses, context.solver, step)
    state = replace(state, poses=poses)
    if search:
        poses = _with_misplaced(context, state, part, model, finest, step)
    if not poses.depends_on_conformation:
        band = finest.seeing(context.seen(replace(state, poses=poses)))
        products = gram_matrices(BandModel(band, model), finest.index)
        poses = poses.without_shape(finest.index, image_posterior(products, model.contrast_sd).z)
    return poses.with_fitted_prior(finest.index)


def _with_misplaced(
    context: Context, state: FitState, part: int, model: ColumnModel, finest: Band, step: Step
) -> PoseState:
    """With particles of a part that look misplaced moved to wherever they are likelier."""
    poses, reach = state.poses, context.settings.pose_search
    assert poses is not None
    if reach == 0 or context.images.store.tilt is not None:
        return poses
    seen = finest.seeing(context.seen(state))
    products = gram_matrices(BandModel(seen, model), seen.index)
    # what has gone far is asked again: one model may have erred
    far = poses.prior.nearness(poses.offset(seen.index)) < 0.5
    misplaced = seen.index[look_misplaced(products, model.contrast_sd) | far]
    if len(misplaced) == 0:
        return poses
    coarse, middle = (
        context.band(state, part, min(shell, finest.k_c)).restricted(misplaced)
        for shell in (_SEARCH_SHELL, _CLIMB_SHELL)
    )
    radians = np.pi if reach == "global" else np.deg2rad(reach)
    columns = crop_volume(model.columns, coarse.box)
    found = likely_poses(coarse, columns, poses, radians, _CANDIDATES, step)
    found = _ranked(context, state, middle, model, found, step).first(_FINALISTS)
    best = poses.copied()
    for index, trial in _climbed(context, state, finest, model, found, step):
        best.take(trial, index[trial.evidence[index] > best.evidence[index]])
    return best


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
    for number, (index, trial) in enumerate(climbed):
        has = candidates.found > number
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
) -> Iterator[tuple[Int64, PoseState]]:
    """Which particles have a first, second, … candidate, and all poses after steps from there."""
    assert context.solver is not None and state.poses is not None
    model = replace(model, columns=crop_volume(model.columns, band.box))
    for number in range(candidates.found.max()):
        has = candidates.found > number
        index, trial = candidates.index[has], state.poses.copied()
        trial.move(index, candidates.rotation[has, number], candidates.shift[has, number])
        there = band.restricted(index).seeing(context.seen(replace(state, poses=trial)))
        yield index, refine_poses(there, model, trial, context.solver, step)
