"""The final model: a short run on all particles from the merged halves, and everybody's latents."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.em import IncrementalEm
from solvar.estimation.latents import place_particles, principal_columns, rotated_uncertainty
from solvar.estimation.level import Prior
from solvar.estimation.march import Context, Model
from solvar.estimation.model import HalfsetValidation, LowRankModel, Posterior
from solvar.estimation.schedule import LevelPlan, split_batches
from solvar.estimation.validation import validate_halves
from solvar.imaging.fourier import crop_volume
from solvar.progress import Progress

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def merge(models: list[Model], means: list[Float32]) -> Float32:
    """Columns W (1 + r, L, L, L) of the mean covariance of the models: r leading axes of ½ΣVVᵀ."""
    rank = len(models[0].second) - 1
    stacked = np.concatenate([m.columns[1:] for m in models if m.columns is not None])
    eigenvolumes, eigenvalues, _ = principal_columns(stacked / np.sqrt(len(models)))
    scaled = eigenvolumes * np.sqrt(eigenvalues).astype(np.float32)[:, None, None, None]
    return np.concatenate([np.mean(means, axis=0, dtype=np.float32)[None], scaled[:rank]])


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
    fit, moment = _sweep_all(context, merge(models, means), prior, contrast_sd, plans, progress)
    amplitude = np.linalg.cholesky(moment)
    columns = np.tensordot(amplitude.T.astype(np.float32), fit.columns[1:], axes=1)
    eigenvolumes, eigenvalues, rotation = principal_columns(columns)
    with progress.step("Placing every particle", len(images)) as step:
        posterior = place_particles(
            fit.level,
            fit.columns[0],
            eigenvolumes,
            eigenvalues,
            contrast_sd,
            rotated_uncertainty(fit, amplitude @ rotation),
            step,
        )
    extent = images.box * images.pixel_size_angstrom
    validation = None
    if len(models) == 2:
        levels = [context.level(model.index, images.disc.k_c) for model in models]
        validation = validate_halves(models, levels, means, eigenvolumes, eigenvalues, extent)
    model = LowRankModel(
        fit.columns[0], eigenvolumes, eigenvalues, context.mask, images.pixel_size_angstrom
    )
    return model, posterior, validation


def _sweep_all(
    context: Context,
    columns: Float32,
    prior: Prior,
    contrast_sd: float,
    plans: list[LevelPlan],
    progress: Progress,
) -> tuple[IncrementalEm, Float64]:
    """The last levels once more, on all particles; the fit and its mean E[z zᵀ]."""
    everything = np.arange(len(context.images))
    second = np.eye(len(columns))
    plans = plans[-2:]
    mean = columns[0]
    with progress.step("Final model", len(everything) * sum(p.final_sweeps for p in plans)) as step:
        for plan in plans:
            level = context.level(everything, plan.k_c)
            columns = crop_volume(columns, level.box)
            columns[0] = crop_volume(mean, level.box)
            batches = split_batches(everything, context.settings.batch_size, context.rng)
            fit = IncrementalEm(
                level, columns * level.mask, second, prior, contrast_sd, batches
            )
            for _ in range(plan.final_sweeps):
                statistics = fit.sweep(context.rng.permutation(len(fit.batches)), step)
            columns, second = fit.columns, fit.second
    return fit, statistics.latent_moment
