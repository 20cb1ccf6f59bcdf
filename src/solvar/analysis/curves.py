"""The way that particles take along a component: for volumes and movies."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.density import log_density
from solvar.analysis.settings import NEIGHBOURS
from solvar.analysis.space import LatentSpace, latent_space
from solvar.analysis.states import deconvolved
from solvar.analysis.trajectories import EXTREMES, Field, extreme_ends, find_path
from solvar.results.run import Run
from solvar.threads import ThreadTeam

Float64 = NDArray[np.float64]


class Curves:
    """Ridges of the density of a run's latents, in all components that are told from noise.

    Parameters
    ----------
    run : Run
    team : ThreadTeam, optional
        Default: one thread.
    """

    def __init__(self, run: Run, team: ThreadTeam | None = None) -> None:
        self._run, self._team = run, team

    @cached_property
    def _space(self) -> LatentSpace:
        return latent_space(self._run)

    @cached_property
    def _field(self) -> Field:
        seen = self._space.likelihoods(self._run.particle_probability)
        return Field.of(deconvolved(seen, team=self._team), seen)

    @cached_property
    def _log_density(self) -> Float64:
        return log_density(self._space.whitened, NEIGHBOURS)

    def along(self, component: int, count: int) -> Float64:
        """Latents (n, r) on the ridge between the 5th and 95th percentile of a component.

        Along a component that is not told from noise, or is the only one that is, the others are 0.

        Parameters
        ----------
        component : int
            From 1.
        count : int
            Points, equidistant along the curve; a single one is its middle.
        """
        active = self._space.active
        if len(active) == 1 or not self._run.is_real(component - 1):
            return self._straight(component, count)
        axis = int(np.searchsorted(active, component - 1))
        points = self._space.whitened
        first, last = extreme_ends(self._field, self._log_density, axis)
        # a single point is the middle one of three
        wanted = count if count > 1 else 3
        found = find_path(self._field, points[first], points[last], wanted).points
        return self._space.to_latents(found if count > 1 else found[1:2])

    def _straight(self, component: int, count: int) -> Float64:
        space = latent_space(self._run, [component])
        low, high = np.percentile(space.whitened[:, 0], EXTREMES)
        place = np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])
        return space.to_latents(place[:, None])
