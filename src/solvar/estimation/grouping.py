"""Which images belong to one pose of a particle, and which poses to one particle.

A particle that was exposed several times has several images; one whose pose is uncertain has several
weighted poses. Gram matrices of the images of a pose add up before latents are integrated out, and what is
found at the poses of a particle is mixed by their posterior weights. Ordinary particles need no grouping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.likelihood import ImagePosterior

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Values = TypeVar("Values", bound=NDArray[np.floating])


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """K weighted poses of each of N particles.

    Attributes
    ----------
    rotation : (N, K, 3, 3) float64
    shift : (N, K, d) float64
        By how much images are moved beyond their first poses, box lengths.
    log_weight : (N, K) float64
        Log prior weight; -inf leaves a pose out, each particle keeps at least one.
    """

    rotation: Float64
    shift: Float64
    log_weight: Float64


@dataclass(frozen=True, eq=False)
class Grouping:
    """R images of Q poses of B particles, in their order.

    Attributes
    ----------
    pose : (R,) int64
        Pose of each image, rising.
    particle : (Q,) int64
        Place in the batch of the particle that has this pose, rising.
    log_weight : (Q,) float64
        Log prior weight of each pose of its particle.
    """

    pose: Int64
    particle: Int64
    log_weight: Float64

    @property
    def particle_of_image(self) -> Int64:
        """Place in the batch of the particle that each image shows, (R,)."""
        return self.particle[self.pose]

    @property
    def is_uncertain(self) -> bool:
        """Whether any particle has several poses."""
        return len(self.particle) > 0 and len(self.particle) > self.particle[-1] + 1

    @property
    def prior_weight(self) -> Float64:
        """Prior weight of each pose, (Q,); those of a particle add up to 1."""
        return self.weights(np.zeros(len(self.particle)))[0]

    @property
    def first_poses(self) -> Int64:
        """The first pose of each particle, (B,)."""
        return _starts(self.particle)

    def sum_by_pose(self, values: Values) -> Values:
        """Sums over the images (R, …) of each pose, (Q, …)."""
        return _sums(values, self.pose)

    def sum_by_particle(self, values: Values) -> Values:
        """Sums over the poses (Q, …) of each particle, (B, …)."""
        return _sums(values, self.particle)

    def weights(self, log_likelihood: Float64) -> tuple[Float64, Float64]:
        """Posterior weights (Q,) of the poses, and log evidence (B,), from log-likelihoods (Q,)."""
        log = log_likelihood + self.log_weight
        peak = np.maximum.reduceat(log, _starts(self.particle))
        weight = np.exp(log - peak[self.particle])
        total = self.sum_by_particle(weight)
        return weight / total[self.particle], peak + np.log(total)

    def likeliest(self, log_likelihood: Float64) -> Int64:
        """The likeliest pose of each particle, (B,), by prior weight and log-likelihoods (Q,)."""
        order = np.lexsort((-(log_likelihood + self.log_weight), self.particle))
        return order[_starts(self.particle[order])]

    def mixed(self, found: ImagePosterior) -> tuple[ImagePosterior, Float64]:
        """Posterior of the particles (B) from that at each of their poses (Q), and the weights (Q,)."""
        if not self.is_uncertain:
            return found, np.ones(len(self.particle))
        weight, evidence = self.weights(found.log_likelihood)

        def mean(values: Float64) -> Float64:
            shape = weight.reshape(-1, *[1] * (values.ndim - 1))
            return self.sum_by_particle(shape * values)

        z = mean(found.z)
        away = found.z - z[self.particle]
        spread = away[:, :, None] * away[:, None, :]
        mixture = ImagePosterior(
            first=mean(found.first),
            second=mean(found.second),
            z=z,
            covariance=mean(found.covariance + spread),
            contrast=mean(found.contrast),
            contrast_square=mean(found.contrast_square),
            log_likelihood=evidence,
        )
        return mixture, weight


def _starts(group: Int64) -> Int64:
    return np.flatnonzero(np.diff(group, prepend=-1))


def _sums(values: Values, group: Int64) -> Values:
    """Sums of neighbours that share a group; groups are 0, 1, 2 … without a gap."""
    if len(group) == 0 or len(group) == group[-1] + 1:
        return values
    return np.add.reduceat(values, _starts(group), axis=0)  # type: ignore[return-value]
