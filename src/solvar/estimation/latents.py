"""The final latents: every particle placed in the model, with the model's axes and scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.level import Level, Uncertainty
from solvar.estimation.model import Posterior
from solvar.estimation.slack import PoseSlack, with_slack
from solvar.estimation.sweep import ColumnSolver
from solvar.imaging.fourier import crop_volume
from solvar.progress import Step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_SMALLEST_EIGENVALUE = 1e-30


def principal_columns(columns: Float32) -> tuple[Float32, Float64, Float64]:
    """Principal axes of columns V (r, L, L, L).

    Returns
    -------
    eigenvolumes : (r, L, L, L) float32
        Orthonormal, by falling eigenvalue; each is signed so that its skewness is positive.
    eigenvalues : (r,) float64
    rotation : (r, r) float64
        R with V R = eigenvolumes · √eigenvalues.
    """
    flat = columns.reshape(len(columns), -1)
    # float64: the Gram matrix squares the condition number of V
    products = np.array([[np.vdot(a.astype(np.float64), b) for b in flat] for a in flat])
    value, rotation = np.linalg.eigh(products)
    value, rotation = np.maximum(value[::-1], 0), rotation[:, ::-1]
    axes = np.tensordot(rotation.T, flat, axes=1) / np.sqrt(np.maximum(value, 1e-30))[:, None]
    sign = np.where(np.sum(axes**3, axis=1) < 0, -1.0, 1.0)
    eigenvolumes = (axes * sign[:, None]).reshape(columns.shape)
    return eigenvolumes.astype(np.float32), value, rotation * sign


def combined(columns: Float32, factor: Float64) -> Float32:
    """Columns V·factor of V (r, L, L, L) and a factor (r, m), (m, L, L, L)."""
    return np.tensordot(factor.T.astype(np.float32), columns, axes=1)


def to_columns(eigenvolumes: Float32, eigenvalues: Float64) -> Float32:
    """Columns eigenvolume · √eigenvalue, (r, L, L, L)."""
    deviation = np.sqrt(np.maximum(eigenvalues, _SMALLEST_EIGENVALUE)).astype(np.float32)
    return eigenvolumes * deviation[:, None, None, None]


def place_particles(
    level: Level,
    mean: Float32,
    eigenvolumes: Float32,
    eigenvalues: Float64,
    contrast_sd: float,
    excess: Uncertainty | None,
    slack: PoseSlack | None,
    step: Step,
) -> Posterior:
    """Posterior of all particles of a level under the final model.

    Parameters
    ----------
    mean : (l, l, l)
        On the level's grid.
    eigenvolumes : (r, L, L, L)
        On the full grid.
    eigenvalues : (r,)
        Prior variances of the latents.
    contrast_sd : float
    excess : Uncertainty or None
        Of the columns [mean | √eigenvalue·eigenvolume], whose particles these are.
    slack : PoseSlack or None
        What the poses may be off by: it widens the error bars of the latents.
    """
    deviation = np.sqrt(np.maximum(eigenvalues, _SMALLEST_EIGENVALUE))
    scaled = crop_volume(to_columns(eigenvolumes, eigenvalues), level.box)
    columns = with_slack(np.concatenate([mean[None], scaled]), slack)
    prepared = level.projector.prepare(columns)
    count, rank = len(level.index), len(eigenvalues)
    z, precision = np.zeros((count, rank)), np.zeros((count, rank, rank))
    contrast, log_likelihood = np.zeros(count), np.zeros(count)
    for batch in level.batches():
        here = batch.place
        found, _ = level.posterior(prepared, batch, contrast_sd, excess, slack)
        z[here] = found.z * deviation
        known = np.linalg.inv(found.covariance)
        if excess is not None:
            # the excess undoes what an image's own noise did to its latents; it is no information
            power = batch.ctf_power[:, : level.k_c + 1]
            known -= found.contrast_square[:, None, None] * excess.of_columns(power)
        precision[here] = known / np.outer(deviation, deviation)
        contrast[here], log_likelihood[here] = found.contrast, found.log_likelihood
        step.advance(len(batch))
    return Posterior(*(level.sum(each) for each in (z, precision, contrast, log_likelihood)))


def rotated_uncertainty(fit: ColumnSolver, factor: Float64) -> Uncertainty:
    """Uncertainty of the columns V·factor of a fit whose columns are V."""
    found = fit.metric.uncertainty(fit.second)
    # V factor has covariance factorᵀ basis diag basisᵀ factor
    return Uncertainty(found.mean, found.columns, factor.T @ found.basis)
