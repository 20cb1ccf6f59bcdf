"""The main job, as its abstract would tell it.

Particles are read once, whitened and re-centred. Two half-sets give two means, whose agreement is the
prior of the mean. Two low-rank models of the halves are fitted by incremental EM, band by band from coarse to
fine frequencies (frequency marching). In each band their agreement renews the prior of the eigenvolumes, and
the other half's particles set the amplitudes of each; where poses are refined, sweeps alternate with a few
steps of every particle's pose under the model of its own half. The merged halves start the final model, a
short run on all particles under that prior. Every particle is then placed in it, with its precision and
contrast.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from solvar.errors import InputError
from solvar.estimation import finite
from solvar.estimation.finite import require_finite, require_invertible
from solvar.estimation.poses import SOLVERS
from solvar.estimation.support import Support
from solvar.fitting.clock import StageClock
from solvar.fitting.context import Context
from solvar.fitting.final import finish
from solvar.fitting.marching import fit_band, with_new_means, with_new_models
from solvar.fitting.result import Fit
from solvar.fitting.schedule import schedule_bands
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import (
    load_mask,
    mean_form,
    read_images,
    start_state,
    with_kind_of_pose_errors,
    with_means,
    with_sign,
)
from solvar.fitting.state import FitState
from solvar.fitting.warm import compile_kernels
from solvar.fitting.workspace import NoWorkspace, Workspace
from solvar.parallel import OneProcess, Processes
from solvar.particles import ImageStack, ParticleSet, assign_halfsets
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
        Who share the particles; this process alone by default. Everyone gets the whole result.

    Raises
    ------
    InputError
        When mask, resolution, images or the number of particles do not allow the fit.
    """
    progress = harmless(progress)
    _require_enough(particles, settings)
    halved = assign_halfsets(particles, settings.seed)
    with ThreadTeam(settings.threads) as team:
        given = halved, settings, progress, team, workspace or NoWorkspace()
        with require_invertible(finite.FITTING):
            found = _fit(*given, processes or OneProcess())
    return replace(found, warnings=_warnings(particles, found))


def _fit(
    particles: ParticleSet,
    settings: FitSettings,
    progress: Progress,
    team: ThreadTeam,
    workspace: Workspace,
    processes: Processes,
) -> Fit:
    clock = StageClock()
    stack = ImageStack(particles, settings.downsample).brought_near_one()
    mask = load_mask(settings, stack)
    compile_kernels(settings, team, progress)

    with clock.stage("images"):
        scratch = settings.scratch or workspace.scratch
        placed = settings.model_copy(update={"scratch": scratch})
        images = read_images(particles, stack, mask, placed, progress, team, processes)
    noise = images.noise
    require_finite(
        "images", finite.IMAGES, noise_power=noise.power, CTF_power=images.store.ctf_power
    )
    parts = [np.flatnonzero(particles.halfset == h) for h in (1, 2)]
    solver = SOLVERS[settings.pose_solver] if settings.refine_pose else None
    context = Context(images, parts, Support.of(mask), settings, team, solver, workspace)
    state = start_state(particles, settings, noise, solver)

    with clock.stage("mean"), progress.step("Mean of each half", 1, "pair") as step:
        state = context.once("mean", partial(_begin, context), state, mean_form(context, state))
        require_finite("mean", finite.MEAN, means=state.means)
        step.advance()

    with clock.stage("eigenvolumes"):
        schedules = schedule_bands(context.k_max, settings)
        state = with_new_models(context, state)
        for schedule in schedules:
            state = fit_band(context, state, schedule, progress)
            columns = [model.columns for model in state.models]
            require_finite("eigenvolumes", finite.FITTING, columns=columns)
        state = _with_settled_poses(context, state)

    with clock.stage("final model and latents"):
        state, final = finish(context, state, schedules, progress)
    images.store.pixels.close()
    eigenvalues, posterior = final.model.eigenvalues, final.posterior
    require_finite("final model", finite.FITTING, eigenvalues=eigenvalues, **vars(posterior))

    refinement = None
    if state.poses is not None:
        particles, refinement = state.poses.report(particles, images)
    assert state.prior is not None
    return Fit(
        particles=particles,
        settings=settings,
        model=final.model,
        posterior=posterior,
        validation=final.validation,
        noise_power=state.noise.power,
        prior_precision=state.prior.columns,
        inverted=state.inverted,
        intensity_factor=stack.factor,
        pose_refinement=refinement,
        history=state.history,
        costs=clock.costs,
    )


def _begin(context: Context, state: FitState) -> FitState:
    """The means of the half-sets, and what they tell of sign and poses."""
    state = with_sign(context, with_means(context, state))
    return with_kind_of_pose_errors(context, state)


def _with_settled_poses(context: Context, state: FitState) -> FitState:
    """Poses without the drift that no image notices, and means that belong to them."""
    if state.poses is None:
        return state
    state = replace(state, poses=state.poses.without_drift())
    bands = [context.band(state, model.part, context.k_max) for model in state.models]
    return replace(state, means=with_new_means(state, bands).means)


def _warnings(particles: ParticleSet, found: Fit) -> list[str]:
    """What the user should know before believing the result."""
    warnings = []
    if found.intensity_factor != 1:
        warnings.append(
            f"Pixel values are far from 1, so images were multiplied by {found.intensity_factor:g}: "
            "volumes, eigenvalues and latents are in these units."
        )
    if found.inverted and found.settings.density == "auto":
        warnings.append(
            "The molecule is dark in the images; they were inverted. If volumes look like "
            "a hole in the solvent, run again with --density bright."
        )
    if found.settings.halfsets and not np.array_equal(particles.halfset, found.particles.halfset):
        warnings.append(
            "The input names no half-sets, so the particles were split at random. Poses that were "
            "refined together make the halves agree better than they should."
        )
    confirmed = found.validation is not None and found.validation.reliable.all()
    if found.settings.refine_pose and confirmed and found.settings.rank != "auto":
        warnings.append(
            "Every component is reliable, so there may be motion that this rank does not hold. Poses "
            "would follow it: run again with a higher --rank before believing small pose corrections."
        )
    if not found.settings.halfsets:
        warnings.append(
            "Without half-sets nothing tells signal from noise: eigenvalues are too large and no "
            "component is validated."
        )
    return warnings


def _require_enough(particles: ParticleSet, settings: FitSettings) -> None:
    """Refuse a rank that the particles cannot support."""
    if len(particles) < 8 * settings.columns:
        raise InputError(
            f"{len(particles)} particles cannot support rank {settings.columns}",
            file=particles.source,
            column="rank",
            remedy=f"use at least {8 * settings.columns} particles or a lower rank",
        )
