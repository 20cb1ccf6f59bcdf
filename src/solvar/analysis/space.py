"""`LatentSpace`: the latents in the components that are analysed, in standard deviations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture import Likelihoods
from solvar.errors import InputError
from solvar.estimation.low_rank import prior_spread
from solvar.results.run import Run, check_component

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Particles per batch of small matrices: 10 × 10 float64 of this many is 50 MB.
_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class LatentSpace:
    """Latents of N particles and what is known of their errors.

    Attributes
    ----------
    z : (N, r) float64
        Posterior means in eigenvolume units.
    precision : (N, r, r) float
        Posterior precision of `z`.
    eigenvalues : (r,) float64
        Prior variance of each component.
    active : (m,) int64
        Zero-based components that are analysed.
    copy_of : (N,) int64 or None
        As of `ParticleSet`.
    """

    z: Float64
    precision: NDArray[np.floating]
    eigenvalues: Float64
    active: Int64
    copy_of: Int64 | None = None

    @property
    def rank(self) -> int:
        """Number of components r."""
        return self.z.shape[1]

    def __len__(self) -> int:
        return len(self.z)

    @cached_property
    def spread(self) -> Float64:
        """(r,) prior standard deviations, never 0."""
        return prior_spread(self.eigenvalues)

    @cached_property
    def whitened(self) -> Float64:
        """(N, m) latents of the active components in prior standard deviations."""
        return np.ascontiguousarray(self.z[:, self.active] / self.spread[self.active])

    def to_latents(self, points: Float64) -> Float64:
        """Latents (n, r) of whitened points (n, m).

        Components that are not analysed are 0, so that volumes at these points do not show noise.
        """
        latents = np.zeros((len(points), self.rank))
        latents[:, self.active] = points * self.spread[self.active]
        return latents

    def to_whitened(self, latents: Float64) -> Float64:
        """Whitened points (n, m) of latents (n, r)."""
        return latents[:, self.active] / self.spread[self.active]

    def covariance(self, components: Int64) -> Float64:
        """Marginal posterior covariance (N, k, k) of `components`, eigenvolume units squared."""
        found = np.empty((len(self), len(components), len(components)))
        row, column = np.ix_(components, components)
        for first in range(0, len(self), _BLOCK):
            part = slice(first, first + _BLOCK)
            inverse = np.linalg.inv(self.precision[part].astype(np.float64))
            found[part] = inverse[:, row, column]
        return found

    def whitened_covariance(self, components: Int64) -> Float64:
        """Marginal posterior covariance (N, k, k) of `components`, prior standard deviations squared."""
        scale = self.spread[components]
        return self.covariance(components) / np.outer(scale, scale)

    def likelihoods(self, weight: Float64, components: Int64 | None = None) -> Likelihoods:
        """What images say of the active or other components, in prior standard deviations.

        Parameters
        ----------
        weight : (N,)
            Probability that an image shows a particle.
        components : (k,) int64, optional
        """
        columns = self.active if components is None else components
        points = self.z[:, columns] / self.spread[columns]
        return Likelihoods.of(points, self.whitened_covariance(columns), weight, self.copy_of)


def latent_space(run: Run, components: Sequence[int] = ()) -> LatentSpace:
    """The latents of a run, in `components` (from 1), the reliable ones, or all if none is.

    Raises
    ------
    InputError
        If a component does not exist or the latents are not finite.
    """
    for component in components:
        check_component(run, component)
    if components:
        active = np.unique(np.asarray(components, np.int64)) - 1
    elif run.validation is not None and run.validation.reliable.any():
        active = np.flatnonzero(run.validation.reliable)
    else:
        active = np.arange(run.rank)
    posterior = run.posterior
    if not np.isfinite(posterior.z).all():
        raise InputError("holds latents that are not finite", file=run.folder / "particles.h5")
    eigenvalues = run.model.eigenvalues
    return LatentSpace(posterior.z, posterior.precision, eigenvalues, active, run.copy_of)
