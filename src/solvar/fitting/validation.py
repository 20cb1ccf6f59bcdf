"""How far two half models agree: correlations, component resolution, and which components are real."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.causes import PoseDoubt, displacement
from solvar.estimation.evidence import evidence, pose_doubt
from solvar.estimation.held_out import evenly_spread
from solvar.estimation.latents import PrincipalAxes, along, principal_axes
from solvar.estimation.local_variance import LocalVariance, local_variance
from solvar.estimation.low_rank import to_columns
from solvar.estimation.nuisances import HeldOutProducts, held_out_products, products_bytes
from solvar.fitting.abinitio import knows_poses
from solvar.fitting.context import Context
from solvar.fitting.result import Doubt, HalfsetValidation
from solvar.fitting.state import FitState, PartModel
from solvar.imaging.fourier import crop_volume, fourier_filter, low_passed, volume_shells
from solvar.imaging.fsc import (
    TRUTH_THRESHOLD,
    covariance_fsc,
    fourier_shell_correlation,
    resolution,
    shared_detail,
    shell_freedom,
)
from solvar.imaging.masks import mask_diameter
from solvar.parallel import all_agreed

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_MOST_HELD_OUT = 5000
_MOST_BYTES = 1 << 28
# particles of each half that tell how far poses are off
_FEW = 500
# where pose errors are looked for first, and the least that a component is tested up to
_COARSE, _COARSEST = 12, 6
_BEYOND = 1.5


@dataclass(frozen=True, eq=False)
class HalfAgreement:
    """What does not depend on axes of how two half models agree.

    Attributes
    ----------
    mean_fsc : (S,) float64
    covariance_fsc : (S, S) float64
    freedom : (S,) float64
        Independent coefficients of each shell within the support of the columns.
    freedom_of_blocks : (b, S) float64
        The same of each block of columns.
    """

    mean_fsc: Float64
    covariance_fsc: Float64
    freedom: Float64
    freedom_of_blocks: Float64

    @classmethod
    def of(cls, context: Context, state: FitState) -> HalfAgreement:
        """Of the two models of a state, which have columns."""
        shells = context.k_max + 1
        first, second = (model.columns[1:] for model in state.models if model.columns is not None)
        support = context.support(state).resampled(first.shape[-1])
        return cls(
            fourier_shell_correlation(state.means[0], state.means[1], shells),
            covariance_fsc(first, second, shells),
            shell_freedom(support.of_steps, shells),
            np.stack([shell_freedom(mask, shells) for mask in support.step_masks]),
        )


def validate_halves(
    context: Context, state: FitState, axes: PrincipalAxes, agreement: HalfAgreement, doubt: Doubt
) -> HalfsetValidation:
    """Look at the final eigenvolumes through each of two half models.

    Parameters
    ----------
    context : Context
    state : FitState
        Of two models with columns.
    axes : PrincipalAxes
        Of the final model.
    agreement : HalfAgreement
    doubt : Doubt
        As of `doubted`, of the same axes.
    """
    shells, extent = context.k_max + 1, context.images.store.extent_angstrom
    pairs = list(zip(*seen_by_halves(context, state, axes), strict=True))
    component = np.stack([fourier_shell_correlation(a, b, shells) for a, b in pairs])
    similarity = [
        float(np.vdot(a, b) / np.sqrt(max(np.vdot(a, a) * np.vdot(b, b), 1e-60))) for a, b in pairs
    ]
    freedom = agreement.freedom_of_blocks[axes.block]
    detail = [shared_detail(*each, extent) for each in zip(component, freedom, strict=True)]
    half = np.array([resolution(c, extent, TRUTH_THRESHOLD) for c in component])
    return HalfsetValidation(
        means=np.stack(state.means),
        mean_fsc=agreement.mean_fsc,
        covariance_fsc=agreement.covariance_fsc,
        component_fsc=component,
        component_resolution=np.array([each.resolution for each in detail]),
        component_resolution_half=half,
        reliability=np.array(similarity),
        reliable=doubt.evidence.real,
        component_resolution_range=np.array([[each.finest, each.coarsest] for each in detail]),
        doubt=doubt,
        change=_change(
            pairs, component, np.where(doubt.evidence.real, extent / half, 0), context.images.box
        ),
    )


def _change(
    pairs: list[tuple[Float32, Float32]], fsc: Float64, finest: Float64, box: int
) -> LocalVariance | None:
    """Where the molecule changes by its components.

    Parameters
    ----------
    pairs : list of two (l, l, l) float32
        Each component as the halves see it.
    fsc : (r, S)
        How well they agree.
    finest : (r,)
        The shell up to which they agree by one half at least; 0 for components that are left out.
    box : int
        Of the result.
    """
    shown = np.flatnonzero(finest).tolist()
    if not shown:
        return None
    shells = np.minimum(volume_shells(box), fsc.shape[1] - 1)

    def seen(volume: Float32, j: int) -> Float32:
        # the prior has drawn a shell of each half to 0 by what it lacks in agreement
        amplitude = (1 / np.clip(fsc[j], TRUTH_THRESHOLD, 1)).astype(np.float32)
        return low_passed(fourier_filter(crop_volume(volume, box), amplitude[shells]), finest[j])

    halves = ((seen(first, j), seen(second, j)) for j in shown for first, second in [pairs[j]])
    return local_variance(halves, box / finest.max())


def seen_by_halves(context: Context, state: FitState, axes: PrincipalAxes) -> list[Float32]:
    """The components of the final model as each half's columns have them, (r, l, l, l) each."""
    columns = [model.columns[1:] for model in state.models if model.columns is not None]
    scaled = to_columns(axes.eigenvolumes, axes.eigenvalues)
    target = crop_volume(scaled, columns[0].shape[-1])
    return [along(each, target, context.labels, axes.block) for each in columns]


def doubted(
    context: Context, state: FitState, axes: PrincipalAxes, agreement: HalfAgreement
) -> Doubt:
    """What each component explains of particles that no fit of it has seen, and what else could explain it.

    They are tested up to where the covariances of the halves agree, and somewhat beyond. Pose errors are
    taken to first order: where they are large that holds at low frequencies only, and the test stays there.
    """
    columns = [
        context.shelf.keep(np.concatenate([model.columns[:1], seen]))
        for model, seen in zip(state.models, seen_by_halves(context, state, axes), strict=True)
        if model.columns is not None
    ]
    k_c = min(_COARSE, context.k_max)
    few = _tested(context, state, [each[:1] for each in columns], k_c, _FEW)
    coarse = pose_doubt(few, team=context.team)
    k_c = min(
        _linear_frequency(coarse, columns[0][0], context.images.box, context.k_max),
        _shared_frequency(agreement, context.k_max),
    )
    halves = _tested(context, state, columns, k_c, _MOST_HELD_OUT)
    found = evidence(halves, context.team)
    poses = pose_doubt(halves, found.real, context.team)
    if not knows_poses(context, state):
        # halves that share poses agree on anything
        found = found.of_nothing()
    real = all_agreed(found.real, context.images.processes)
    store = context.images.store
    extent, pixel = store.extent_angstrom, store.pixel_size_angstrom
    edge = 0.5 * mask_diameter(context.support(state).mean)
    matter = poses.shows(edge, resolution(agreement.mean_fsc, extent) / pixel)
    return Doubt(replace(found, real=real), poses, extent / k_c, matter)


def _shared_frequency(agreement: HalfAgreement, k_max: int) -> int:
    """Up to which frequency the covariances of the halves agree, and half as much again."""
    # the root of a correlation of products is that of one
    fsc = np.sqrt(np.maximum(np.diag(agreement.covariance_fsc), 0))
    reached = shared_detail(fsc, agreement.freedom, 1.0).resolution
    least = min(_COARSE, k_max)
    if not np.isfinite(reached):
        return least
    return int(np.clip(_BEYOND / reached, least, k_max))


def _linear_frequency(poses: PoseDoubt, mean: Float32, box: int, k_max: int) -> int:
    """Up to which frequency the errors of poses move the molecule by less than a third of a wave."""
    axis = np.arange(len(mean)) - len(mean) // 2
    distance = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    power = mean.astype(np.float64) ** 2
    gyration = np.sqrt(np.vdot(distance, power) / power.sum()) * box / len(mean)
    moved = displacement(poses.most_degree, gyration, poses.most_pixel)
    return int(np.clip(box / (3 * max(moved, 1e-6)), min(_COARSEST, k_max), k_max))


def _tested(
    context: Context, state: FitState, columns: list[Float32], k_c: int, most: int
) -> list[HeldOutProducts]:
    """Products of components, nuisances and so many held-out particles of each half at most."""
    found = []
    for model, volumes in zip(state.models, columns, strict=True):
        band = context.band(state, model.part, k_c)
        fit = _MOST_BYTES // products_bytes(len(volumes) - 1)
        held_out = context.one_of_each(band.images.believed(context.held_out(model.part)))
        sample = evenly_spread(held_out, min(most, fit))
        rng = np.random.default_rng(context.settings.seed)
        cropped = crop_volume(volumes, band.box)
        found.append(held_out_products(band, cropped, sample, context.particles, rng))
    return found


def held_out_eigenvalues(models: list[PartModel], box: int, labels: Int64, block: Int64) -> Float64:
    """Eigenvalues at the scale that held-out particles set, mean over models, (r,).

    Parameters
    ----------
    models : list of PartModel
    box : int
        Of the result.
    labels : (r,) int64
        The block of each column of the models.
    block : (r,) int64
        Of each axis that an eigenvalue is asked for; the strongest of a block comes first.
    """
    columns = [model.columns[1:] for model in models if model.columns is not None]
    axes = [principal_axes(crop_volume(each, box), labels) for each in columns]
    found = np.zeros(len(block))
    for label in np.unique(block):
        own = [each.eigenvalues[each.block == label] for each in axes]
        found[block == label] = np.mean(own, axis=0)
    return found
