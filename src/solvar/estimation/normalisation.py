"""Grey levels without a meaning are taken out: background of each image, and how strongly it was recorded.

Programs leave images normalised, each by its own idea of the background, or raw. What images differ in
beyond what noise makes of such estimates is learned from a sample, and each image is freed from the posterior
mean of its own background and strength (`grey_levels.py`). Where images differ no more than by chance, as
those do that were normalised well, not a pixel changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.grey_levels import FAR, SlowBackground, Strength
from solvar.imaging.background import Background
from solvar.imaging.fourier import HalfDisc

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# by less than this the noise of images that were multiplied by CTFs differs with the defocus
_LEAST_SPREAD = 0.1


@dataclass(frozen=True, eq=False)
class Looked:
    """What a sample of N images shows outside the particle, as they are on disk.

    Attributes
    ----------
    group : (N,) int64
        Which of `NoiseGroups`.
    coefficients : (N, p) float64
        Of the background, see `Background.fitted`.
    spread : (N, 3) float64
        Root mean square of the rest, and in two halves of it.
    """

    group: Int64
    coefficients: Float64
    spread: Float64


@dataclass(frozen=True, eq=False)
class Pools:
    """Which groups of images tell of each other.

    Attributes
    ----------
    kind : (G,) int64
        Images of one kind (pixel size, box, premultiplied or not, exposure of a series) have one strength.
    pool : (G,) int64
        Groups of one pool have backgrounds of one distribution.
    taught : (P, G) bool
        Which groups tell of it.
    multiplied : tuple of K bool
        Kinds that were multiplied by their CTFs: their noise differs from image to image anyway.
    look : (G,) int64
        Groups of one pixel size and box, premultiplied or not, whatever their exposure.
    """

    kind: Int64
    pool: Int64
    taught: Bool
    multiplied: tuple[bool, ...]
    look: Int64


@dataclass(frozen=True, eq=False)
class Told:
    """What to free B images from.

    Attributes
    ----------
    strength : (B,) float64
        What to divide them by; 1 for those that stay.
    slow : (B, p) float64
        Background of what is then left; 0 for those that stay.
    stark : (B,) bool
        Whose background is far from all others.
    far : (B,) bool
        Whose background or strength is.
    """

    strength: Float64
    slow: Float64
    stark: Bool
    far: Bool


@dataclass(frozen=True, eq=False)
class Normalisation:
    """What images are freed from, as a sample of them told.

    Attributes
    ----------
    background : Background
    pools : Pools
    strength : tuple of Strength
        One a kind.
    slow : tuple of SlowBackground
        One a pool.
    far : (N,) bool
        Images of the sample that are far from the others.
    offset : float
        Root mean square of the backgrounds of the others, in units of the noise.
    """

    background: Background
    pools: Pools
    strength: tuple[Strength, ...]
    slow: tuple[SlowBackground, ...]
    far: Bool
    offset: float

    @classmethod
    def of(
        cls, background: Background, pools: Pools, looked: Looked, power: Float64
    ) -> Normalisation:
        """Learned from a sample of images.

        Parameters
        ----------
        background : Background
        pools : Pools
        looked : Looked
        power : (P, S) float64
            Of the noise in images of each pool, in all shells; where strengths differ, when they are equal.
        """
        kind = pools.kind[looked.group]
        strength = _strengths(looked.spread, kind, pools)
        divisor = Strength.of_each(strength, kind).of_images(looked.spread[:, 0])
        equal = looked.coefficients / divisor[:, None]
        members = [equal[groups[looked.group]] for groups in pools.taught]
        slow = tuple(
            SlowBackground.of(some, background, own)
            for some, own in zip(members, power, strict=True)
        )
        found = cls(background, pools, strength, slow, np.zeros(0, bool), 0.0)
        told = found.told(looked)
        level = looked.spread[:, 0] / divisor
        near = ~told.far
        noise = level**2 * background.window.sum(dtype=np.float64)
        share = np.sum(told.slow**2, axis=1) / noise
        offset = float(np.sqrt(share[near].mean())) if near.any() else 0.0
        return replace(found, far=told.far, offset=offset)

    @property
    def changes_strengths(self) -> bool:
        """Whether usual images are brought to one strength."""
        return any(each.trust > 0 for each in self.strength)

    def is_flat(self) -> Bool:
        """Of each group, (G,): whether usual images have no background."""
        return self._flat_pools[self.pools.pool]

    def is_nothing(self) -> bool:
        """Whether no image of the sample changes."""
        return not self.changes_strengths and bool(self.is_flat().all()) and not self.far.any()

    def agrees(self, other: Normalisation) -> bool:
        """Whether another one changes the same images in the same respects."""
        return (
            np.array_equal(self.far, other.far)
            and np.array_equal(self.is_flat(), other.is_flat())
            and [s.trust for s in self.strength] == [s.trust for s in other.strength]
        )

    def told(self, looked: Looked) -> Told:
        """What to free images from that look so."""
        kind, pool = self.pools.kind[looked.group], self.pools.pool[looked.group]
        usual = Strength.of_each(self.strength, kind)
        strength, far = usual.of_images(looked.spread[:, 0]), usual.is_far(looked.spread[:, 0])
        equal = looked.coefficients / strength[:, None]
        mean, unit = self._slow_units
        distance = np.einsum("bpq,bq->bp", unit[pool], equal - mean[pool])
        stark = np.sum(distance**2, axis=1) > FAR
        slow = np.zeros_like(equal)
        for each in np.unique(pool[~self._flat_pools[pool]]):
            own = pool == each
            slow[own] = self.slow[each].of_images(equal[own])
        slow[stark] = equal[stark]
        return Told(strength, slow, stark, far | stark)

    @cached_property
    def _slow_units(self) -> tuple[Float64, Float64]:
        """Mean (P, p) and `unit` (P, p, p) of the backgrounds of each pool."""
        mean, unit = zip(*((each.mean, each.unit) for each in self.slow), strict=True)
        return np.stack(mean), np.stack(unit)

    @cached_property
    def _flat_pools(self) -> Bool:
        return np.array([each.is_flat for each in self.slow])

    def apply(self, images: Float32, group: Int64) -> Bool:
        """Free images (B, L, L) of these groups (B,), in place; (B,) whose background was far."""
        told = self.told(Looked(group, *self.background.fitted(images)))
        scaled = np.flatnonzero(told.strength != 1)
        images[scaled] /= told.strength[scaled, None, None].astype(np.float32)
        slow = np.flatnonzero(told.slow.any(axis=1))
        if len(slow) == len(images):
            self.background.subtract(images, told.slow)
        elif len(slow):
            some = images[slow]
            self.background.subtract(some, told.slow[slow])
            images[slow] = some
        return told.stark

    def strength_of(self, images: Float32, group: Int64) -> Float64:
        """How strongly images (B, L, L) of groups (B,) were recorded, (B,); `apply` divides by it."""
        return self.told(Looked(group, *self.background.fitted(images))).strength

    def deviation(self, disc: HalfDisc) -> Float64:
        """By how much noise is to be believed larger at the pixels of a disc, (P, 2, n).

        In usual images, and in those whose background is far from all others. Where the sample holds no image
        that is far, one more in a thousand makes no difference.
        """
        kinds = (False, bool(self.far.any()))
        return np.sqrt(
            [[each.variance(self.background, disc, far) for far in kinds] for each in self.slow]
        )

    def free(self, images: Float32, group: Int64, deviation: Float64) -> Float64 | None:
        """Free images (B, L, L) of groups (B,), in place.

        Parameters
        ----------
        images : (B, L, L)
        group : (B,) int64
        deviation : (P, 2, n) float64
            As of `deviation`.

        Returns
        -------
        (B, n) float64 or None
            By how much noise is to be believed larger in these images; None for 1.
        """
        stark = self.apply(images, group)
        pool = self.pools.pool[group]
        if not (deviation != 1).any():
            return None
        return np.asarray(deviation[pool, stark.astype(np.int64)])

    def numbers(self) -> dict[str, float]:
        """What was taken out of the images, for the record."""
        return {
            "background": self.offset,
            "strength_percent": 100 * max(each.spread for each in self.strength),
            "far": int(self.far.sum()),
            "sample": len(self.far),
        }

    def sentence(self) -> str | None:
        """What was taken out of the images; None if nothing."""
        told = self.numbers()
        parts = list[str]()
        if not self.is_flat().all():
            size = f"{told['background']:.2g} times the noise"
            parts.append(f"have a background of {size} outside the particle, which was taken out")
        if self.changes_strengths:
            spread = f"{told['strength_percent']:.0f} %"
            parts.append(f"were recorded with strengths that vary by {spread}, and brought to one")
        text = f"Images {', and '.join(parts)}." if parts else ""
        if self.far.any():
            text += (
                f" {told['far']} of {told['sample']} images that were looked at differ from the others in "
                "background or strength far beyond chance, and were brought to what the others are like."
            )
        return text.strip() or None


def _strengths(spread: Float64, kind: Int64, pools: Pools) -> tuple[Strength, ...]:
    """Those of the kinds, of images of these kinds (N,); kinds of one look tell of each other."""
    found = [Strength()] * len(pools.multiplied)
    for look in np.unique(pools.look):
        kinds = np.unique(pools.kind[pools.look == look])
        own = np.isin(kind, kinds)
        least = _LEAST_SPREAD if pools.multiplied[kinds[0]] else 0.0
        number = np.searchsorted(kinds, kind[own])
        for k, each in zip(kinds, Strength.of(spread[own], number, len(kinds), least), strict=True):
            found[k] = each
    return tuple(found)
