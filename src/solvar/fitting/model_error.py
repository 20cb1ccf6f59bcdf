"""What the errors of mean and eigenvolumes do to latents, told by two half models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.held_out import evenly_spread
from solvar.estimation.latents import inner_products, placed
from solvar.fitting.context import Context
from solvar.fitting.state import FitState
from solvar.imaging.fourier import crop_volume
from solvar.progress import Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# of a covariance from so many particles the variances are known to 5 %
_SAMPLE = 1000


def compared(context: Context) -> Int64:
    """Particles that are placed in both half models."""
    everybody = np.arange(len(context.images))
    return evenly_spread(context.one_of_each(context.images.believed(everybody)), _SAMPLE)


def latent_error(state: FitState, band: Band, eigenvolumes: Float32, step: Step) -> Float64:
    """Covariance that errors of the final model add to every particle's latents, (r, r), in their units.

    Both half models place the same particles. Noise of the images is the same twice and cancels, errors of
    the models do not: what they differ by has twice the variance of one half's errors, and these twice that
    of a model of all particles. Errors that the halves share do not show.

    Parameters
    ----------
    state : FitState
        Of two models with columns, on the grid of the band.
    band : Band
        Of the final model, of the particles that both place.
    eigenvolumes : (r, L, L, L) float32
        Of the final model; latents are coordinates along them.
    step : Step
        Told of every particle, twice.
    """
    errors = state.poses.errors() if state.poses else None
    onto = crop_volume(eigenvolumes, band.box)
    along = inner_products(onto, onto)
    seen_by = []
    for model in state.fitted_models:
        z = _latents(band, replace(model, pose_errors=errors), step)
        # coordinates of the half's mean and columns along the eigenvolumes, by least squares
        seen = np.linalg.solve(along, inner_products(onto, model.columns))
        seen_by.append(seen[:, 0] + z @ seen[:, 1:].T)
    apart = seen_by[0] - seen_by[1]
    return band.sum(apart.T @ apart) / (4 * len(band.index))


def _latents(band: Band, model: ColumnModel, step: Step) -> Float64:
    """Latents (M, r) of those of a band's particles that this process owns."""
    own = band.index[band.images.owned(band.index)]
    z = np.zeros((len(own), model.rank))
    for place, found in placed(BandModel(band, model), np.ones(model.rank), own):
        z[place] = found.z
        step.advance(len(place))
    return z
