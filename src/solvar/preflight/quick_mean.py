"""A mean of each half of some particles, at low resolution, and what it explains of the other half's images.

Means are made within the widest sphere, so that what lies outside a mask is seen too. What a mean gains is
measured on images that it has never seen, in log-likelihood: noise gains nothing, and the difference between
two ways to see the same images is free of what both share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band, band_box
from solvar.estimation.images import WhitenedImages
from solvar.estimation.mean import crossed_gains
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import band_means, finest_frequency, whitened_images
from solvar.imaging.masks import default_mask, resample_mask
from solvar.particles import ImageStack, ParticleSet, assign_halfsets
from solvar.preflight.pixels import strange_values
from solvar.progress import SilentProgress
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# a gain this many standard errors above 0 is none of chance
_STANDARD_ERRORS = 4.0


@dataclass(frozen=True, eq=False)
class QuickMean:
    """Means of two half-sets, and what each gains for the particles of the other.

    Attributes
    ----------
    bands : list of Band
        Of the half-sets, without images whose power stands out.
    means : list of (l, l, l) float32
        On the bands' grid.
    gain : (M,) float64
        Log-likelihood that the mean of the other half gains for each particle, those of the first half first.
    signal : float
        Mean power of the images beyond that of the noise, in units of the latter.
    """

    bands: list[Band]
    means: list[Float32]
    gain: Float64
    signal: float

    def __len__(self) -> int:
        return len(self.gain)

    @property
    def images(self) -> WhitenedImages:
        """Those of both halves."""
        return self.bands[0].images

    @property
    def resolution_angstrom(self) -> float:
        """The finest that is looked at."""
        return self.images.store.extent_angstrom / self.bands[0].k_c

    def repeated(self, rotation: Float64, shift: Float64 | None = None) -> QuickMean:
        """The same of images at rotations (N, 3, 3), moved by (N, 2) box lengths."""
        images = self.images
        shift = np.zeros_like(images.shift) if shift is None else shift
        return self._seeing(images.posed(rotation, shift))

    def tilted(self, tilt: Float64) -> QuickMean:
        """The same with other tilts (M, 3, 3) of the images."""
        store = replace(self.images.store, tilt=tilt)
        return self._seeing(replace(self.images, store=store))

    def _seeing(self, images: WhitenedImages) -> QuickMean:
        bands = [band.seeing(images) for band in self.bands]
        means, _ = band_means(bands)
        return QuickMean(bands, means, crossed_gains(means, bands), self.signal)

    def with_symmetry(self, operations: Float64) -> QuickMean:
        """The same with means that have the symmetry of rotations (n, 3, 3)."""
        bands = [band.with_operations(operations) for band in self.bands]
        means, _ = band_means(bands)
        return QuickMean(bands, means, crossed_gains(means, bands), self.signal)

    @cached_property
    def explains(self) -> bool:
        """Whether these means explain images that they have not seen, and do so by their orientations.

        Had rotations nothing to do with the images, those of other images of the same half would do as well.
        The mean is the same for both, so that its own noise decides nothing.
        """
        images, dealt = self.images, np.arange(len(self.images))
        rng = np.random.default_rng(0)
        for band in self.bands:
            dealt[band.index] = rng.permutation(band.index)
        other = images.posed(images.rotation[dealt], images.shift)
        chance = crossed_gains(self.means, [band.seeing(other) for band in self.bands])
        return is_beyond_chance(self.gain) and is_beyond_chance(self.gain - chance)

    def gain_within(self, mask: Float32) -> Float64:
        """What is gained by the part of these means within a mask (L, L, L)."""
        inside = resample_mask(mask, self.bands[0].box)
        return crossed_gains([inside * mean for mean in self.means], self.bands)


def quick_mean(
    particles: ParticleSet, mask: Float32, shells: int, settings: FitSettings, team: ThreadTeam
) -> QuickMean:
    """Read all these particles as a fit does, up to a low resolution, and make the means of their halves.

    Parameters
    ----------
    particles : ParticleSet
    mask : (L, L, L) float32
        Noise is measured outside.
    shells : int
        Up to which frequency, unless settings end before.
    settings : FitSettings
    team : ThreadTeam
    """
    particles = assign_halfsets(particles, settings.seed)
    stack = ImageStack(particles, settings.downsample).brought_near_one()
    extent = stack.box_size * stack.pixel_size_angstrom
    k_c = min(finest_frequency(stack, settings.resolution), shells)
    coarse = settings.model_copy(update={"resolution": extent / (k_c + 0.5), "lazy": False})
    images = whitened_images(particles, stack, mask, coarse, SilentProgress(), team)
    power = _power(images)
    usual = np.ones(len(images), np.bool_)
    usual[strange_values(power)] = False
    box = band_box(k_c, images.box)
    sphere = default_mask(box, extent / box)
    bands = [
        Band(images, np.flatnonzero(usual & (particles.halfset == half)), k_c, sphere,
             settings.projection, team)
        for half in (1, 2)
    ]  # fmt: skip
    means, _ = band_means(bands)
    return QuickMean(bands, means, crossed_gains(means, bands), float(power[usual].mean()) - 1)


def is_beyond_chance(gain: Float64) -> bool:
    """Whether the mean of gains (M,) of particles is above 0 by more than chance allows."""
    return bool(gain.mean() > _STANDARD_ERRORS * gain.std() / np.sqrt(len(gain)))


def _power(images: WhitenedImages) -> Float64:
    """Power of each particle's whitened pixels, in units of that of the noise, (N,)."""
    power = np.empty(len(images))
    for batch in images.batches(np.arange(len(images)), images.disc):
        # noise has power 1 a real number, two a pixel; the mean is none of structure
        square = (np.abs(batch.data[:, 1:]) ** 2).astype(np.float64).mean(axis=1) / 2
        images_each = batch.per_pose(np.ones_like(square))
        power[batch.index] = batch.per_pose(square) / images_each
    return power
