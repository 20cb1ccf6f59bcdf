"""Whether poses, CTF, images and mask belong together: what a quick mean says.

A mean of one half of the particles must explain the images of the other half. It must do so better than with
orientations dealt out at random (any centred blob explains something), and better than with rotations
transposed or shifts reversed, the two conventions that files most often get wrong. What it explains must lie
within the mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.fitting.settings import FitSettings
from solvar.fitting.start import should_invert
from solvar.imaging.density_mask import density_mask
from solvar.imaging.fsc import fourier_shell_correlation, resolution
from solvar.imaging.masks import resample_mask, share_of_box, widest_sphere
from solvar.particles import ParticleSet
from solvar.preflight.findings import Finding
from solvar.preflight.quick_mean import QuickMean, is_beyond_chance, quick_mean
from solvar.preflight.residuals import background_finding, noise_finding, pose_finding
from solvar.preflight.symmetry import symmetry_finding
from solvar.progress import Progress
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_FEWEST, _FEWEST_TILTED = 50, 20
# Good poses show in some dozen particles; with errors of 3 degrees and of a pixel, it takes this many at a
# SNR of 0.01
_ENOUGH = 300
# Images and shells of one look after the other, as long as questions are left open
THOROUGH = ((3000, 20), (16_000, 20))
QUICK = ((1000, 12), (4000, 20), (16_000, 20))
# A mask cut at a contour takes some signal away, and more noise, so that a mean gains by a good one. Where it
# loses, signal is cut: of some per cent, what lies outside becomes structure in the residuals of a fit.
_MUCH_OUTSIDE = 0.02


def trial_findings(
    particles: ParticleSet,
    mask: Float32,
    settings: FitSettings,
    looks: tuple[tuple[int, int], ...],
    progress: Progress,
) -> Iterator[Finding]:
    """Findings about signal, sign, poses and mask.

    Parameters
    ----------
    particles : ParticleSet
    mask : (L, L, L) float32
    settings : FitSettings
    looks : tuple of (images, shells)
        `THOROUGH` or `QUICK`.
    progress : Progress
    """
    if len(particles) < _FEWEST and not _FEWEST_TILTED <= len(particles) < len(particles.exposures):
        text = f"{len(particles)} particles are too few to test poses and CTF"
        yield Finding("warning", "mean", text)
        return
    order = np.random.default_rng(settings.seed).permutation(len(particles))
    with ThreadTeam(settings.threads) as team, progress.step("Quick mean", 1, "pair") as step:
        for images, shells in looks:
            fewest = _ENOUGH if images == looks[-1][0] else _FEWEST
            few = particles.select(np.sort(_first(particles, order, images, fewest)))
            mean = quick_mean(few, mask, shells, settings, team)
            trials = _Trials.of(mean, few)
            if trials.given.explains:
                trials = trials.with_other_hand(few, mask, settings, team)
            if trials.are_clear or len(few) == len(particles):
                break
        step.note(f"of {_counted(few)}")
        step.advance()
        yield _signal(mean)
        yield _sign(mean, mask, settings)
        yield from _conventions(trials)
        yield _agreement(mean)
        if settings.has_symmetry and mean.explains:
            yield symmetry_finding(mean, settings.point_group)
        if settings.names_mask:
            yield _mask(mean, mask)
        elif looks is THOROUGH:
            # a run tells what it makes when it has made it
            yield _own_mask(mean, mask, settings)
        if looks is THOROUGH and mean.explains:
            # a run measures both again with its own model
            yield background_finding(mean)
            yield noise_finding(mean)
            yield pose_finding(mean, few, mask)


def _first(particles: ParticleSet, order: Int64, images: int, fewest: int) -> Int64:
    """The first particles in an order that have so many images together, and no fewer than `fewest`."""
    total = np.cumsum(particles.exposures.counts()[order])
    # standard errors over some dozen particles are none
    return order[: max(int(np.searchsorted(total, images, side="right")), fewest)]


def _counted(particles: ParticleSet) -> str:
    images = len(particles.exposures)
    several = f", {images:,} images" if images > len(particles) else ""
    return f"{len(particles):,} particles{several}"


@dataclass(frozen=True, eq=False)
class _Trials:
    """The quick mean as particles are given, and under the commonest mistakes."""

    given: QuickMean
    others: dict[str, QuickMean]

    @classmethod
    def of(cls, given: QuickMean, particles: ParticleSet) -> _Trials:
        """Of particles and their quick mean."""
        rotation, shift = particles.poses.rotation, particles.poses.shift_angstrom
        others = {"rotations transposed": given.repeated(_transposed(rotation))}
        if (tilt := given.images.store.tilt) is not None:
            others["tilts turned the other way"] = given.tilted(_transposed(tilt))
        if shift.any():
            group = particles.exposures.first_of(particles.exposures.optics_group)
            back = -2 * shift / given.images.store.shift_unit(group)
            others["shifts reversed"] = given.repeated(rotation, back)
        return cls(given, others)

    def with_other_hand(
        self, particles: ParticleSet, mask: Float32, settings: FitSettings, team: ThreadTeam
    ) -> _Trials:
        """And with the defocus of particles in tomograms as if height counted the other way."""
        images = particles.exposures
        if images.defocus_offset_angstrom is None:
            return self
        ctf = images.ctf.defocused(-2 * images.defocus_offset_angstrom)
        turned = replace(particles, exposures=replace(images, ctf=ctf))
        other = quick_mean(turned, mask, self.given.bands[0].k_c, settings, team)
        return replace(self, others={**self.others, "the other hand (rlnTomoHand)": other})

    @cached_property
    def better(self) -> list[str]:
        """The other ways that explain images, and better than as given."""
        given = self.given.gain
        return [
            what
            for what, other in self.others.items()
            if is_beyond_chance(other.gain - given) and other.explains
        ]

    @property
    def are_worse(self) -> bool:
        """Whether all other ways are clearly worse."""
        return all(is_beyond_chance(self.given.gain - each.gain) for each in self.others.values())

    @property
    def are_clear(self) -> bool:
        """Whether more particles would say the same."""
        return bool(self.better) or (self.given.explains and self.are_worse)


def _transposed(rotation: Float64) -> Float64:
    return np.ascontiguousarray(np.swapaxes(rotation, 1, 2))


def _signal(mean: QuickMean) -> Finding:
    finest = mean.resolution_angstrom
    text = f"signal power is {mean.signal:.3f} of the noise power up to {finest:.0f} Å"
    if mean.signal > 0:
        return Finding("ok", "signal", text)
    text += "; are the corners of the images free of particles and artefacts?"
    return Finding("warning", "signal", text)


def _sign(mean: QuickMean, mask: Float32, settings: FitSettings) -> Finding:
    dark = should_invert("auto", mean.means, resample_mask(mask, len(mean.means[0])))
    wrong = settings.density != "auto" and dark != (settings.density == "dark")
    text = f"particles are {'dark' if dark else 'bright'} in the images"
    if wrong:
        return Finding("warning", "contrast sign", f"{text}, but --density says otherwise")
    return Finding("ok", "contrast sign", f"{text}; they will be inverted" if dark else text)


def _agreement(mean: QuickMean) -> Finding:
    """Whether the mean of one half explains the images of the other, and to what resolution."""
    count = len(mean)
    if not mean.explains:
        text = (
            f"the mean of one half of {count:,} particles explains the images of the other no better than "
            "with orientations dealt at random: "
        )
        if count < _ENOUGH:
            return Finding("warning", "mean", f"{text}they may be too few, or their poses wrong")
        return Finding("error", "mean", f"{text}poses, CTF and images do not belong together")
    finest = mean.resolution_angstrom
    fsc = fourier_shell_correlation(mean.means[0], mean.means[1], mean.bands[0].k_c + 1)
    reached = resolution(fsc, mean.images.store.extent_angstrom)
    limit = " (the finest looked at)" if reached <= 1.001 * finest else ""
    text = f"the halves of {count:,} particles agree to {reached:.1f} Å{limit}"
    return Finding("ok", "mean", text)


def _conventions(trials: _Trials) -> Iterator[Finding]:
    for what in trials.better:
        text = f"with {what} the images are explained better: the file uses another convention"
        yield Finding("error", "poses", text)
    if not trials.better:
        text = f"better as given than with {' or '.join(trials.others)}"
        clear = trials.are_worse
        yield Finding("ok", "poses", text if clear else f"no clear difference: {text}, but barely")


def _own_mask(mean: QuickMean, sphere: Float32, settings: FitSettings) -> Finding:
    """How large the mask is that a run would make, as far as the quick mean shows."""
    box = len(mean.means[0])
    pixel_size = mean.images.store.extent_angstrom / box
    dark = should_invert(settings.density, mean.means, resample_mask(sphere, box))
    sign = -1 if dark else 1
    first, second = (sign * half for half in mean.means)
    mask = density_mask(first, second, pixel_size, widest_sphere(box))
    if mask is None:
        text = "none given, and nothing stands out in the quick mean: a run may take a sphere"
        return Finding("ok", "mask", text)
    text = f"none given; a run makes its own, {share_of_box(mask)} by the quick mean"
    return Finding("ok", "mask", text)


def _mask(mean: QuickMean, mask: Float32) -> Finding:
    """How much of what the means explain lies outside the mask."""
    lost = mean.gain - mean.gain_within(mask)
    share = float(lost.mean() / mean.gain.mean()) if mean.gain.mean() > 0 else 0.0
    if is_beyond_chance(lost) and share > _MUCH_OUTSIDE:
        text = (
            f"{share:.0%} of what the mean explains of the images lies outside the mask; is it the mask "
            "of this molecule, in these orientations, and wide enough?"
        )
        return Finding("warning", "mask", text)
    return Finding("ok", "mask", "holds what the mean explains of the images")
