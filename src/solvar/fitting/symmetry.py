"""Does the molecule have the symmetry that is said of its mean? What held-out images say."""

from __future__ import annotations

from solvar.estimation.held_out import is_beyond_chance
from solvar.estimation.mean import crossed_gains
from solvar.fitting.context import Context
from solvar.fitting.start import band_means
from solvar.fitting.state import FitState
from solvar.parallel import agreed

# shells at which a wrong symmetry shows
_SHELLS = 20


def symmetry_loss(context: Context, state: FitState) -> float:
    """What a mean with the symmetry explains less of held-out images than one without; 0 by chance."""
    if context.operations is None:
        return 0.0
    k_c = min(_SHELLS, context.k_max)
    parts = range(len(context.parts))
    bands = [context.band(state, part, k_c) for part in parts]
    kept = [band.restricted(context.one_of_each(band.index)) for band in bands]
    plain, symmetric = (
        crossed_gains(band_means([band.with_operations(each) for band in bands])[0], kept)
        for each in (None, context.operations)
    )
    lost = plain - symmetric
    if not agreed(bool(is_beyond_chance(lost[:, None])[0]), context.images.processes):
        return 0.0
    return float(lost.sum() / plain.sum())
