"""What a sample of images shows outside the particle: backgrounds, strengths and noise spectra.

Groups (`NoiseGroups`) of many images speak for themselves. Those with few share: their noise is drawn to that
of all images of their kind, by how many images they have against how much groups really differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.normalisation import Looked, Normalisation, Pools
from solvar.imaging.background import Background
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.noise import (
    background_powers,
    deconvolved,
    frequency_shells,
    ring_means,
    smearing,
    whole_plane,
)
from solvar.imaging.optics import Optics
from solvar.parallel import Processes
from solvar.particles import Exposures, ImageStack, ParticleSet
from solvar.particles.exposure_order import NoiseGroups
from solvar.particles.exposures import ranges

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The spectrum is a mean over rings: a few hundred images a group fix it to better than 1 %
_SAMPLE = 1000
# exposures of tilt series are many groups, of which this many images are enough in all, or this many of each
_SAMPLE_OF_ALL, _SAMPLE_OF_EXPOSURE = 2000, 50
_CHUNK = 100
# with so many images a group needs no other: they fix each ring to a few per cent
_MANY = 100
# images far from all others are left out of the spectrum while they are no more than these
_FEW_FAR = 0.1
# a ring of the periodogram that has lost more than this to the fits says nothing of the noise
_MOST_LOST = 0.5


class Corners:
    """A sample of the images of each group that shares its noise, outside the particle.

    Parameters
    ----------
    particles : ParticleSet
    stack : ImageStack
    background : Background
        Where outside is.
    seed : int
        Chooses the sample.
    processes : Processes
        Who share the reading.
    """

    def __init__(
        self,
        particles: ParticleSet,
        stack: ImageStack,
        background: Background,
        seed: int,
        processes: Processes,
    ) -> None:
        self._particles, self._stack = particles, stack
        self._background, self._processes = background, processes
        groups = particles.noise_groups
        self._optics = particles.optics.take(groups.optics)
        sample = _sample(particles.exposures, groups, seed)
        self._image, self._count = np.concatenate(sample), np.array([len(some) for some in sample])
        # exposures of a particle lie together: each is read once, for all groups
        alone = particles.exposures.tilt is None
        every = np.arange(len(groups))
        self._passes = np.split(every, every[1:]) if alone else [every]
        enough = _MANY if alone else _SAMPLE_OF_EXPOSURE
        self._multiplied = _multiplied(self._optics, len(groups))
        self.pools = _pools(self._optics, self._multiplied, groups.exposure, self._count, enough)
        self.looked = Looked(
            np.repeat(every, self._count),
            np.zeros((self._count.sum(), len(background.modes))),
            np.zeros((self._count.sum(), 3)),
        )

    def spectra(self, found: Normalisation | None) -> Spectra:
        """Mean periodograms of the sample, freed from what was found; the first time it is looked at."""
        groups, shells = len(self._count), int(frequency_shells(self._stack.box_size).max()) + 1
        measured, transfer = np.ones((groups, shells)), np.ones((groups, shells))
        freed = np.zeros(groups, bool) if found is None else ~found.is_flat()
        kept = np.ones(len(self._image), bool) if found is None else self._kept(found.far)
        count = np.bincount(self.looked.group[kept], minlength=groups)
        for together in self._passes:
            power, passed = self._summed(together, kept, found, freed)
            for place, g in enumerate(together):
                if count[g]:
                    whole = whole_plane(self._processes.sum(power[place]))
                    measured[g] = ring_means(whole / count[g])
                if count[g] and self._multiplied[g]:
                    transfer[g] = ring_means(self._processes.sum(passed[place]) / count[g])
        if found is None:
            shared = (
                self._processes.sum(self.looked.coefficients),
                self._processes.sum(self.looked.spread),
            )
            self.looked = Looked(self.looked.group, *shared)
        return Spectra(self._background, self.pools, self._count, measured, transfer, freed)

    def _kept(self, far: Bool) -> Bool:
        """Which images tell of their group's noise: not those far from the others, while they are rare."""
        share = np.bincount(self.looked.group, far, len(self._count)) / np.maximum(self._count, 1)
        return ~far | (share > _FEW_FAR)[self.looked.group]

    def _summed(
        self, groups: Int64, kept: Bool, found: Normalisation | None, freed: Bool
    ) -> tuple[Float64, Float64]:
        """Sums over this process's part of samples: periodograms (g, L, L//2 + 1), and C² (g, L, L)."""
        box = self._stack.box_size
        power = np.zeros((len(groups), box, box // 2 + 1))
        passed = np.zeros((len(groups) * self._multiplied[groups].any(), box, box))
        first = np.cumsum(self._count) - self._count
        places = ranges(first[groups], self._count[groups])
        own = places[np.argsort(self._image[places], kind="stable")]
        own = own[self._processes.rank :: self._processes.size]
        own = own[kept[own]]
        for start in range(0, len(own), _CHUNK):
            part = own[start : start + _CHUNK]
            images, group = self._stack.read(self._image[part]), self.looked.group[part]
            if found is None:
                self._look(images, part)
            else:
                found.apply(images, group)
            if (some := freed[group]).any():
                # whole fits: what they take from the spectrum is known
                left = images[some]
                self._background.subtract(left, self._background.fitted(left)[0])
                images[some] = left
            _add(power, background_powers(images, self._background.window), group - groups[0])
            if (some := self._multiplied[group]).any():
                squares = _ctf_squares(self._particles, self._stack, self._image[part[some]])
                _add(passed, squares, group[some] - groups[0])
        return power, passed

    def _look(self, images: Float32, places: Int64) -> None:
        seen = self._background.fitted(images)
        self.looked.coefficients[places], self.looked.spread[places] = seen


@dataclass(frozen=True, eq=False)
class Spectra:
    """Ring means of mean periodograms of windowed corners, (G, S) a group and shell.

    Attributes
    ----------
    background : Background
    pools : Pools
    count : (G,) int64
        Images in the sample.
    measured : (G, S) float64
    transfer : (G, S) float64
        Mean C² where images were multiplied by it, else 1.
    freed : (G,) bool
        Groups whose images are without all that was fitted to their background.
    """

    background: Background
    pools: Pools
    count: Int64
    measured: Float64
    transfer: Float64
    freed: Bool

    def of_groups(self) -> Float64:
        """Noise power of each group, before images were multiplied by a CTF, in all shells, (G, S)."""
        power = np.ones_like(self.measured)
        for g in np.flatnonzero(self.count):
            power[g] = self._power(*self._drawn(int(g)), bool(self.freed[g]))
        return power

    def of_pools(self) -> Float64:
        """Noise power in the images of each pool as they are, in all shells, (P, S)."""
        power = np.ones((len(self.pools.taught), self.measured.shape[1]))
        for p, groups in enumerate(self.pools.taught):
            freed = bool(self.freed[np.flatnonzero(self.pools.pool == p)[0]])
            weight = self.count * groups * (self.freed == freed)
            if weight.any():
                measured, transfer = self._mean(weight)
                power[p] = transfer * self._power(measured, transfer, freed)
        return power

    def _mean(self, weight: Float64) -> tuple[Float64, Float64]:
        """Periodogram and transfer (S,) of groups with these weights (G,)."""
        if np.count_nonzero(weight) == 1:  # to the last bit
            only = int(np.flatnonzero(weight)[0])
            return self.measured[only], self.transfer[only]
        weight = weight / weight.sum()
        return weight @ self.measured, weight @ self.transfer

    def _drawn(self, group: int) -> tuple[Float64, Float64]:
        """Periodogram and transfer (S,) of a group, drawn to those of its look if it has few images."""
        own = self.measured[group], self.transfer[group]
        usual = None
        if self.count[group] < _MANY:
            usual = self._usual.get((int(self.pools.look[group]), bool(self.freed[group])))
        if usual is None:
            return own
        whole, differ = usual
        trust = differ / (differ + self._chance / self.count[group])
        drawn = [all_ + trust * (mine - all_) for all_, mine in zip(whole, own, strict=True)]
        return drawn[0], drawn[1]

    @cached_property
    def _usual(self) -> dict[tuple[int, bool], tuple[tuple[Float64, Float64], float]]:
        """Mean periodogram and transfer (S,) of groups of one look, and how much they truly differ.

        By look and whether they were freed; relative variance of the periodograms beyond chance. None of
        groups that are alone.
        """
        found = {}
        for look, freed in {*zip(self.pools.look.tolist(), self.freed.tolist(), strict=True)}:
            weight = self.count * ((self.pools.look == look) & (self.freed == freed))
            if np.count_nonzero(weight) < 2:
                continue
            whole = self._mean(weight)
            # how much the periodogram of a group scatters about its mean by chance, in parts of it
            chance = self._chance / self.count[weight > 0, None]
            left = 1 - (weight[weight > 0] / weight.sum())[:, None]
            scatter = (self.measured[weight > 0] / whole[0] - 1) ** 2
            differ = np.sum((scatter - left * chance) / self._chance) / np.sum(left / self._chance)
            found[look, freed] = whole, max(float(differ), 0.0)
        return found

    @cached_property
    def _chance(self) -> Float64:
        """Relative variance of the ring means of the periodogram of one image, (S,)."""
        window = self.background.window.astype(np.float64) ** 2
        pixels = np.bincount(frequency_shells(self.background.box).ravel())
        # half of the pixels are the others' conjugates, and the window makes neighbours alike
        independent = pixels / 2 * window.sum() ** 2 / (window.size * np.sum(window**2))
        return 1 / np.maximum(independent, 1.0)

    def _power(self, measured: Float64, transfer: Float64, freed: bool) -> Float64:
        """Noise power (S,) of a mean periodogram."""
        passed = transfer if (transfer != 1).any() else None
        shells = len(measured)
        if freed:
            left = np.maximum(self._smear - self._lost, 0.0)
            silent = np.flatnonzero(left.sum(axis=1) < (1 - _MOST_LOST) * self._smear.sum(axis=1))
            # where hardly a ring is left of tiny corners, they are not trusted to be better than that
            first = min(int(silent.max(initial=1)) + 1, shells // 2)
            return deconvolved(measured, left, shells, passed, first)
        return deconvolved(measured, self._smear, shells, passed)

    @cached_property
    def _smear(self) -> Float64:
        return smearing(self.background.window)

    @cached_property
    def _lost(self) -> Float64:
        return self.background.lost_power()


def _sample(exposures: Exposures, groups: NoiseGroups, seed: int) -> list[Int64]:
    """Positions of some images of each group, rising; of exposures those of the same particles."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(groups.of_image == g) for g in range(len(groups))]
    if exposures.tilt is None or len(groups) == 1:
        return [np.sort(rng.permutation(m)[:_SAMPLE]) if len(m) else m for m in members]
    most = min(_SAMPLE, max(_SAMPLE_OF_EXPOSURE, _SAMPLE_OF_ALL // len(groups)))
    rank = rng.permutation(int(exposures.particle[-1]) + 1)[exposures.particle]
    return [np.sort(m[np.argsort(rank[m], kind="stable")[:most]]) for m in members]


def _multiplied(optics: Optics, groups: int) -> Bool:
    """Whether images of each group were multiplied by their CTFs, (G,)."""
    return np.zeros(groups, bool) if optics.premultiplied is None else optics.premultiplied


def _pools(optics: Optics, multiplied: Bool, exposure: Int64, count: Int64, enough: int) -> Pools:
    """Groups with these constants and numbers of their exposures, `count` (G,) images of each looked at."""
    looks = np.stack([optics.pixel_size_angstrom, optics.box_size, multiplied], axis=1)
    rows, look = _kinds(looks)
    pool, taught = np.zeros(len(count), np.int64), list[Bool]()
    for k in range(len(rows)):
        alike = look == k
        alone = np.count_nonzero(count * alike) == 1
        many = alike & ((count >= enough) | alone & (count > 0))
        for g in np.flatnonzero(many):
            pool[g] = len(taught)
            taught.append(np.arange(len(count)) == g)
        if (alike & ~many).any():
            pool[alike & ~many] = len(taught)
            taught.append(alike)
    # what a later exposure lets through is weaker, and no matter of how it was recorded
    rows, kind = _kinds(np.column_stack([looks, exposure]))
    return Pools(kind, pool, np.stack(taught), tuple(bool(m) for m in rows[:, 2]), look)


def _kinds(looks: Float64) -> tuple[Float64, Int64]:
    """The distinct rows, and which of them each row (G, …) is."""
    rows, kind = np.unique(looks, axis=0, return_inverse=True)
    return rows, kind.reshape(-1).astype(np.int64)


def _ctf_squares(particles: ParticleSet, stack: ImageStack, images: Int64) -> Float64:
    """C² of some images at every pixel of their transform, (B, L, L) in the order of `fft2`."""
    box = stack.box_size
    frequency = np.rint(np.fft.fftfreq(box, 1 / box)).astype(np.int64)
    ky, kx = (axis.ravel() for axis in np.meshgrid(frequency, frequency, indexing="ij"))
    some = particles.exposures.rows(images)
    ctf = evaluate_ctf(kx, ky, stack.extent_angstrom, some.ctf, particles.optics, some.optics_group)
    return np.square(ctf, out=ctf).reshape(-1, box, box)


def _add(total: Float64, values: NDArray[np.floating], place: Int64) -> None:
    """Add values (B, …) to those of their places (B,) in a total (g, …)."""
    for one in np.unique(place):
        total[one] += np.sum(values[place == one], axis=0, dtype=np.float64)
