"""The images of a fit without the fit: read and whitened as the main job does, in memory."""

from __future__ import annotations

from dataclasses import replace

from solvar.estimation.images import WhitenedImages
from solvar.fitting import start
from solvar.fitting.settings import FitSettings
from solvar.particles import ImageStack, ParticleSet, assign_halfsets
from solvar.progress import Progress, harmless
from solvar.threads import ThreadTeam


def read_images(
    particles: ParticleSet,
    settings: FitSettings | None = None,
    *,
    progress: Progress | None = None,
) -> WhitenedImages:
    """Read images, whiten and re-centre them; no run folder is needed and none is made.

    Parameters
    ----------
    particles : ParticleSet
    settings : FitSettings, optional
        Those that say what is read: `downsample`, `resolution` (finest frequency), `mask` or
        `mask_diameter` (noise is measured outside), `seed`, `threads`, and `lazy`, `scratch`,
        `cache_precision` for images that do not fit into memory. Of `density` "dark" turns the sign
        around; a fit decides what "auto" means.
    progress : Progress, optional
        Silent by default.

    Returns
    -------
    WhitenedImages
        Of the N particles, in their order; of pixels that are far from 1 a multiple, as in a fit.

    Raises
    ------
    InputError
        When mask, resolution or images cannot be used.
    """
    settings = settings or FitSettings()
    halved = assign_halfsets(particles, settings.seed)
    stack = ImageStack(halved, settings.downsample).brought_near_one()
    mask = start.load_mask(settings, stack)
    with ThreadTeam(settings.threads) as team:
        images = start.whitened_images(halved, stack, mask, settings, harmless(progress), team)
    return replace(images, inverted=settings.density == "dark")
