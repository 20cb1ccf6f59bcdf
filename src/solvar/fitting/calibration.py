"""What models tell of how images were taken: their noise, and the contrast of exposures of tilt series.

Noise is measured on what models leave of the images, in the place of the corners'.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.held_out import evenly_spread
from solvar.estimation.prior import Prior
from solvar.estimation.residual_noise import ResidualPower, renewed, residual_power
from solvar.estimation.tilt_contrast import told_of_contrasts
from solvar.fitting.context import Context
from solvar.fitting.state import FitState
from solvar.particles.exposure_order import series_of_exposures

Float64 = NDArray[np.float64]

# of each half, by its own model and by the other's: shells from the third on are known to 1 %
_SAMPLE = 300


def with_measured_noise(
    context: Context, state: FitState, bands: list[Band], models: list[ColumnModel]
) -> FitState:
    """With the noise that models leave of the images of both halves, and the prior in its units.

    Parameters
    ----------
    context : Context
    state : FitState
    bands, models : list
        Of each part of the particles.
    """
    groups = len(state.noise.power)
    seen: list[ResidualPower] = []
    for part, (band, model) in enumerate(zip(bands, models, strict=True)):
        prepared = BandModel(band, model)
        for index in (band.index, context.held_out(part if len(bands) > 1 else None)):
            if len(index):
                some = evenly_spread(context.one_of_each(band.images.believed(index)), _SAMPLE)
                seen.append(residual_power(prepared, some, groups))
    found = sum(seen[1:], start=seen[0])
    if found.is_chance:
        return state
    ratio = found.ratio()
    assert state.prior is not None
    images = np.bincount(context.images.store.noise_group, minlength=groups)
    whole = images @ ratio / images.sum()
    mean, columns = state.prior.mean.copy(), state.prior.columns.copy()
    mean[: len(whole)] /= whole
    columns[: len(whole)] /= whole
    return replace(state, noise=renewed(state.noise, ratio), prior=Prior(mean, columns))


def with_tilt_contrasts(
    context: Context, state: FitState, bands: list[Band], models: list[ColumnModel]
) -> FitState:
    """With the contrasts of exposures that models see, those of a half-set of the particles of the other one.

    Parameters
    ----------
    context : Context
    state : FitState
        Of known exposures.
    bands, models : list
        Of each part of the particles.
    """
    images = context.particles.exposures
    assert state.contrasts is not None and images.tilt_image is not None
    count = len(state.contrasts.value)
    series = series_of_exposures(images.particle, images.tilt_image, count)
    told = [
        told_of_contrasts(
            BandModel(band, model), context.held_out(part) if len(bands) > 1 else band.index, count
        )
        for part, (band, model) in enumerate(zip(bands, models, strict=True))
    ]
    contrasts = state.contrasts.renewed(sum(told[1:], start=told[0]), series)
    return replace(state, contrasts=contrasts)
