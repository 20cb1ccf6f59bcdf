"""Does the molecule have the symmetry that is said of its mean? What held-out images say."""

from __future__ import annotations

from solvar.estimation.band import Band
from solvar.estimation.held_out import is_beyond_chance
from solvar.estimation.mean import crossed_gains
from solvar.fitting.context import Context
from solvar.fitting.start import band_means
from solvar.fitting.state import FitState
from solvar.parallel import agreed
from solvar.particles.expansion import spreading

# shells at which a wrong symmetry shows
_SHELLS = 20


def symmetry_loss(context: Context, state: FitState) -> float:
    """What a mean with the symmetry explains less of held-out images than one without; 0 by chance."""
    if context.operations is None:
        return 0.0
    bands = _at_first_poses(context, state)
    kept = [band.restricted(context.one_of_each(band.index)) for band in bands]
    plain, symmetric = (
        crossed_gains(band_means([band.with_operations(each) for band in bands])[0], kept)
        for each in (None, context.operations)
    )
    lost = plain - symmetric
    if not agreed(bool(is_beyond_chance(lost[:, None])[0]), context.images.processes):
        return 0.0
    return float(lost.sum() / plain.sum())


def _at_first_poses(context: Context, state: FitState) -> list[Band]:
    """The halves in one asymmetric unit: poses that are spread over all give any molecule the symmetry."""
    k_c, settings = min(_SHELLS, context.k_max), context.settings
    bands = [context.band(state, part, k_c) for part in range(len(context.parts))]
    if settings.ab_initio:
        return bands
    images = bands[0].images
    spread = spreading(context.particles, settings.point_group, settings.seed)
    images = images.posed(spread.transpose(0, 2, 1) @ images.rotation, images.shift)
    return [band.seeing(images) for band in bands]
