"""The final model: a short run on all particles from the merged halves, and everybody's latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.blocks import labels_of, together
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.latents import (
    combined,
    leading_of_blocks,
    place_particles,
    principal_axes,
)
from solvar.estimation.low_rank import LowRankModel, to_columns
from solvar.estimation.mean import MeanProblem
from solvar.estimation.posterior import Posterior
from solvar.estimation.solvers import ColumnSolver
from solvar.fitting.context import Context
from solvar.fitting.model_error import compared, latent_error
from solvar.fitting.result import HalfsetValidation
from solvar.fitting.schedule import schedule_final, split_batches, with_spare
from solvar.fitting.start import MEAN_STEPS
from solvar.fitting.state import FitState
from solvar.fitting.sweeps import sweep
from solvar.fitting.validation import (
    HalfAgreement,
    doubted,
    held_out_eigenvalues,
    validate_halves,
)
from solvar.imaging.fourier import crop_volume
from solvar.progress import Progress

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def merge(state: FitState, labels: Int64, counts: Sequence[int]) -> Float32:
    """Columns W (1 + r, l, l, l) of the mean covariance of the models: leading axes of ½ΣVVᵀ.

    Those of each block of columns, of whose labels each model has its own, so many as `counts` says.
    """
    columns = [v for m in state.models if m.columns is not None for v in m.columns[1:]]
    mean = crop_volume(np.mean(state.means, axis=0, dtype=np.float32), columns[0].shape[-1])
    block = np.tile(labels, len(state.fitted_models))
    merged = leading_of_blocks(columns, block, counts)
    merged /= np.float32(np.sqrt(len(state.models)))
    return np.concatenate([mean[None], merged])


@dataclass(frozen=True, eq=False)
class Final:
    """What a fit ends with."""

    model: LowRankModel
    posterior: Posterior
    validation: HalfsetValidation | None
    block: Int64


def finish(context: Context, state: FitState, progress: Progress) -> tuple[FitState, Final]:
    """Fit all particles from the merged models, fix axes and scale, place every particle, validate."""
    images = context.images
    contrast_sd = float(np.mean([model.contrast_sd for model in state.models]))
    state, solver, amplitude, scaled = sweep_all(context, state, contrast_sd, progress)
    fitted = solver.model
    axes = principal_axes(crop_volume(scaled, images.box), context.labels).on(context.shelf)
    trained, validation = axes.eigenvalues, None
    if len(state.models) == 2:
        with progress.step("Testing components on held-out particles", len(images)) as step:
            agreement = HalfAgreement.of(context, state)
            doubt = doubted(context, state, axes, agreement)
            step.advance(len(images))
        reliable = doubt.evidence.real
        held_out = held_out_eigenvalues(state.models, images.box, context.labels, axes.block)
        axes = axes.with_eigenvalues(balanced_eigenvalues(trained, held_out, reliable))
        if context.settings.rank == "auto":
            # real ones come first but for chance: none of them is left out
            kept = 1 + int(np.flatnonzero(reliable)[-1]) if reliable.any() else 1
            axes, trained, doubt = axes.first(kept), trained[:kept], doubt.of_first(kept)
        validation = validate_halves(context, state, axes, agreement, doubt)
    factor = amplitude @ axes.rotation @ np.diag(np.sqrt(axes.eigenvalues / trained))
    scaled = crop_volume(to_columns(axes.eigenvolumes, axes.eigenvalues), solver.band.box)
    placing = replace(
        fitted,
        columns=np.concatenate([fitted.columns[:1], scaled]),
        variance=solver.variance.rotated(factor),
    )
    twice = compared(context) if len(state.models) == 2 else np.array([], np.int64)
    with progress.step("Placing every particle", len(images) + 2 * len(twice)) as step:
        error = None
        if len(twice):
            band = solver.band.restricted(twice)
            error = latent_error(state, band, axes.eigenvolumes, step)
        posterior = place_particles(solver.band, placing, axes.eigenvalues, step, error)
    mean = crop_volume(fitted.columns[0], images.box)
    model = LowRankModel(
        mean,
        axes.eigenvolumes,
        axes.eigenvalues,
        context.support(state).mean,
        images.store.pixel_size_angstrom,
    )
    return state, Final(model, posterior, validation, axes.block)


def balanced_eigenvalues(
    trained: Float64, held_out: Float64, reliable: NDArray[np.bool_]
) -> Float64:
    """Eigenvalues between what training and held-out particles say.

    Particles that took part see too much variance along an eigenvolume (it holds some of their noise),
    particles that did not see too little (it is not quite the true direction): both errors fall as 1/N and
    the mean of the two is nearly free of either (docs/decisions/0006). For a component that no held-out
    particle supports, the training value is noise and the held-out one stands alone.
    """
    balanced = np.where(reliable, (trained + held_out) / 2, np.minimum(trained, held_out))
    # an order that the eigenvolumes keep
    return np.maximum(np.minimum.accumulate(balanced), 1e-6 * balanced[0])


def _symmetric_mean(context: Context, state: FitState) -> Float32:
    """The mean of all particles at all their equivalent poses, which no sweep changes."""
    assert state.prior is not None
    band = context.band(state, None, context.k_max).of_mean
    return crop_volume(MeanProblem(band).solve(state.prior.mean, MEAN_STEPS), context.images.box)


def sweep_all(
    context: Context, state: FitState, contrast_sd: float, progress: Progress
) -> tuple[FitState, ColumnSolver, Float64, Float32]:
    """Sweeps of all particles in the finest band: the fit, the factor to unit latent variance, V times it.

    First the columns of both halves take part, so that what one half missed is kept until everybody has
    seen it; then the r leading ones go on.
    """
    prior, labels = state.prior, context.labels
    assert prior is not None
    counts = np.bincount(labels).tolist()
    schedule = schedule_final(len(context.images), context.settings)
    stages = [("final model", counts, schedule.sweeps)]
    if schedule.wide_sweeps:
        wide = "final model with spare columns", with_spare(counts), schedule.wide_sweeps
        stages.insert(0, wide)
    merged = merge(state, labels, stages[0][1])
    mean, before = merged[:1].copy(), labels_of(stages[0][1])
    columns = context.shelf.keep(merged[1:])
    del merged
    if context.operations is not None:
        mean = _symmetric_mean(context, state)[None]
    errors = state.poses.errors() if state.poses else None
    total = len(context.images) * sum(sweeps for *_, sweeps in stages)
    with progress.step("Final model", total) as step:
        for name, now, sweeps in stages:
            band = context.sweeping_band(state, None, context.k_max).with_counts(now)
            kept = leading_of_blocks(columns, before, now)
            model = ColumnModel(_within(band, mean, kept), contrast_sd, pose_errors=errors)
            del kept
            rng = state.generator()
            batches = split_batches(band.index, context.settings.batch_size, rng)
            state = state.after(rng)
            solver = context.column_solver(band, model, prior, batches)
            state, (statistics,) = sweep(context, state, f"{name} sweeps", [solver], sweeps, step)
            before = labels_of(now)
            moment = statistics.latent_moment * together(before)
            amplitude = np.asarray(np.linalg.cholesky(moment), dtype=np.float64)
            mean = solver.model.columns[:1]
            columns = context.shelf.keep(combined(solver.model.columns[1:], amplitude))
    return state, solver, amplitude, columns


def _within(band: Band, mean: Float32, columns: Float32) -> Float32:
    """Mean (1, L, L, L) and columns (r, L, L, L) on the grid of a band, within its masks."""
    both = np.concatenate([crop_volume(v, band.box) for v in (mean, columns)])
    return band.shelf.keep(band.support.masked(both))
