"""A mask around the molecule, where none was given.

Noise between the edge of a sphere and the molecule is most of what models hold that is not right, and poses
are found in models: without a mask their errors are half as large again. What a sphere cuts off is worse.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solvar.fitting.abinitio import knows_poses
from solvar.fitting.context import Context
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import with_means
from solvar.fitting.state import FitState
from solvar.imaging.density_mask import density_mask
from solvar.imaging.masks import default_mask, mask_diameter, share_of_box, widest_sphere
from solvar.parallel import of_first_process

Float32 = NDArray[np.float32]


def makes_mask(context: Context, state: FitState) -> bool:
    """Whether means are to tell where the molecule is."""
    return not context.settings.names_mask and knows_poses(context, state)


def in_widest_sphere(context: Context, state: FitState) -> FitState:
    """With the widest mask that the box holds, for means that tell where the molecule is."""
    return replace(state, mask=widest_sphere(context.images.box))


def with_own_mask(context: Context, state: FitState) -> FitState:
    """With a mask around what means in the widest sphere show, and with means within it.

    Where they show nothing it is the sphere of the settings.
    """
    assert state.mask is not None
    first, second = state.means
    mask = density_mask(first, second, context.images.store.pixel_size_angstrom, state.mask)
    if mask is None:
        mask = context.given_support.mean
    mask = of_first_process(mask, context.images.processes)
    return with_means(context, replace(state, mask=context.shelf.keep(mask)))


def mask_words(settings: FitSettings, mask: Float32, pixel_size: float) -> str:
    """Where the mask (L, L, L) of a fit came from, and how much of the box it holds."""
    share = share_of_box(mask)
    if settings.mask is not None:
        return f"{settings.mask}, {share}"
    sphere = default_mask(len(mask), pixel_size, settings.mask_diameter)
    # focus masks may have made it wider
    if not settings.names_mask and np.any(mask < sphere - 1e-3):
        return f"made from the half-maps, {share}"
    words = f"a sphere of {mask_diameter(sphere) * pixel_size:.0f} Å, {share}"
    return words if settings.names_mask else f"{words}; nothing stands out in the half-maps"
