"""What images of one kind usually look like outside the particle: how strong, and on what background.

Both are empirical Bayes: the spread that estimates have beyond what noise makes of them is true, and the
posterior mean of an image takes as much of its estimate as that share. What is not clearly beyond chance is 0
exactly. An image that is far from all others tells nothing of them, and of itself all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.background import Background
from solvar.imaging.fourier import HalfDisc

Bool = NDArray[np.bool_]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_STANDARD_ERRORS = 4.0
# A true spread below the error that one image's estimate has anyway is left: it adds less than half of
# what is uncertain in a few coefficients, and the halo of a molecule beyond its mask is no larger.
_LEAST_EXCESS = 1.0
# χ² with six degrees of freedom is beyond 100 once in 1e19 images, beyond half of it once in 1e8
FAR = 100.0
_FAR_STRENGTH, _FAR_DEVIATIONS = float(np.log(2)), 8.0
# a covariance of six modes needs a few times as many images
_FEWEST = 24
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Strength:
    """How strongly images were recorded.

    Attributes
    ----------
    level : float
        Usual noise, grey levels: what all images are brought to.
    trust : float
        Share of an image's deviation, on a logarithmic scale, that is its strength and not chance, 0 to 1.
    spread : float
        True standard deviation of the logarithm.
    far : float
        From this deviation on an image is far from the others, and all of it is taken for strength.

    Of images of several kinds all but the spread are (B,): see `of_each`.
    """

    level: float | Float64 = 1.0
    trust: float | Float64 = 0.0
    spread: float = 0.0
    far: float | Float64 = np.inf

    @classmethod
    def of_each(cls, kinds: tuple[Strength, ...], kind: Int64) -> Strength:
        """That of the kind of each of some images, (B,)."""
        if len(kinds) == 1:
            return kinds[0]
        values = np.array([(k.level, k.trust, k.far) for k in kinds])
        level, trust, far = values[kind].T
        return cls(level, trust, far=far)

    @classmethod
    def of(cls, spread: Float64, kind: Int64, kinds: int, least: float = 0.0) -> list[Strength]:
        """That of images whose noise was the same before they were recorded, within each kind.

        Levels are those of the kinds; by how much images deviate from them all kinds tell together.

        Parameters
        ----------
        spread : (N, 3) float64
            Of their noise, see `Background.fitted`.
        kind : (N,) int64
            0 to `kinds` - 1.
        kinds : int
        least : float
            True spread that has other reasons.
        """
        # nothing is known of an image that was masked
        seen = (spread > 0).all(axis=1)
        if not seen.any():
            return [cls()] * kinds
        log, kind = np.log(spread[seen]), kind[seen]
        middle = _of_kinds(np.median, log[:, 0], kind, kinds)
        usual = 1.4826 * float(np.median(np.abs(log[:, 0] - middle[kind])))
        far = max(_FAR_STRENGTH, _FAR_DEVIATIONS * usual)
        near = np.abs(log[:, 0] - middle[kind]) <= far
        log, kind = log[near], kind[near]
        centre = _of_kinds(np.mean, log, kind, kinds)
        # chance is not shared by parts of the background that do not overlap
        whole, one, other = (log - centre[kind]).T
        true, error = (one * other).mean(), (one * other).std() / np.sqrt(len(log))
        level, observed = np.exp(centre[:, 0]), float(np.mean(whole**2))
        chance = max(observed - true, 0.0)
        trust = spread_ = 0.0
        clear = max(_STANDARD_ERRORS * error, _LEAST_EXCESS * chance, least**2)
        if len(log) >= _FEWEST and true >= clear:
            trust, spread_ = min(1.0, float(true / observed)), float(np.sqrt(true))
        return [cls(float(each), trust, spread_, far) for each in level]

    def of_images(self, spread: Float64) -> Float64:
        """What to divide images of this noise (B,) by; 1 for those that stay as they are."""
        ratio = spread / self.level
        found = np.where(self.is_far(spread), ratio, ratio**self.trust)
        return np.where(spread > 0, found, 1.0)

    def is_far(self, spread: Float64) -> Bool:
        """Which images of this noise (B,) are far from all others."""
        ratio = np.where(spread > 0, spread, self.level) / self.level
        return np.asarray(np.abs(np.log(ratio)) > self.far)


@dataclass(frozen=True, eq=False)
class SlowBackground:
    """What the backgrounds of images of equal strength are like, p coefficients each.

    Attributes
    ----------
    mean : (p,) float64
        Of all images, 0 if it is not beyond chance.
    covariance : (p, p) float64
        True one, S; 0 in all directions in which it is not beyond chance.
    error : (p, p) float64
        What noise adds to the coefficients that are fitted to an image, E.
    power : (S,) float64
        Of this noise, in all shells.
    """

    mean: Float64
    covariance: Float64
    error: Float64
    power: Float64

    @classmethod
    def of(cls, coefficients: Float64, background: Background, power: Float64) -> SlowBackground:
        """That of images with these coefficients (N, p), in noise of this power (S,)."""
        error = background.error(power)
        root = np.linalg.cholesky(error)
        # noise alone has unit variance in these units
        unit = np.linalg.solve(root, coefficients.T).T
        modes = len(error)
        mean, true = np.median(unit, axis=0), np.zeros((modes, modes))
        scale = 1.4826 * np.median(np.abs(unit - mean), axis=0)
        total = np.diag(np.maximum(scale, 1.0) ** 2)
        kept = np.zeros(len(unit), bool)
        for turn in range(_ROUNDS):
            before, kept = kept, _distance(unit - mean, total) <= FAR
            if turn and np.array_equal(kept, before):
                break
            near = unit[kept]
            if len(near) < _FEWEST:
                return cls(np.zeros(modes), np.zeros_like(error), error, power)
            mean, true = (
                near.mean(axis=0),
                _beyond_chance(np.cov(near.T).reshape(modes, modes), len(near)),
            )
            total = np.eye(modes) + true
        chance = (modes + _STANDARD_ERRORS * np.sqrt(2 * modes)) / len(near)
        off = mean @ mean > _LEAST_EXCESS and mean @ np.linalg.solve(total, mean) > chance
        return cls(root @ mean * off, root @ true @ root.T, error, power)

    @property
    def is_flat(self) -> bool:
        """Whether images that are not far from the others stay as they are."""
        return not (self.mean.any() or self.covariance.any())

    @cached_property
    def gain(self) -> Float64:
        """K = S (S + E)⁻¹, (p, p): how much of what is fitted to an image is its background."""
        return np.asarray(np.linalg.solve(self.covariance + self.error, self.covariance).T)

    @cached_property
    def left(self) -> Float64:
        """S - K S, (p, p): posterior covariance of an image's background."""
        left = self.covariance - self.gain @ self.covariance
        return np.asarray((left + left.T) / 2)

    @cached_property
    def unit(self) -> Float64:
        """Brings deviations of images from the mean to unit covariance, (p, p)."""
        return np.linalg.inv(np.linalg.cholesky(self.covariance + self.error))

    def of_images(self, fitted: Float64) -> Float64:
        """Posterior means of the backgrounds that were fitted to usual images, (B, p)."""
        return np.asarray(self.mean + (fitted - self.mean) @ self.gain.T)

    def variance(self, background: Background, disc: HalfDisc, stark: bool) -> Float64:
        """Relative variance (n,) of noise in freed images: in usual ones, or in those that were far."""
        if stark:
            return background.variance(disc, self.power, np.eye(len(self.mean)), self.error)
        return background.variance(disc, self.power, self.gain, self.left)


def _of_kinds(
    function: Callable[..., Float64], values: Float64, kind: Int64, kinds: int
) -> Float64:
    """A function of the values (N, …) of each kind, (kinds, …); 0 where there are none."""
    found = np.zeros((kinds, *values.shape[1:]))
    for each in np.unique(kind):
        found[each] = function(values[kind == each], axis=0)
    return found


def _distance(off: Float64, covariance: Float64) -> Float64:
    """Squared Mahalanobis distances of deviations (N, p)."""
    return np.einsum("np,pn->n", off, np.linalg.solve(covariance, off.T))


def _beyond_chance(observed: Float64, count: int) -> Float64:
    """What a covariance (p, p) of `count` draws has beyond the unit matrix, in clear directions only."""
    value, axis = np.linalg.eigh(observed)
    # up to the bracket goes the largest eigenvalue of noise (Marchenko & Pastur 1967)
    limit = (1 + _LEAST_EXCESS) * (1 + np.sqrt(len(value) / count)) ** 2
    excess = np.where(value > limit, value - 1, 0.0)
    return (axis * excess) @ axis.T
