"""The main job, as its abstract would tell it.

Particles are read once, whitened and re-centred. Two half-sets give two means, whose agreement is the prior
of the mean. Where poses are refined, rounds come first: each particle finds its pose in a model that has
not seen it. Two low-rank models of the halves are fitted by incremental EM, band by band from coarse to
fine frequencies (frequency marching). In each band their agreement renews the prior of the eigenvolumes,
and the other half's particles set the amplitudes of each. The merged halves start the final model, a short
run on all particles under that prior. Every particle is then placed in it, with its precision and contrast.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from solvar.errors import InputError
from solvar.estimation import finite
from solvar.estimation.finite import require_finite, require_invertible
from solvar.estimation.poses import SOLVERS
from solvar.fitting.abinitio import knows_poses, summary, with_consensus
from solvar.fitting.bands import fit_band
from solvar.fitting.clock import StageClock
from solvar.fitting.context import Context
from solvar.fitting.final import Final, finish
from solvar.fitting.junk import monstrous_count, without_junk
from solvar.fitting.marching import with_new_models
from solvar.fitting.own_mask import in_widest_sphere, makes_mask, mask_words, with_own_mask
from solvar.fitting.poses import with_refined_poses
from solvar.fitting.result import Fit
from solvar.fitting.schedule import schedule_bands
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import (
    load_support,
    mean_form,
    start_state,
    whitened_images,
    with_kind_of_pose_errors,
    with_means,
    with_sign,
)
from solvar.fitting.state import FitState
from solvar.fitting.symmetry import symmetry_loss
from solvar.fitting.warm import compile_kernels, tell_device
from solvar.fitting.warnings import warnings_of
from solvar.fitting.workspace import NoWorkspace, Workspace
from solvar.parallel import OneProcess, Processes
from solvar.particles import ImageStack, ParticleSet, assign_halfsets, refuse_copied_stacks
from solvar.particles.expansion import spread_over
from solvar.progress import Progress, harmless
from solvar.threads import ThreadTeam


def fit(
    particles: ParticleSet,
    settings: FitSettings,
    progress: Progress | None = None,
    workspace: Workspace | None = None,
    processes: Processes | None = None,
) -> Fit:
    """Estimate mean, eigenvolumes and eigenvalues, and place every particle.

    Parameters
    ----------
    particles : ParticleSet
    settings : FitSettings
    progress : Progress, optional
        Silent by default.
    workspace : Workspace, optional
        Where to lay down what was reached, and to go on from; nothing is kept by default.
    processes : Processes, optional
        Who share the particles; this process alone by default. The first one gets the whole result, the
        others all but the posterior, which is that of no particle.

    Raises
    ------
    InputError
        When mask, resolution, images or the number of particles do not allow the fit.
    """
    progress = harmless(progress)
    _require_enough(particles, settings)
    refuse_copied_stacks(particles)
    spread = spread_over(particles, settings.point_group, settings.seed)
    halved = assign_halfsets(spread, settings.seed)
    with ThreadTeam(settings.threads) as team:
        given = halved, settings, progress, team, workspace or NoWorkspace()
        with require_invertible(finite.FITTING):
            found = _fit(*given, processes or OneProcess())
    return replace(found, warnings=warnings_of(particles, found))


def _fit(
    particles: ParticleSet,
    settings: FitSettings,
    progress: Progress,
    team: ThreadTeam,
    workspace: Workspace,
    processes: Processes,
) -> Fit:
    clock = StageClock()
    with clock.stage("images"):
        context, factor = _read(particles, settings, progress, team, workspace, processes)
        state = start_state(particles, settings, context.images, context.solver)
    if settings.ab_initio:
        with clock.stage("consensus"):
            state = with_consensus(context, state, progress)
    with clock.stage("mean"):
        state = _with_means(context, state, progress)
    if state.poses is not None and knows_poses(context, state):
        with clock.stage("poses"):
            state = with_refined_poses(context, state, progress)
    with clock.stage("eigenvolumes"):
        state = _with_eigenvolumes(context, state, progress)
    with clock.stage("final model and latents"):
        state, final = finish(context, state, progress)
    found = _everything(particles, context, state, final)
    return replace(found, intensity_factor=factor, costs=clock.costs)


def _read(
    particles: ParticleSet,
    settings: FitSettings,
    progress: Progress,
    team: ThreadTeam,
    workspace: Workspace,
    processes: Processes,
) -> tuple[Context, float]:
    """The resources of the fit, and what pixel values were multiplied by."""
    stack = ImageStack(particles, settings.downsample).brought_near_one()
    support = load_support(settings, stack)
    compile_kernels(settings, team, progress)
    tell_device(settings, progress)
    placed = settings.model_copy(update={"scratch": settings.scratch or workspace.scratch})
    images = whitened_images(particles, stack, support.mean, placed, progress, team, processes)
    noise, ctf = images.noise.power, images.store.ctf_power
    require_finite("images", finite.IMAGES, noise_power=noise, CTF_power=ctf)
    halves = [np.flatnonzero(particles.halfset == h) for h in (1, 2)]
    solver = SOLVERS[settings.pose_solver] if settings.refine_pose else None
    support = support.on(images.store.pixels.shelf)
    resources = particles, images, halves, support, settings, team
    return Context(*resources, solver, workspace), stack.factor


def _with_means(context: Context, state: FitState, progress: Progress) -> FitState:
    """The means of the half-sets, and what they tell of prior, sign and poses."""

    masked = makes_mask(context, state)

    def begin(state: FitState) -> FitState:
        if masked:
            state = in_widest_sphere(context, state)
        state = with_sign(context, with_means(context, state))
        if masked:
            state = with_own_mask(context, state)
        if not context.settings.ab_initio:
            # a search of every pose has judged them, and put noise where it looks like a particle
            state = without_junk(context, state)
        return with_kind_of_pose_errors(context, state)

    with progress.step("Mean of each half", 1, "pair") as step:
        like = mean_form(context, state)
        if masked:
            like = replace(like, mask=like.means[0])
        state = context.once("mean", begin, state, like)
        require_finite("mean", finite.MEAN, means=state.means)
        step.advance()
    if masked:
        mask, pixel_size = context.support(state).mean, context.images.store.pixel_size_angstrom
        progress.message(f"Mask: {mask_words(context.settings, mask, pixel_size)}")
    return state


def _with_eigenvolumes(context: Context, state: FitState, progress: Progress) -> FitState:
    """Models of the half-sets, from coarse to fine; with refined poses, means that belong to these."""
    state = with_new_models(context, state)
    for schedule in schedule_bands(context.k_max, context.settings, len(context.images)):
        state = fit_band(context, state, schedule, progress)
        columns = [model.columns for model in state.models]
        require_finite("eigenvolumes", finite.FITTING, columns=columns)
    return state


def _everything(particles: ParticleSet, context: Context, state: FitState, final: Final) -> Fit:
    """All that the fit found out."""
    loss = symmetry_loss(context, state)
    context.images.store.pixels.close()
    eigenvalues, posterior = final.model.eigenvalues, final.posterior
    require_finite("final model", finite.FITTING, eigenvalues=eigenvalues, **vars(posterior))
    refinement = None
    if state.poses is not None:
        particles, refinement = state.poses.report(particles, context.images)
        if context.operations is not None:
            refinement = refinement.beginning_near(particles.poses, context.operations)
    tilts = None
    if state.tilts is not None:
        particles, tilts = state.tilts.report(particles, context.images)
    if state.contrasts is not None:
        particles = state.contrasts.given_to(particles)
    assert state.prior is not None
    return Fit(
        particles=particles,
        settings=context.settings,
        model=final.model,
        posterior=posterior,
        validation=final.validation,
        noise_power=state.noise.power,
        corner_noise_power=context.images.noise.power,
        focus=context.given_support.all_focus if context.settings.focus_mask else None,
        block=final.block if context.settings.block_columns else None,
        prior_precision=state.prior.columns,
        inverted=state.inverted,
        normalisation=context.images.store.reference.normalisation,
        particle_probability=state.weight,
        monstrous=monstrous_count(context),
        pose_refinement=refinement,
        tilt_refinement=tilts,
        tilt_contrasts=state.contrasts,
        ab_initio=summary(state, context.settings.point_group) if state.starts else None,
        spatial_weight=state.spatial_weight,
        symmetry_loss=loss,
        history=state.history,
    )


def _require_enough(particles: ParticleSet, settings: FitSettings) -> None:
    """Refuse a rank that the particles cannot support, and poses that belong to copies of a particle."""
    if settings.refine_pose and particles.copy_of is not None:
        raise InputError(
            "is symmetry-expanded, and copies of a particle would part when poses are refined",
            file=particles.source,
            remedy="refine the poses before the expansion (solvar run --refine-pose --symmetry …)",
        )
    if settings.refine_tilts and particles.exposures.tilt is None:
        raise InputError(
            "is no tilt series, whose tilts --refine-tilts could move",
            file=particles.source,
            remedy="leave out --refine-tilts",
        )
    if settings.tilt_contrast and particles.exposures.tilt_image is None:
        raise InputError(
            "does not say which images were cut from one exposure of a tilt series, whose contrast "
            "--tilt-contrast could estimate",
            file=particles.source,
            remedy="leave out --tilt-contrast",
        )
    if len(particles.originals) < 8 * settings.columns:
        raise InputError(
            f"{len(particles.originals)} particles cannot support rank {settings.columns}",
            file=particles.source,
            column="rank",
            remedy=f"use at least {8 * settings.columns} particles or a lower rank",
        )
