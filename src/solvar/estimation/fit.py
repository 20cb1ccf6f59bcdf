"""The main job, as its abstract would tell it.

Particles are read once, whitened and re-centred. Two half-sets give two means, whose agreement is the
prior of the mean. Two low-rank models of the halves climb from coarse to fine frequencies by incremental
EM; at each level their agreement renews the prior of the eigenvolumes, and each half's amplitudes are
judged by the other's particles. The merged halves start the final model, a short run on all particles
under that prior. Every particle is then placed in it, with its precision and contrast.
"""

from __future__ import annotations

import numpy as np

from solvar.errors import InputError
from solvar.estimation.clock import StageClock
from solvar.estimation.final import finish
from solvar.estimation.march import Context, climb, new_model
from solvar.estimation.level import Prior
from solvar.estimation.model import Fit
from solvar.estimation.schedule import plan_levels
from solvar.estimation.settings import FitSettings
from solvar.estimation.start import appears_inverted, half_means, inverted, load_mask, read_images
from solvar.estimation.warm import compile_kernels
from solvar.particles import ImageStack, ParticleSet, assign_halfsets
from solvar.progress import Progress, SilentProgress
from solvar.threads import ThreadTeam


def fit(
    particles: ParticleSet, settings: FitSettings, progress: Progress | None = None
) -> Fit:
    """Estimate mean, eigenvolumes and eigenvalues, and place every particle.

    Parameters
    ----------
    particles : ParticleSet
    settings : FitSettings
    progress : Progress, optional
        Silent by default.

    Raises
    ------
    InputError
        When mask, resolution, images or the number of particles do not allow the fit.
    """
    progress = progress or SilentProgress()
    clock, team = StageClock(), ThreadTeam(settings.threads)
    particles = assign_halfsets(particles, settings.seed)
    halves = [np.flatnonzero(particles.halfset == h) for h in (1, 2)]
    _require_enough(particles, settings)
    stack = ImageStack(particles, settings.downsample)
    mask = load_mask(settings, stack)
    compile_kernels(settings, team, progress)

    with clock.stage("images"):
        images, noise = read_images(particles, stack, mask, settings, progress, team)
    context = Context(images, mask, settings, team, np.random.default_rng(settings.seed))

    with clock.stage("mean"):
        means, precision = half_means([context.level(half, images.disc.k_c) for half in halves])
        dark = appears_inverted(sum(means), mask)
        invert = {"auto": dark, "bright": False, "dark": True}[settings.density]
        if invert:
            inverted(images)
            means = [-mean for mean in means]

    with clock.stage("eigenvolumes"):
        prior = Prior(precision, precision)
        history: list[dict[str, float]] = []
        everything = np.arange(len(particles))
        if settings.halfsets:
            models = [
                new_model(halves[h], halves[1 - h], means[h], settings) for h in (0, 1)
            ]
        else:
            nobody = everything[:0]
            models = [new_model(everything, nobody, np.mean(means, axis=0), settings)]
        plans = plan_levels(images.disc.k_c)
        for plan in plans:
            models, prior = climb(context, models, prior, plan, history, progress)

    with clock.stage("final model and latents"):
        model, posterior, validation = finish(context, models, means, prior, plans, progress)

    return Fit(
        particles=particles,
        settings=settings,
        model=model,
        posterior=posterior,
        validation=validation,
        noise_power=noise,
        prior_precision=prior.columns,
        inverted=invert,
        history=history,
        costs=clock.costs,
        warnings=[],
    )


def _require_enough(particles: ParticleSet, settings: FitSettings) -> None:
    """Refuse a rank that the particles cannot support."""
    if len(particles) < 8 * settings.rank:
        raise InputError(
            f"{len(particles)} particles cannot support rank {settings.rank}",
            file=particles.source,
            column="rank",
            remedy=f"use at least {8 * settings.rank} particles or a lower rank",
        )
