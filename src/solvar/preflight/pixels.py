"""How the pixels of a sample of images look."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.particles import ImageStack, ParticleSet
from solvar.preflight.findings import Finding
from solvar.progress import Progress

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

_SAMPLE, _CHUNK = 1000, 256
_STRANGE_SPREAD = 8.0


def image_findings(
    particles: ParticleSet,
    stack: ImageStack,
    seed: int,
    every_image: bool,
    progress: Progress,
) -> Iterator[Finding]:
    """Broken images, and images whose spread of values stands out, among 1,000 or all."""
    count = len(particles.exposures)
    sample = np.arange(count)
    if not every_image and count > _SAMPLE:
        sample = np.sort(np.random.default_rng(seed).choice(count, _SAMPLE, replace=False))
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
    strange = strange_values(spread)
    if len(strange):
        row = int(particles.image_row[sample[strange[0]]]) + 1
        text = (
            f"{len(strange):,} images have a standard deviation far from the median "
            f"{np.nanmedian(spread):.3g}, the first in row {row} ({spread[strange[0]]:.3g})"
        )
        yield Finding("warning", "images", text)


def strange_values(spread: Float64) -> Int64:
    """Positions of values (N,) that are far from all others; NaN stands for what is not known."""
    whole = spread[np.isfinite(spread)]
    if len(whole) < 10:
        return np.arange(0)
    middle = float(np.median(whole))
    usual = max(1.4826 * float(np.median(np.abs(whole - middle))), 0.01 * middle)
    return np.flatnonzero(np.abs(spread - middle) > _STRANGE_SPREAD * usual)


def _spread(stack: ImageStack, index: Int64, broken: list[str]) -> Float64:
    """Standard deviation of each image; NaN and a sentence in `broken` for one that is unusable."""
    try:
        return stack.read(index).std(axis=(1, 2), dtype=np.float64)
    except InputError as error:
        if len(index) == 1:
            broken.append(str(error))
            return np.array([np.nan])
    half = len(index) // 2
    return np.concatenate([_spread(stack, part, broken) for part in (index[:half], index[half:])])
