"""What happens in a frequency band: models are fitted, then once more under the spatial prior they imply."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band, band_box
from solvar.estimation.latents import along
from solvar.estimation.log_likelihood import log_likelihood
from solvar.estimation.spatial_prior import LEAST, spatial_weight
from solvar.files import Shelf
from solvar.fitting.calibration import with_measured_noise, with_tilt_contrasts
from solvar.fitting.context import Context
from solvar.fitting.junk import weighed_again
from solvar.fitting.marching import fit_models, held_out_samples
from solvar.fitting.schedule import BandSchedule, under_spatial_prior
from solvar.fitting.state import FitState, PartModel
from solvar.imaging.masks import resample_mask
from solvar.parallel import agreed, of_first_process
from solvar.progress import Progress, Step

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def fit_band(
    context: Context, state: FitState, schedule: BandSchedule, progress: Progress
) -> FitState:
    """Fit the models in one band; renew priors and amplitudes, weights and noise."""
    name, has_prior = f"band {schedule.k_c}", context.settings.has_spatial_prior
    sweeps = schedule.most_sweeps
    if has_prior:
        sweeps += under_spatial_prior(schedule, context.k_max).most_sweeps

    def step(state: FitState) -> FitState:
        count = sum(len(context.members(model.part)) for model in state.models)
        title = f"Eigenvolumes to {context.images.store.extent_angstrom / schedule.k_c:.1f} Å"
        with progress.step(title, count * sweeps) as told:
            state, bands = fit_models(context, state, schedule, name, told)
            if has_prior:
                state, bands = _with_spatial_prior(context, state, bands, schedule, told)
        state = weighed_again(context, state)
        if state.contrasts is not None:
            state = with_tilt_contrasts(context, state, bands, state.fitted_models)
            bands = [band.seeing(context.seen(state)) for band in bands]
        return with_measured_noise(context, state, bands, state.fitted_models)

    return context.once(name, step, state, _fitted(context, state, schedule))


def _fitted(context: Context, state: FitState, schedule: BandSchedule) -> FitState:
    """What has the form of a state whose models were fitted in a band."""
    box, rank = band_box(schedule.k_c, context.images.box), context.settings.columns
    columns = np.zeros((1 + rank, box, box, box), np.float32)
    factor = np.zeros((rank, rank))
    models = [replace(model, columns=columns, factor=factor) for model in state.models]
    weight = _even(context) if context.settings.has_spatial_prior else None
    return replace(state, models=models, spatial_weight=weight)


def _even(context: Context) -> Float32:
    """A spatial prior that says nothing."""
    return np.ones((context.images.box,) * 3, np.float32)


def _with_spatial_prior(
    context: Context, state: FitState, bands: list[Band], schedule: BandSchedule, step: Step
) -> tuple[FitState, list[Band]]:
    """Models fitted again under the spatial prior that they imply, if held-out particles gain by it."""
    if state.spatial_weight is None:
        state = replace(state, spatial_weight=_even(context))
    first, second = (model.columns[1:] for model in state.fitted_models)
    block = context.labels
    pairs = ((along(first[own], second[own]), second[own]) for own in _members(block))
    weight = np.max([spatial_weight(*pair, schedule.k_c) for pair in pairs], axis=0)
    weight = np.maximum(resample_mask(weight, context.images.box), LEAST)
    weight = context.shelf.keep(of_first_process(weight, context.images.processes))
    # a few sweeps would not rid columns of the noise that is there already
    models = [_within(weight, model, context.shelf) for model in state.models]
    tried = replace(state, spatial_weight=weight, models=models)
    name = f"band {schedule.k_c} under the spatial prior"
    again = under_spatial_prior(schedule, context.k_max)
    tried, there = fit_models(context, tried, again, name, step)
    gain = _judged(context, tried, there) - _judged(context, state, bands)
    if agreed(bool(gain.mean() > 0), context.images.processes):
        return tried, there
    return state, bands


def _members(block: Int64) -> Iterator[Bool]:
    """The columns (r,) of each block."""
    return (block == label for label in np.unique(block))


def _within(weight: Float32, model: PartModel, shelf: Shelf) -> PartModel:
    """A model whose columns are no more at each place than their share of the weight."""
    assert model.columns is not None
    there = resample_mask(weight, model.columns.shape[-1])
    columns = np.concatenate([model.columns[:1], there * model.columns[1:]])
    return replace(model, columns=shelf.keep(columns))


def _judged(context: Context, state: FitState, bands: list[Band]) -> Float64:
    """Log-likelihood of particles that no model of a state has seen."""
    errors = state.poses.errors() if state.poses else None
    models = [replace(model, pose_errors=errors) for model in state.fitted_models]
    samples = held_out_samples(context, state)
    return np.concatenate(
        [log_likelihood(*each) for each in zip(bands, models, samples, strict=True)]
    )
