"""How far two half models agree: correlations, component resolution, and which components are real."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.heldout import (
    component_gains,
    gram_matrices,
    is_beyond_chance,
    transformed,
)
from solvar.estimation.latents import combined, principal_columns, to_columns
from solvar.estimation.level import Level
from solvar.estimation.march import Model
from solvar.estimation.model import HalfsetValidation
from solvar.estimation.prior import covariance_fsc, mean_fsc, resolution
from solvar.estimation.slack import PoseSlack
from solvar.imaging.fourier import crop_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_MOST_WITNESSES = 5000


def validate_halves(
    models: list[Model],
    means: list[Float32],
    reliable: NDArray[np.bool_],
    shells: int,
    eigenvolumes: Float32,
    eigenvalues: Float64,
    extent_angstrom: float,
) -> HalfsetValidation:
    """Compare two half models, and look at the final eigenvolumes through each.

    Parameters
    ----------
    models : two Model
        With columns on the full grid.
    means : two (L, L, L) float32
    reliable : (r,) bool
        As of `reliable_components`.
    shells : int
    eigenvolumes : (r, L, L, L) float32
    eigenvalues : (r,) float64
        Of the final model.
    extent_angstrom : float
        Box size × pixel size.
    """
    first, second = (model.columns[1:] for model in models if model.columns is not None)
    target = crop_volume(to_columns(eigenvolumes, eigenvalues), first.shape[-1])
    views = [_aligned(columns, target) for columns in (first, second)]
    component = np.stack([mean_fsc(a, b, shells) for a, b in zip(*views, strict=True)])
    agreement = [
        float(np.vdot(a, b) / np.sqrt(max(np.vdot(a, a) * np.vdot(b, b), 1e-60)))
        for a, b in zip(*views, strict=True)
    ]
    return HalfsetValidation(
        means=np.stack(means),
        mean_fsc=mean_fsc(means[0], means[1], shells),
        covariance_fsc=covariance_fsc(first, second, shells),
        component_fsc=component,
        component_resolution=np.array([resolution(c, extent_angstrom) for c in component]),
        component_resolution_half=np.array(
            [resolution(c, extent_angstrom, 0.5) for c in component]
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
    models: list[Model], levels: list[Level], slack: PoseSlack | None
) -> NDArray[np.bool_]:
    """Leading components that raise the likelihood of particles that no fit of them has seen."""
    gains = []
    for model, level in zip(models, levels, strict=True):
        assert model.columns is not None  # the march always leaves columns
        _, _, rotation = principal_columns(model.columns[1:])
        sample = model.witnesses[:: max(1, len(model.witnesses) // _MOST_WITNESSES)]
        products = transformed(gram_matrices(level, model.columns, sample, slack), rotation)
        gains.append(component_gains(products, model.contrast_sd))
    # components are ordered: one behind a failed one would only borrow its place
    return np.cumprod(is_beyond_chance(np.concatenate(gains))).astype(bool)


def held_out_eigenvalues(models: list[Model], box: int) -> Float64:
    """Eigenvalues as the particles that a model never saw judge them, mean over models, (r,)."""
    columns = [model.columns[1:] for model in models if model.columns is not None]
    return np.mean([principal_columns(crop_volume(v, box))[1] for v in columns], axis=0)
