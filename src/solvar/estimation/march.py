"""The frequency march: models of disjoint sets of particles, from coarse to fine.

With half-sets there are two models that never see each other's images. What crosses between them is
the prior, from how well they agree, and the amplitudes and contrast spread of `heldout.py`. Without
half-sets there is one model, which keeps the prior of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.cache import WhitenedImages
from solvar.estimation.context import Context
from solvar.estimation.heldout import gram_matrices, held_out_scale
from solvar.estimation.latents import combined, rotated_uncertainty
from solvar.estimation.level import Level, Prior, level_box
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.mean import MeanProblem, fourier_filter
from solvar.estimation.poses import poses_follow_shape, refine_poses, search_poses
from solvar.estimation.prior import column_precision, covariance_fsc, extend
from solvar.estimation.schedule import LevelPlan, has_settled, split_batches
from solvar.estimation.settings import FitSettings
from solvar.estimation.solvers import make_column_solver
from solvar.estimation.start import half_means, should_invert
from solvar.estimation.sweep import ColumnSolver, SweepStatistics
from solvar.imaging.fourier import crop_volume
from solvar.progress import Progress

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_START_CONTRAST_SD = 0.15
# Amplitude of the random start relative to the prior: it must not drown the mean at the first step
_START_AMPLITUDE = 0.3
_SCALE_STEPS = 8
_WITNESSES = 1000
# amplitudes are r(r + 1)/2 numbers: more particles than these would not fix them better
_MOST_SCALE_WITNESSES = 50_000
# levels up to which a grid search is as wide as the user says, and up to which it is made at all
_WIDEST_SEARCH, _FINEST_SEARCH = 5, 16
# half width of its first grid of shifts, in box lengths
_SEARCH_SHIFT = 0.05
# poses have settled when the steps of a turn add up to less than this share of their variance
_SETTLED_POSES = 0.02


@dataclass(frozen=True, eq=False)
class Model:
    """A model under way.

    Attributes
    ----------
    index : (N,) int64
        Particles it is fitted to.
    witnesses : (M,) int64
        Particles it never sees, which judge it; empty without half-sets.
    mean : (L, L, L) float32
        Mean on the full grid, the start of every level.
    columns : (1 + r, l, l, l) float32 or None
        W = [μ | V] on the grid of the last level, scaled to unit latent variance.
    contrast_sd : float
    factor : (r, r) float64 or None
        What the columns of the last fit were multiplied by.
    """

    index: Int64
    witnesses: Int64
    mean: Float32
    columns: Float32 | None
    contrast_sd: float
    factor: Float64 | None = None


def first_means(context: Context, halves: list[Int64]) -> tuple[list[Float32], Float64]:
    """Means of the half-sets and the prior that they imply; they also tell the sign of the images, and
    what the poses were fitted to.
    """
    k_max = context.images.disc.k_c
    means, precision = half_means([context.level(half, k_max) for half in halves])
    if should_invert(context.settings.density, means, context.mask):
        context.images.inverted = True
        means = [-mean for mean in means]
    if context.poses is not None:
        context.poses.follows_shape = poses_follow_shape(
            lambda k: [context.level(half, k) for half in halves], means, k_max
        )
    return means, precision


def means_form(images: WhitenedImages) -> tuple[list[Float32], Float64]:
    """What has the form of `first_means`."""
    means = [np.zeros((images.box,) * 3, np.float32) for _ in (1, 2)]
    return means, np.zeros(images.disc.k_c + 1)


def new_models(halves: list[Int64], means: list[Float32], settings: FitSettings) -> list[Model]:
    """Models that know their mean alone: one a half, or one of everybody without half-sets."""
    sd = _START_CONTRAST_SD if settings.refine_contrast else 0.0
    if settings.halfsets:
        return [Model(halves[h], halves[1 - h], means[h], None, sd) for h in (0, 1)]
    everybody = np.sort(np.concatenate(halves))
    mean = np.asarray(np.mean(means, axis=0), dtype=np.float32)
    return [Model(everybody, everybody[:0], mean, None, sd)]


def climb(
    context: Context, models: list[Model], prior: Prior, plan: LevelPlan, progress: Progress
) -> tuple[list[Model], Prior]:
    """Fit the models at one level, renew prior and amplitudes; with poses to refine, in turns."""
    for turn in range(plan.pose_turns if context.poses else 1):
        name = f"level {plan.k_c} turn {turn + 1}"
        models, prior, moved = context.once(
            name,
            partial(_turn, context, models, prior, plan, turn, name, progress),
            ([_fitted(context, model, plan) for model in models], prior, 0.0),
        )
        if moved < _SETTLED_POSES:
            break
    return models, prior


def _fitted(context: Context, model: Model, plan: LevelPlan) -> Model:
    """What has the form of a model that was fitted at a level."""
    box, rank = level_box(plan.k_c, context.images.box), context.settings.columns
    columns = np.zeros((1 + rank, box, box, box), np.float32)
    return replace(model, columns=columns, factor=np.zeros((rank, rank)))


def _turn(
    context: Context,
    models: list[Model],
    prior: Prior,
    plan: LevelPlan,
    turn: int,
    name: str,
    progress: Progress,
) -> tuple[list[Model], Prior, float]:
    """Sweeps until they are not worth it, then prior and amplitudes, then poses; how far these moved.

    A turn of refinement starts from means of the current poses: poses cannot become better than the mean
    that they are compared with.
    """
    levels = [context.level(model.index, plan.k_c) for model in models]
    if context.poses is not None:
        models, prior = _with_new_means(models, levels, prior)
    fits = [_start(context, *each, prior) for each in zip(levels, models, strict=True)]
    moments = _sweep_until_settled(context, models, fits, plan, name, progress)
    models = [_rescaled(context, *each) for each in zip(models, fits, moments, strict=True)]
    prior, moved = _renewed(prior, fits, moments), 0.0
    if context.poses is not None:
        if context.settings.pose_search and turn == 0:
            _search(context, models, levels, progress)
        moved = _refine(context, models, fits, plan, turn, progress)
    return models, prior, moved


def _with_new_means(
    models: list[Model], levels: list[Level], prior: Prior
) -> tuple[list[Model], Prior]:
    """Models that start from means of the current poses, and the prior that these imply."""
    if len(models) == 2:
        means, precision = half_means(levels)
        prior = replace(prior, mean=np.append(precision, prior.mean[len(precision) :]))
    else:
        means = [crop_volume(MeanProblem(levels[0]).solve(prior.mean, 3), levels[0].images.box)]
    return [replace(m, mean=mean) for m, mean in zip(models, means, strict=True)], prior


def _search(context: Context, models: list[Model], levels: list[Level], progress: Progress) -> None:
    """A grid search at coarse levels, narrower the finer they are."""
    if levels[0].k_c > _FINEST_SEARCH:
        return
    assert context.poses is not None and context.settings.pose_search is not None
    share = min(1.0, _WIDEST_SEARCH / levels[0].k_c)
    width = share * np.deg2rad(context.settings.pose_search), share * _SEARCH_SHIFT
    with progress.step("Searching poses", sum(len(model.index) for model in models)) as step:
        for model, level in zip(models, levels, strict=True):
            assert model.columns is not None  # set by _rescaled
            search_poses(level, model.columns, context.poses, width, step)


def _refine(
    context: Context,
    models: list[Model],
    fits: list[ColumnSolver],
    plan: LevelPlan,
    turn: int,
    progress: Progress,
) -> float:
    """A few steps of every particle against its own model; mean square step taken."""
    poses, solver = context.poses, context.solver
    assert poses is not None and solver is not None
    total, count = 0.0, sum(len(model.index) for model in models)
    name = f"Poses, turn {turn + 1} of at most {plan.pose_turns}"
    with progress.step(name, count * solver.steps) as step:
        for model, fit in zip(models, fits, strict=True):
            assert model.columns is not None and model.factor is not None  # set by _rescaled
            excess = rotated_uncertainty(fit, model.factor)
            total += refine_poses(
                fit.level, model.columns, model.contrast_sd, excess, poses, solver, step
            )
        spread = np.rad2deg(poses.spread[0])
        step.note(f"input rotations off by {spread:.1f}° an axis")
    return total / len(models)


def _start(context: Context, level: Level, model: Model, prior: Prior) -> ColumnSolver:
    """The columns of the last level, or random ones, on the grid of this level."""
    mean = crop_volume(model.mean, level.box) * level.mask
    if model.columns is None:
        columns = _random_columns(level, prior, context.settings.columns, context.rng)
    else:
        columns = crop_volume(model.columns[1:], level.box)
    return make_column_solver(
        context.settings,
        level,
        np.concatenate([mean[None], columns]),
        prior,
        model.contrast_sd,
        split_batches(model.index, context.settings.batch_size, context.rng),
        context.poses.slack() if context.poses else None,
    )


def _random_columns(level: Level, prior: Prior, rank: int, rng: np.random.Generator) -> Float32:
    """Masked noise with a share of the prior's power."""
    power = level.expand(prior.columns) * np.float32(level.box**3)
    amplitude = (_START_AMPLITUDE / np.sqrt(power)).astype(np.float32)
    shape = (level.box,) * 3
    noise = (rng.standard_normal(shape).astype(np.float32) for _ in range(rank))
    return np.stack([level.mask * fourier_filter(n, amplitude) for n in noise])


def _sweep_until_settled(
    context: Context,
    models: list[Model],
    fits: list[ColumnSolver],
    plan: LevelPlan,
    name: str,
    progress: Progress,
) -> list[SweepStatistics]:
    """Sweep all models in step until the witnesses gain nothing more."""
    count = sum(len(model.index) for model in models)
    resolution = context.images.box * context.images.pixel_size_angstrom / plan.k_c
    title = f"Eigenvolumes to {resolution:.1f} Å"
    with progress.step(title, count * plan.most_sweeps) as step:

        def settled(sweep: int, statistics: list[SweepStatistics]) -> bool:
            held_out = _judge(models, fits, statistics)
            training = float(np.mean([s.log_likelihood for s in statistics]))
            step.note(f"sweep {sweep + 1}, held-out log-likelihood {held_out:.2f}")
            context.history.append(
                {"k_c": plan.k_c, "sweep": sweep, "training": training, "held_out": held_out}
            )
            judged = [record["held_out"] for record in context.history[-sweep - 1 :]]
            return context.settings.solver == "em" and has_settled(judged)

        return context.sweep(f"{name} sweeps", fits, plan.most_sweeps, step, settled)


def _judge(
    models: list[Model], fits: list[ColumnSolver], statistics: list[SweepStatistics]
) -> float:
    """Mean log-likelihood of a sample of each model's witnesses; of its own particles without any."""
    judged = []
    for model, fit, own in zip(models, fits, statistics, strict=True):
        sample = model.witnesses[:: max(1, len(model.witnesses) // _WITNESSES)]
        if len(sample) == 0:
            judged.append(own.log_likelihood)
            continue
        products = gram_matrices(fit.level, fit.columns, sample, fit.slack)
        judged.append(float(image_posterior(products, fit.contrast_sd).log_likelihood.mean()))
    return float(np.mean(judged))


def _rescaled(
    context: Context, model: Model, fit: ColumnSolver, statistics: SweepStatistics
) -> Model:
    """The fitted model with columns scaled to unit latent variance, by its witnesses if it has any."""
    if len(model.witnesses):
        sample = model.witnesses[:: -(-len(model.witnesses) // _MOST_SCALE_WITNESSES)]
        products = gram_matrices(fit.level, fit.columns, sample, fit.slack)
        scale = held_out_scale(products, fit.contrast_sd, _SCALE_STEPS)
        factor, contrast_sd = scale.factor, scale.contrast_sd
    else:
        factor = np.linalg.cholesky(statistics.latent_moment).astype(np.float64)
        refined = np.sqrt(statistics.contrast_variance)
        contrast_sd = float(refined) if context.settings.refine_contrast else 0.0
    columns = np.concatenate([fit.columns[:1], combined(fit.columns[1:], factor)])
    return replace(model, columns=columns, contrast_sd=contrast_sd, factor=factor)


def _renewed(prior: Prior, fits: list[ColumnSolver], statistics: list[SweepStatistics]) -> Prior:
    """The prior of the columns from the agreement of two models.

    One model has nothing to agree with and keeps the prior of the mean: its own power as a prior (empirical
    Bayes) collapsed the weaker columns to zero.
    """
    if len(fits) == 1:
        return prior
    k_c, shells = fits[0].level.k_c, fits[0].level.k_c + 1
    first, second = (fit.columns[1:] for fit in fits)
    agreement = np.diag(covariance_fsc(first, second, shells))
    information = np.mean([fit.level.shell_information for fit in fits], axis=0)
    explained = np.mean(
        [np.trace(s.latent_explained) / np.trace(s.latent_moment) for s in statistics]
    )
    precision = column_precision(agreement, information, float(explained))
    return replace(prior, columns=extend(precision, k_c, prior.mean))
