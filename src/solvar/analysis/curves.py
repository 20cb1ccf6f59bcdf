"""The way that particles take along a component: for volumes and movies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.density import log_density
from solvar.analysis.space import latent_space
from solvar.analysis.states import deconvolved
from solvar.analysis.trajectories import Field, extreme_ends, find_path
from solvar.results.run import Run

Float64 = NDArray[np.float64]

_NEIGHBOURS = 15
_ENDS = (5.0, 95.0)


def component_curves(run: Run, components: Sequence[int], count: int) -> list[Float64]:
    """Latents (n, r) on the ridge of the density between the 5th and 95th percentile of each component.

    The ridge is one of all components that are told from noise; along one that is not, the others are 0.

    Parameters
    ----------
    run : Run
    components : sequence of int
        From 1.
    count : int
        Points, equidistant along the curve; a single one is its middle.
    """
    space = latent_space(run)
    real = [c for c in components if _is_real(run, c)]
    if len(space.active) == 1 or not real:
        return [_straight(run, c, count) for c in components]
    points = space.whitened
    local = log_density(points, _NEIGHBOURS)
    seen = space.likelihoods(run.particle_probability)
    field = Field.of(deconvolved(seen), seen)

    def curve(component: int) -> Float64:
        axis = int(np.searchsorted(space.active, component - 1))
        first, last = extreme_ends(field, local, axis)
        found = find_path(field, points[first], points[last], max(count, 3)).points
        return space.to_latents(found if count > 1 else found[1:2])

    return [curve(c) if c in real else _straight(run, c, count) for c in components]


def _is_real(run: Run, component: int) -> bool:
    return run.validation is not None and bool(run.validation.reliable[component - 1])


def _straight(run: Run, component: int, count: int) -> Float64:
    space = latent_space(run, [component])
    low, high = np.percentile(space.whitened[:, 0], _ENDS)
    place = np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])
    return space.to_latents(place[:, None])
