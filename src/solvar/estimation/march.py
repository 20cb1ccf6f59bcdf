"""The frequency march: models of disjoint sets of particles, from coarse to fine.

With half-sets there are two models that never see each other's images. What crosses between them is
the prior, from how well they agree, and the amplitudes and contrast spread of `heldout.py`. Without
half-sets there is one model, which keeps the prior of the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.cache import WhitenedImages
from solvar.estimation.heldout import gram_matrices, held_out_scale
from solvar.estimation.latents import combined, rotated_uncertainty
from solvar.estimation.level import Level, Prior
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.mean import MeanProblem, fourier_filter
from solvar.estimation.poses import PoseSolver, PoseState, refine_poses, search_poses
from solvar.estimation.prior import column_precision, covariance_fsc, extend
from solvar.estimation.schedule import LevelPlan, has_settled, split_batches
from solvar.estimation.settings import FitSettings
from solvar.estimation.solvers import make_column_solver
from solvar.estimation.start import half_means
from solvar.estimation.sweep import ColumnSolver, SweepStatistics
from solvar.imaging.fourier import crop_volume
from solvar.progress import Progress
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_START_CONTRAST_SD = 0.15
# Amplitude of the random start relative to the prior: it must not drown the mean at the first step
_START_AMPLITUDE = 0.3
_SCALE_STEPS = 8
_WITNESSES = 1000
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


@dataclass(frozen=True, eq=False)
class Context:
    """What every step of the march needs and none changes."""

    images: WhitenedImages
    mask: Float32
    settings: FitSettings
    team: ThreadTeam
    rng: np.random.Generator
    poses: PoseState | None = None
    solver: PoseSolver | None = None

    def level(self, index: Int64, k_c: int) -> Level:
        """The level `k_c` of the particles `index`."""
        return Level(self.images, index, k_c, self.mask, self.settings, self.team)


def new_models(halves: list[Int64], means: list[Float32], settings: FitSettings) -> list[Model]:
    """Models that know their mean alone: one a half, or one of everybody without half-sets."""
    sd = _START_CONTRAST_SD if settings.refine_contrast else 0.0
    if settings.halfsets:
        return [Model(halves[h], halves[1 - h], means[h], None, sd) for h in (0, 1)]
    everybody = np.sort(np.concatenate(halves))
    mean = np.asarray(np.mean(means, axis=0), dtype=np.float32)
    return [Model(everybody, everybody[:0], mean, None, sd)]


def climb(
    context: Context,
    models: list[Model],
    prior: Prior,
    plan: LevelPlan,
    history: list[dict[str, float]],
    progress: Progress,
) -> tuple[list[Model], Prior]:
    """Fit the models at one level, renew prior and amplitudes; with poses to refine, in turns.

    A turn of refinement starts from means of the current poses: poses cannot become better than the mean
    that they are compared with.
    """
    for turn in range(plan.pose_turns if context.poses else 1):
        levels = [context.level(model.index, plan.k_c) for model in models]
        if context.poses is not None:
            models, prior = _with_new_means(models, levels, prior)
        fits = [
            _start(context, level, model, prior)
            for level, model in zip(levels, models, strict=True)
        ]
        moments = _sweep_until_settled(context, models, fits, plan, history, progress)
        models = [_rescaled(context, *each) for each in zip(models, fits, moments, strict=True)]
        prior = _renewed(prior, fits, moments)
        if context.poses is not None:
            if context.settings.pose_search and turn == 0:
                _search(context, models, levels, progress)
            moved = _refine(context, models, fits, plan, turn, progress)
            if moved < _SETTLED_POSES:
                break
    return models, prior


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
    history: list[dict[str, float]],
    progress: Progress,
) -> list[SweepStatistics]:
    """Sweep all models in step until the witnesses gain nothing more."""
    count = sum(len(model.index) for model in models)
    resolution = context.images.box * context.images.pixel_size_angstrom / plan.k_c
    name = f"Eigenvolumes to {resolution:.1f} Å"
    judged: list[float] = []
    with progress.step(name, count * plan.most_sweeps) as step:
        for sweep in range(plan.most_sweeps):
            statistics = [
                fit.sweep(context.rng.permutation(len(fit.batches)), step) for fit in fits
            ]
            judged.append(_judge(models, fits, statistics))
            training = float(np.mean([s.log_likelihood for s in statistics]))
            step.note(f"sweep {sweep + 1}, held-out log-likelihood {judged[-1]:.2f}")
            history.append(
                {"k_c": plan.k_c, "sweep": sweep, "training": training, "held_out": judged[-1]}
            )
            if context.settings.solver == "em" and has_settled(judged):
                step.advance(count * (plan.most_sweeps - sweep - 1))
                break
    return statistics


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
        products = gram_matrices(fit.level, fit.columns, model.witnesses, fit.slack)
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
