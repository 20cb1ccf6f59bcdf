"""The final model: a short run on all particles from the merged halves, and everybody's latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.context import Context
from solvar.estimation.latents import (
    combined,
    place_particles,
    principal_columns,
    rotated_uncertainty,
    to_columns,
)
from solvar.estimation.level import Prior
from solvar.estimation.march import Model
from solvar.estimation.model import HalfsetValidation, LowRankModel, Posterior
from solvar.estimation.schedule import LevelPlan, split_batches
from solvar.estimation.solvers import make_column_solver
from solvar.estimation.sweep import ColumnSolver
from solvar.estimation.validation import (
    held_out_eigenvalues,
    reliable_components,
    validate_halves,
)
from solvar.imaging.fourier import crop_volume
from solvar.progress import Progress

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST_SPARE_COLUMNS = 6


def merge(models: list[Model], means: list[Float32], rank: int) -> Float32:
    """Columns W (1 + rank, l, l, l) of the mean covariance of the models: leading axes of ½ΣVVᵀ."""
    stacked = np.concatenate([m.columns[1:] for m in models if m.columns is not None])
    mean = crop_volume(np.mean(means, axis=0, dtype=np.float32), stacked.shape[-1])
    averaged = (stacked / np.sqrt(len(models))).astype(np.float32)
    return np.concatenate([mean[None], leading(averaged, rank)])


def leading(columns: Float32, rank: int) -> Float32:
    """The `rank` leading principal columns, eigenvolume · √eigenvalue, of V Vᵀ."""
    eigenvolumes, eigenvalues, _ = principal_columns(columns)
    return to_columns(eigenvolumes, eigenvalues)[:rank]


def finish(
    context: Context,
    models: list[Model],
    means: list[Float32],
    prior: Prior,
    plans: list[LevelPlan],
    progress: Progress,
) -> tuple[LowRankModel, Posterior, HalfsetValidation | None]:
    """Fit all particles from the merged models, fix axes and scale, place every particle, validate."""
    images = context.images
    contrast_sd = float(np.mean([model.contrast_sd for model in models]))
    fit, amplitude = _sweep_all(context, models, means, prior, contrast_sd, plans, progress)
    columns = combined(fit.columns[1:], amplitude)
    eigenvolumes, trained, rotation = principal_columns(crop_volume(columns, images.box))
    eigenvalues, validation = trained, None
    if len(models) == 2:
        with progress.step("Judging components by the other half", len(images)) as step:
            levels = [context.level(model.index, images.disc.k_c) for model in models]
            reliable = reliable_components(models, levels, fit.slack)
            step.advance(len(images))
        eigenvalues = balanced_eigenvalues(
            trained, held_out_eigenvalues(models, images.box), reliable
        )
        if context.settings.rank == "auto":
            kept = slice(0, max(1, int(reliable.sum())))
            eigenvolumes, trained, rotation = eigenvolumes[kept], trained[kept], rotation[:, kept]
            eigenvalues, reliable = eigenvalues[kept], reliable[kept]
        validation = validate_halves(
            models,
            means,
            reliable,
            images.disc.k_c + 1,
            eigenvolumes,
            eigenvalues,
            images.box * images.pixel_size_angstrom,
        )
    scale = np.diag(np.sqrt(eigenvalues / trained))
    with progress.step("Placing every particle", len(images)) as step:
        posterior = place_particles(
            fit.level,
            fit.columns[0],
            eigenvolumes,
            eigenvalues,
            contrast_sd,
            rotated_uncertainty(fit, amplitude @ rotation @ scale),
            fit.slack,
            step,
        )
    mean = crop_volume(fit.columns[0], images.box)
    model = LowRankModel(mean, eigenvolumes, eigenvalues, context.mask, images.pixel_size_angstrom)
    return model, posterior, validation


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


def _sweep_all(
    context: Context,
    models: list[Model],
    means: list[Float32],
    prior: Prior,
    contrast_sd: float,
    plans: list[LevelPlan],
    progress: Progress,
) -> tuple[ColumnSolver, Float64]:
    """The last levels once more, on all particles; the fit, and the factor to unit latent variance.

    Before the finest level the columns of both halves take part, so that what one half missed is kept
    until everybody has seen it; then the r leading ones go on.
    """
    everybody = np.arange(len(context.images))
    rank, plans = context.settings.columns, plans[-2:]
    spare = min(rank, _MOST_SPARE_COLUMNS) if len(plans) > 1 and len(models) > 1 else 0
    columns = merge(models, means, rank + spare)
    mean = columns[:1]
    total = len(everybody) * sum(plan.final_sweeps for plan in plans)
    with progress.step("Final model", total) as step:
        for plan in plans:
            level = context.level(everybody, plan.k_c)
            kept = columns[1:] if plan is not plans[-1] else leading(columns[1:], rank)
            columns = np.concatenate([crop_volume(v, level.box) for v in (mean, kept)])
            batches = split_batches(everybody, context.settings.batch_size, context.rng)
            slack = context.poses.slack() if context.poses else None
            fit = make_column_solver(
                context.settings,
                level,
                columns * level.mask,
                prior,
                contrast_sd,
                batches,
                slack,
            )
            name = f"final model to shell {plan.k_c} sweeps"
            (statistics,) = context.sweep(name, [fit], plan.final_sweeps, step)
            amplitude = np.asarray(np.linalg.cholesky(statistics.latent_moment), dtype=np.float64)
            columns = np.concatenate([fit.columns[:1], combined(fit.columns[1:], amplitude)])
    return fit, amplitude
