"""How far two half models agree: correlations, component resolution, and which components are real."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, gram_matrices
from solvar.estimation.held_out import (
    component_gains,
    evenly_spread,
    is_beyond_chance,
    transformed,
)
from solvar.estimation.latents import PrincipalAxes, combined, principal_axes
from solvar.estimation.low_rank import to_columns
from solvar.estimation.pose_errors import PoseErrors
from solvar.fitting.context import Context
from solvar.fitting.result import HalfsetValidation
from solvar.fitting.state import FitState, PartModel
from solvar.imaging.fourier import crop_volume
from solvar.imaging.fsc import (
    TRUTH_THRESHOLD,
    covariance_fsc,
    fourier_shell_correlation,
    resolution,
)
from solvar.parallel import all_agreed

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST_HELD_OUT = 5000


def validate_halves(
    context: Context, state: FitState, axes: PrincipalAxes, reliable: NDArray[np.bool_]
) -> HalfsetValidation:
    """Compare two half models, and look at the final eigenvolumes through each.

    Parameters
    ----------
    context : Context
    state : FitState
        Of two models with columns.
    axes : PrincipalAxes
        Of the final model.
    reliable : (r,) bool
        As of `reliable_components`.
    """
    shells, extent = context.k_max + 1, context.images.store.extent_angstrom
    first, second = (model.columns[1:] for model in state.models if model.columns is not None)
    target = crop_volume(to_columns(axes.eigenvolumes, axes.eigenvalues), first.shape[-1])
    views = [_aligned(columns, target) for columns in (first, second)]
    pairs = list(zip(*views, strict=True))
    component = np.stack([fourier_shell_correlation(a, b, shells) for a, b in pairs])
    agreement = [
        float(np.vdot(a, b) / np.sqrt(max(np.vdot(a, a) * np.vdot(b, b), 1e-60))) for a, b in pairs
    ]
    return HalfsetValidation(
        means=np.stack(state.means),
        mean_fsc=fourier_shell_correlation(state.means[0], state.means[1], shells),
        covariance_fsc=covariance_fsc(first, second, shells),
        component_fsc=component,
        component_resolution=np.array([resolution(c, extent) for c in component]),
        component_resolution_half=np.array(
            [resolution(c, extent, TRUTH_THRESHOLD) for c in component]
        ),
        reliability=np.array(agreement),
        reliable=reliable,
    )


def _aligned(columns: Float32, target: Float32) -> Float32:
    """A half's columns rotated onto the final ones: orthogonal Procrustes, r(r-1)/2 numbers."""
    overlap = np.tensordot(target, columns, axes=((1, 2, 3), (1, 2, 3))).astype(np.float64)
    left, _, right = np.linalg.svd(overlap, full_matrices=False)
    return combined(columns, (left @ right).T)


def reliable_components(
    context: Context, state: FitState, pose_errors: PoseErrors | None
) -> NDArray[np.bool_]:
    """Leading components that raise the likelihood of particles that no fit of them has seen."""
    gains = []
    for model in state.models:
        assert model.columns is not None  # marching always leaves columns
        rotation = principal_axes(model.columns[1:]).rotation
        seen = ColumnModel(model.columns, model.contrast_sd, pose_errors=pose_errors)
        band = context.band(state, model.part, context.k_max)
        held_out = band.images.believed(context.held_out(model.part))
        sample = evenly_spread(held_out, _MOST_HELD_OUT)
        products = transformed(gram_matrices(BandModel(band, seen), sample), rotation)
        gains.append(component_gains(products, model.contrast_sd))
    # components are ordered: one behind a failed one would only borrow its place
    reliable = np.cumprod(is_beyond_chance(np.concatenate(gains))).astype(bool)
    return all_agreed(reliable, context.images.processes)


def held_out_eigenvalues(models: list[PartModel], box: int) -> Float64:
    """Eigenvalues at the scale that held-out particles set, mean over models, (r,)."""
    columns = [model.columns[1:] for model in models if model.columns is not None]
    return np.mean([principal_axes(crop_volume(v, box)).eigenvalues for v in columns], axis=0)
