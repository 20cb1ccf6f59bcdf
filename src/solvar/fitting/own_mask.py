"""A mask around the molecule, where none was given and poses were found from the images alone.

Noise between the edge of a sphere and the molecule is most of what models hold that is not right, and poses
are found in models: without a mask their errors are half as large again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from solvar.fitting.abinitio import knows_poses
from solvar.fitting.context import Context
from solvar.fitting.start import with_means
from solvar.fitting.state import FitState
from solvar.imaging.density_mask import density_mask
from solvar.parallel import broadcast


def makes_mask(context: Context, state: FitState) -> bool:
    """Whether means are to tell where the molecule is."""
    settings = context.settings
    return settings.ab_initio and not settings.names_mask and knows_poses(context, state)


def with_own_mask(context: Context, state: FitState) -> FitState:
    """With a mask around what means show, which were made without one, and with means within it."""
    pixel, within = context.images.store.pixel_size_angstrom, context.given_support.mean
    first, second = state.means
    mask = density_mask(first, second, pixel, within)
    shared = broadcast(np.ascontiguousarray(mask).tobytes(), context.images.processes)
    mask = np.frombuffer(shared, np.float32).reshape(mask.shape)
    return with_means(context, replace(state, mask=mask))
