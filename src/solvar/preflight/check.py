"""`check_particles`: what would go wrong or mislead, before anything long.

The last test is the sharpest: a mean of one half of a few thousand particles must explain the images of
the other half. It must do so better than with orientations dealt out at random (any centred blob explains
something), and better than with rotations transposed or shifts reversed, the two conventions that files
most often get wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.estimation.band import Band
from solvar.estimation.images import WhitenedImages
from solvar.estimation.kernels import gram
from solvar.estimation.noise import estimate_noise
from solvar.estimation.pixels import in_memory
from solvar.estimation.whitening import whiten
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import (
    finest_frequency,
    half_means,
    load_mask,
    should_invert,
)
from solvar.fitting.warm import compile_kernels, tell_device
from solvar.imaging.fourier import HalfDisc, crop_volume
from solvar.imaging.fsc import fourier_shell_correlation, resolution
from solvar.imaging.masks import mask_diameter, resample_mask
from solvar.machine import available_memory, free_disk
from solvar.particles import (
    ImageStack,
    ParticleSet,
    Poses,
    assign_halfsets,
    refuse_copied_stacks,
)
from solvar.preflight.cost import expected
from solvar.preflight.table import Finding, table_findings
from solvar.progress import Progress, SilentProgress, harmless
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
T = TypeVar("T")

_SAMPLE, _CHUNK = 1000, 256
_MEAN_SAMPLE, _MEAN_SHELLS = 3000, 20
_STRANGE_SPREAD = 8.0
_STANDARD_ERRORS = 4.0
_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class CheckReport:
    """All findings; `ok` when none is an error."""

    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that makes the main job fail or mislead."""
        return all(finding.level != "error" for finding in self.findings)


def check_particles(
    particles: ParticleSet,
    settings: FitSettings,
    *,
    every_image: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Look for trouble in particles and settings.

    Parameters
    ----------
    particles : ParticleSet
    settings : FitSettings
        As for the main job.
    every_image : bool
        Read every image instead of a sample of 1,000.
    progress : Progress, optional
        Silent by default.
    """
    progress = harmless(progress)
    findings = list(table_findings(particles))
    stack = _attempt(findings, "files", lambda: ImageStack(particles, settings.downsample))
    if stack is None:
        return CheckReport(findings)
    stacks = len(particles.stacks)
    text = f"{len(particles):,} images in {stacks:,} stack{'s' * (stacks > 1)}, all found and whole"
    findings.insert(0, Finding("ok", "files", text))
    _attempt(findings, "files", lambda: refuse_copied_stacks(particles))
    images = list(_image_findings(particles, stack, settings, every_image, progress))
    findings += images
    mask = _attempt(findings, "mask", lambda: load_mask(settings, stack))
    k_c = _attempt(findings, "resolution", lambda: finest_frequency(stack, settings.resolution))
    whole = all(finding.level != "error" for finding in images)
    if mask is not None and k_c is not None and whole:
        findings += _mean_findings(particles, stack, mask, k_c, settings, progress)
        findings.append(_cost(particles, settings, progress))
    return CheckReport(findings)


def _attempt(findings: list[Finding], topic: str, action: Callable[[], T]) -> T | None:
    """The result of `action`, or None and a finding that says why there is none."""
    try:
        return action()
    except InputError as error:
        findings.append(Finding("error", topic, str(error)))
        return None


def _image_findings(
    particles: ParticleSet,
    stack: ImageStack,
    settings: FitSettings,
    every_image: bool,
    progress: Progress,
) -> Iterator[Finding]:
    """Broken images, and images whose spread of values stands out."""
    count = len(particles)
    sample = np.arange(count)
    if not every_image and count > _SAMPLE:
        sample = np.sort(np.random.default_rng(settings.seed).choice(count, _SAMPLE, replace=False))
    spread, broken = np.full(len(sample), np.nan), list[str]()
    with progress.step("Looking at images", len(sample), "images") as step:
        for first in range(0, len(sample), _CHUNK):
            part = slice(first, min(first + _CHUNK, len(sample)))
            spread[part] = _spread(stack, sample[part], broken)
            step.advance(part.stop - part.start)
    looked = (
        f"all {count:,} images" if len(sample) == count else f"{len(sample):,} of {count:,} images"
    )
    if broken:
        text = f"{broken[0]} In {looked}, {len(broken):,} are broken."
        yield Finding("error", "images", text)
    else:
        yield Finding("ok", "images", f"no NaN, infinite or constant image among {looked}")
    yield from _strange(particles, sample, spread)


def _spread(stack: ImageStack, index: NDArray[np.int64], broken: list[str]) -> Float64:
    """Standard deviation of each image; NaN and a sentence in `broken` for one that is unusable."""
    try:
        return stack.read(index).std(axis=(1, 2), dtype=np.float64)
    except InputError as error:
        if len(index) == 1:
            broken.append(str(error))
            return np.array([np.nan])
    half = len(index) // 2
    return np.concatenate([_spread(stack, part, broken) for part in (index[:half], index[half:])])


def _strange(
    particles: ParticleSet, sample: NDArray[np.int64], spread: Float64
) -> Iterator[Finding]:
    """Images whose standard deviation is far from that of the others."""
    whole = spread[np.isfinite(spread)]
    if len(whole) < 10:
        return
    middle = float(np.median(whole))
    usual = max(1.4826 * float(np.median(np.abs(whole - middle))), 0.01 * middle)
    strange = np.flatnonzero(np.abs(spread - middle) > _STRANGE_SPREAD * usual)
    if len(strange):
        row = int(particles.row[sample[strange[0]]]) + 1
        text = (
            f"{len(strange):,} images have a standard deviation far from the median {middle:.3g}, "
            f"the first in row {row} ({spread[strange[0]]:.3g})"
        )
        yield Finding("warning", "images", text)


def _mean_findings(
    particles: ParticleSet,
    stack: ImageStack,
    mask: Float32,
    k_c: int,
    settings: FitSettings,
    progress: Progress,
) -> Iterator[Finding]:
    """Noise, and what a quick mean of each half says about sign, poses and CTF."""
    sample = np.random.default_rng(settings.seed).permutation(len(particles))[:_MEAN_SAMPLE]
    few = assign_halfsets(particles.select(np.sort(sample)), settings.seed)
    if len(few) < 50:
        yield Finding("warning", "mean", f"{len(few)} particles are too few to test poses and CTF")
        return
    part = ImageStack(few, settings.downsample).brought_near_one()
    disc = HalfDisc.of_radius(min(k_c, _MEAN_SHELLS))
    noise = estimate_noise(few, part, mask_diameter(mask), disc.k_c + 2, settings.seed)
    with ThreadTeam(settings.threads) as team, progress.step("Quick mean", 4, "means") as step:

        def tried(particles: ParticleSet) -> _Trial:
            images = whiten(particles, part, noise, disc, SilentProgress(), team, in_memory)
            trial = _trial(images, particles.halfset, mask, settings, team)
            step.advance()
            return trial

        given = tried(few)
        others = {what: tried(changed) for what, changed in _alternatives(few)}
        chance = tried(_dealt_at_random(few, settings.seed))
    extent = stack.box_size * stack.pixel_size_angstrom
    yield _signal(given, extent)
    yield _sign(given, mask, settings)
    yield _agreement(given, chance, len(few), extent)
    yield from _conventions(given, others)


@dataclass(frozen=True, eq=False)
class _Trial:
    """Half-set means, and the log-likelihood that each gains for every image of the other half."""

    k_c: int
    means: list[Float32]
    gain: Float64
    snr: float


def _trial(
    images: WhitenedImages,
    halfset: NDArray[np.int8],
    mask: Float32,
    settings: FitSettings,
    team: ThreadTeam,
) -> _Trial:
    halves = [np.flatnonzero(halfset == half) for half in (1, 2)]
    k_c, projection = images.disc.k_c, settings.projection
    bands = [Band(images, half, k_c, mask, projection, team) for half in halves]
    # whatever grid they come on, they hold no more than the band does
    means = [crop_volume(mean, bands[0].box) for mean in half_means(bands)[0]]
    gain = np.concatenate(
        [_gain(mean, band) for mean, band in zip(means, reversed(bands), strict=True)]
    )
    # whitened noise has power 1 a real number, two a pixel
    data = images.batch(np.arange(len(images)), images.disc).data
    power = float(np.mean(np.abs(data[:, 1:]) ** 2)) / 2
    return _Trial(images.disc.k_c, means, gain, power - 1)


def _gain(mean: Float32, band: Band) -> Float64:
    """Log-likelihood of each image with the mean minus that without it."""
    prepared = band.projector.prepare(mean[None])
    gains = []
    for batch in band.batches():
        slices = band.slices(prepared, batch.frame, batch.ctf)
        products = gram(slices, batch.data, band.team)
        gains.append(products[:, 0, -1] - 0.5 * products[:, 0, 0])
    return np.concatenate(gains)


def _alternatives(particles: ParticleSet) -> Iterator[tuple[str, ParticleSet]]:
    """The same particles read under the two commonest mistakes."""
    poses = particles.poses
    turned = Poses(np.ascontiguousarray(np.swapaxes(poses.rotation, 1, 2)), poses.shift_angstrom)
    yield "rotations transposed", replace(particles, poses=turned)
    if poses.shift_angstrom.any():
        moved = Poses(poses.rotation, -poses.shift_angstrom)
        yield "shifts reversed", replace(particles, poses=moved)


def _dealt_at_random(particles: ParticleSet, seed: int) -> ParticleSet:
    """The same particles with each other's rotations."""
    order = np.random.default_rng(seed).permutation(len(particles))
    poses = Poses(particles.poses.rotation[order], particles.poses.shift_angstrom)
    return replace(particles, poses=poses)


def _signal(trial: _Trial, extent: float) -> Finding:
    text = f"signal power is {trial.snr:.3f} of the noise power up to {extent / trial.k_c:.0f} Å"
    if trial.snr > 0:
        return Finding("ok", "signal", text)
    text += "; are the corners of the images free of particles and artefacts?"
    return Finding("warning", "signal", text)


def _sign(trial: _Trial, mask: Float32, settings: FitSettings) -> Finding:
    dark = should_invert("auto", trial.means, resample_mask(mask, len(trial.means[0])))
    wrong = settings.density != "auto" and dark != (settings.density == "dark")
    text = f"particles are {'dark' if dark else 'bright'} in the images"
    if wrong:
        return Finding("warning", "contrast sign", f"{text}, but --density says otherwise")
    return Finding("ok", "contrast sign", f"{text}; they will be inverted" if dark else text)


def _agreement(trial: _Trial, chance: _Trial, count: int, extent: float) -> Finding:
    """Whether the mean of one half explains the images of the other, and to what resolution."""
    explains = _beyond_chance(trial.gain) and _beyond_chance(trial.gain - chance.gain)
    fsc = fourier_shell_correlation(trial.means[0], trial.means[1], trial.k_c + 1)
    reached = resolution(fsc, extent)
    if not explains:
        text = (
            f"the mean of one half of {count:,} particles explains the images of the other no better "
            "than with orientations dealt at random: poses, CTF and images do not belong together"
        )
        return Finding("error", "mean", text)
    finest = " (the finest looked at)" if reached <= 1.001 * extent / trial.k_c else ""
    text = f"the halves of {count:,} particles agree to {reached:.1f} Å{finest}"
    return Finding("ok", "mean", text)


def _conventions(given: _Trial, others: dict[str, _Trial]) -> Iterator[Finding]:
    better = [what for what, trial in others.items() if _beyond_chance(trial.gain - given.gain)]
    for what in better:
        text = f"with {what} the images are explained better: the file uses another convention"
        yield Finding("error", "poses", text)
    if not better:
        text = f"better as given than with {' or '.join(others)}"
        worse = all(_beyond_chance(given.gain - trial.gain) for trial in others.values())
        yield Finding("ok", "poses", text if worse else f"no clear difference: {text}, but barely")


def _beyond_chance(gain: Float64) -> bool:
    return bool(gain.mean() > _STANDARD_ERRORS * gain.std() / np.sqrt(len(gain)))


def _cost(particles: ParticleSet, settings: FitSettings, progress: Progress) -> Finding:
    """What `solvar run` with these settings will need."""
    with ThreadTeam(settings.threads) as team:
        compile_kernels(settings, team, progress)
        tell_device(settings, progress)
        cost = expected(particles, settings, team)
    text = f"a run with --rank {settings.rank} takes {cost}"
    free, disk = available_memory(), free_disk(settings.scratch or Path.cwd())
    if cost.memory > _MEMORY_SHARE * free:
        text += f", but {free / 2**30:.1f} GiB are free: use --downsample or a lower --rank"
        return Finding("warning", "cost", text)
    if cost.disk > disk:
        text += f", but {disk / 2**30:.1f} GiB are free: name another folder with --scratch"
        return Finding("warning", "cost", text)
    return Finding("ok", "cost", text)
