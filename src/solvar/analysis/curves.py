"""The way that particles take along one component: for volumes, movies and the viewer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.density import log_density
from solvar.analysis.space import LatentSpace, latent_space
from solvar.analysis.states import deconvolved
from solvar.analysis.trajectories import Field, extreme_ends, find_path
from solvar.results.run import Run

Float64 = NDArray[np.float64]

_NEIGHBOURS = 15
_ENDS = (5.0, 95.0)


def component_curve(run: Run, component: int, count: int) -> Float64:
    """Latents (n, r) on the ridge of the density between a component's 5th and 95th percentile.

    The ridge is one of all components that are told from noise; along one that is not, the others are 0.

    Parameters
    ----------
    run : Run
    component : int
        From 1.
    count : int
        Points, equidistant along the curve; a single one is its middle.
    """
    space = latent_space(run)
    place = np.flatnonzero(space.active == component - 1)
    if len(space.active) == 1 or not len(place) or not _is_real(run, component):
        return _straight(latent_space(run, [component]), count)
    points = space.whitened
    local = log_density(points, _NEIGHBOURS)
    seen = space.likelihoods(run.particle_probability)
    field = Field.of(deconvolved(seen), seen)
    first, last = extreme_ends(field, local, int(place[0]))
    curve = find_path(field, points[first], points[last], count if count > 1 else 3).points
    return space.to_latents(curve if count > 1 else curve[1:2])


def _is_real(run: Run, component: int) -> bool:
    return run.validation is not None and bool(run.validation.reliable[component - 1])


def _straight(space: LatentSpace, count: int) -> Float64:
    low, high = np.percentile(space.whitened[:, 0], _ENDS)
    place = np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])
    return space.to_latents(place[:, None])
