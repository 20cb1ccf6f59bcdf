"""The main job, as its abstract would tell it.

Particles are read once, whitened and re-centred. Two half-sets give two means, whose agreement is the
prior of the mean. Two low-rank models of the halves climb from coarse to fine frequencies by incremental
EM; at each level their agreement renews the prior of the eigenvolumes, and each half's amplitudes are
judged by the other's particles; where poses are refined, each particle turns and moves uphill against its own
half's model between sweeps. The merged halves start the final model, a short run on all particles
under that prior. Every particle is then placed in it, with its precision and contrast.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from solvar.errors import InputError
from solvar.estimation import finite
from solvar.estimation.clock import StageClock
from solvar.estimation.context import Context
from solvar.estimation.final import finish
from solvar.estimation.finite import require_finite, require_invertible
from solvar.estimation.level import Prior
from solvar.estimation.march import climb, first_means, means_form, new_models
from solvar.estimation.model import Fit
from solvar.estimation.plan import expected
from solvar.estimation.poses import make_solver, start_poses
from solvar.estimation.schedule import plan_work
from solvar.estimation.settings import FitSettings
from solvar.estimation.start import half_means, load_mask, read_images
from solvar.estimation.warm import compile_kernels
from solvar.estimation.workspace import NoWorkspace, Workspace
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
    halves = [np.flatnonzero(particles.halfset == h) for h in (1, 2)]
    stack = ImageStack(particles, settings.downsample).brought_near_one()
    mask = load_mask(settings, stack)
    compile_kernels(settings, team, progress)
    progress.message(f"This run takes {expected(stack, settings, team, processes.size)}")

    with clock.stage("images"):
        images, noise = read_images(
            particles, stack, mask, settings, progress, team, workspace.scratch, processes
        )
    require_finite("images", finite.IMAGES, noise_power=noise, CTF_power=images.ctf_power)
    poses = start_poses(particles, settings) if settings.refine_pose else None
    solver = make_solver(settings.pose_solver, len(particles)) if settings.refine_pose else None
    rng = np.random.default_rng(settings.seed)
    context = Context(images, mask, settings, team, rng, poses, solver, workspace=workspace)

    with clock.stage("mean"), progress.step("Mean of each half", 1, "pair") as step:
        means, precision = context.once(
            "mean", partial(first_means, context, halves), means_form(images)
        )
        require_finite("mean", finite.MEAN, means=means, prior_precision=precision)
        step.advance()

    with clock.stage("eigenvolumes"):
        plans = plan_work(images.disc.k_c, settings)
        models, prior = new_models(halves, means, settings), Prior(precision, precision)
        for plan in plans:
            models, prior = climb(context, models, prior, plan, progress)
            require_finite("eigenvolumes", finite.FITTING, columns=[m.columns for m in models])
        if poses is not None:
            poses.remove_drift(images)
            means, _ = half_means([context.level(half, images.disc.k_c) for half in halves])

    with clock.stage("final model and latents"):
        model, posterior, validation = finish(context, models, means, prior, plans, progress)
    images.pixels.close()
    require_finite("final model", finite.FITTING, eigenvalues=model.eigenvalues, **vars(posterior))

    refinement = None
    if poses is not None:
        particles, refinement = poses.report(particles, images)
    return Fit(
        particles=particles,
        settings=settings,
        model=model,
        posterior=posterior,
        validation=validation,
        noise_power=noise,
        prior_precision=prior.columns,
        inverted=images.inverted,
        intensity_factor=stack.factor,
        pose_refinement=refinement,
        history=context.history,
        costs=clock.costs,
    )


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
