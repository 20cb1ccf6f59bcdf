"""Frequency marching: models of disjoint sets of particles, from coarse to fine bands.

With half-sets there are two models that never see each other's images. What crosses between them is
the prior, from how well they agree, and the amplitudes and contrast spread of `estimation/held_out.py`.
Without half-sets there is one model, which keeps the prior of the mean.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.blocks import together
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, gram_matrices
from solvar.estimation.held_out import MOST_FOR_SCALE, evenly_spread, held_out_scale
from solvar.estimation.latents import combined
from solvar.estimation.prior import Prior, column_precision, extend
from solvar.estimation.solvers import ColumnSolver
from solvar.estimation.statistics import SweepStatistics
from solvar.fitting.context import Context
from solvar.fitting.schedule import BandSchedule, has_settled, has_settled_on_its_own, split_batches
from solvar.fitting.start import start_contrast_sd
from solvar.fitting.state import FitState, PartModel, Sweeping
from solvar.fitting.sweeps import StoppingRule, sweep
from solvar.imaging.fourier import crop_volume, fourier_filter
from solvar.imaging.fsc import covariance_fsc
from solvar.parallel import agreed
from solvar.progress import Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Amplitude of the random start relative to the prior: it must not drown the mean at the first step
_START_AMPLITUDE = 0.3
_SCALE_STEPS = 8
_HELD_OUT_SAMPLE = 1000


def with_new_models(context: Context, state: FitState) -> FitState:
    """Models that know their mean alone: one a half-set, or one of all particles without half-sets."""
    sd = start_contrast_sd(context.settings)
    if context.settings.halfsets:
        return replace(state, models=[PartModel(part, None, sd) for part in (0, 1)])
    mean = np.asarray(np.mean(state.means, axis=0), dtype=np.float32)
    return replace(state, means=[mean], models=[PartModel(None, None, sd)])


def fit_models(
    context: Context, state: FitState, schedule: BandSchedule, name: str, step: Step
) -> tuple[FitState, list[Band]]:
    """Sweep until held-out particles gain no more, then renew prior and amplitudes.

    Parameters
    ----------
    context : Context
    state : FitState
    schedule : BandSchedule
    name : str
        Of this fit, unlike any other.
    step : Step
        Told of every particle and sweep.
    """
    bands = [context.sweeping_band(state, m.part, schedule.k_c) for m in state.models]
    state, solvers = _start(context, state, bands)
    state, statistics = _sweep_until_settled(context, state, solvers, schedule, name, step)
    scaled = zip(state.models, solvers, statistics, strict=True)
    prior = _renewed(state, solvers, statistics)
    models = [_rescaled(context, *each) for each in scaled]
    return replace(state, models=models, prior=prior), bands


def _start(
    context: Context, state: FitState, bands: list[Band]
) -> tuple[FitState, list[ColumnSolver]]:
    """Solvers that start from the columns of the last band, or from random ones."""
    assert state.prior is not None
    rng, solvers = state.generator(), list[ColumnSolver]()
    errors = state.poses.errors() if state.poses else None
    for band, model, mean in zip(bands, state.models, state.means, strict=True):
        if model.columns is None:
            columns = _random_columns(band, state.prior, context.settings.columns, rng)
        else:
            columns = crop_volume(model.columns[1:], band.box)
        start = np.concatenate([crop_volume(mean, band.box)[None] * band.support.mean, columns])
        batches = split_batches(band.index, context.settings.batch_size, rng)
        whole = ColumnModel(start, model.contrast_sd, pose_errors=errors)
        solvers.append(context.column_solver(band, whole, state.prior, batches))
    return state.after(rng), solvers


def _random_columns(band: Band, prior: Prior, rank: int, rng: np.random.Generator) -> Float32:
    """Masked noise with a share of the prior's power."""
    power = band.expand(prior.columns) * np.float32(band.box**3)
    amplitude = (_START_AMPLITUDE / np.sqrt(power)).astype(np.float32)
    shape = (band.box,) * 3
    noise = (rng.standard_normal(shape).astype(np.float32) for _ in range(rank))
    return band.support.masked_columns(np.stack([fourier_filter(n, amplitude) for n in noise]))


def _sweep_until_settled(
    context: Context,
    state: FitState,
    solvers: list[ColumnSolver],
    schedule: BandSchedule,
    name: str,
    step: Step,
) -> tuple[FitState, list[SweepStatistics]]:
    """Sweep all models side by side until held-out particles gain nothing more."""
    samples = held_out_samples(context, state)

    def settled(now: Sweeping, before: Sweeping) -> tuple[bool, dict[str, float]]:
        likelihood = _held_out_likelihood(now)
        step.note(f"sweep {now.sweeps}, held-out log-likelihood {likelihood:.2f}")
        training = float(np.mean([each.log_likelihood for each in now.statistics]))
        record = {"k_c": schedule.k_c, "sweep": now.sweeps - 1, "training": training}
        may_end = context.settings.solver == "em" and now.sweeps > schedule.fewest_sweeps
        ended = may_end and _no_gain(before, now)
        return agreed(ended, context.images.processes), {**record, "held_out": likelihood}

    # after a single sweep there is nothing to decide
    rule = StoppingRule(samples, settled) if schedule.most_sweeps > 1 else None
    return sweep(context, state, f"{name} sweeps", solvers, schedule.most_sweeps, step, rule)


def held_out_samples(context: Context, state: FitState) -> list[Int64]:
    """Particles that judge each model of a state without having taken part in it."""
    held_out = [context.one_of_each(context.held_out(model.part)) for model in state.models]
    return [evenly_spread(each, _HELD_OUT_SAMPLE) for each in held_out]


def _held_out_likelihood(at: Sweeping) -> float:
    """Mean log-likelihood of held-out particles; of a model's own particles where none are."""
    pairs = zip(at.held_out, at.statistics, strict=True)
    return float(np.mean([h.mean() if len(h) else own.log_likelihood for h, own in pairs]))


def _no_gain(before: Sweeping, now: Sweeping) -> bool:
    """Whether a sweep was no gain to held-out particles; to a model's own particles where none are."""
    earlier, later = (np.concatenate(at.held_out) for at in (before, now))
    if len(later):
        return has_settled(earlier, later)
    return has_settled_on_its_own(_held_out_likelihood(before), _held_out_likelihood(now))


def _rescaled(
    context: Context, model: PartModel, solver: ColumnSolver, statistics: SweepStatistics
) -> PartModel:
    """The fitted model with columns scaled to unit latent variance, by held-out particles if any are."""
    held_out, fitted = context.held_out(model.part), solver.model
    free = together(context.labels)
    if len(held_out):
        held_out = solver.band.images.believed(held_out)
        sample = held_out[:: -(-len(held_out) // MOST_FOR_SCALE)]
        products = gram_matrices(BandModel(solver.band, fitted), sample)
        shared = free, context.images.processes, context.team
        scale = held_out_scale(products, fitted.contrast_sd, _SCALE_STEPS, *shared)
        factor, contrast_sd = scale.factor, scale.contrast_sd
    else:
        factor = np.linalg.cholesky(statistics.latent_moment * free).astype(np.float64)
        refined = np.sqrt(statistics.contrast_variance)
        contrast_sd = float(refined) if context.settings.refine_contrast else 0.0
    columns = np.concatenate([fitted.columns[:1], combined(fitted.columns[1:], factor)])
    return PartModel(model.part, context.shelf.keep(columns), contrast_sd, factor)


def _renewed(
    state: FitState, solvers: list[ColumnSolver], statistics: list[SweepStatistics]
) -> Prior:
    """The prior of the columns from the agreement of two models.

    One model has nothing to agree with and keeps the prior of the mean: its own power as a prior (empirical
    Bayes) collapsed the weaker columns to zero.
    """
    assert state.prior is not None
    if len(solvers) == 1:
        return state.prior
    k_c = solvers[0].band.k_c
    first, second = (solver.model.columns[1:] for solver in solvers)
    agreement = np.diag(covariance_fsc(first, second, k_c + 1))
    information = np.mean([solver.band.shell_information for solver in solvers], axis=0)
    explained = np.mean(
        [np.trace(s.latent_explained) / np.trace(s.latent_moment) for s in statistics]
    )
    precision = column_precision(agreement, information, float(explained))
    return replace(state.prior, columns=extend(precision, k_c, state.prior.mean))
