"""What the numbers in a particle file tell before any image is read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.grid import have_several_sizes
from solvar.particles import ParticleSet
from solvar.preflight.findings import Finding

Float64 = NDArray[np.float64]

# topic of what every run tells by itself
ALREADY_TOLD = "rows"
# Å; outside, a defocus is rare enough to be worth a second look
_USUAL_DEFOCUS = (1_000.0, 60_000.0)
_LARGEST_USUAL_SHIFT = 0.2
_ABERRATIONS = {
    "magnification": "anisotropic magnification",
    "beam_tilt_mrad": "beam tilt",
    "odd_zernike": "antisymmetric aberrations",
    "even_zernike": "symmetric aberrations",
    "phase_flipped": "flipped phases",
    "premultiplied": "multiplication by the CTF",
}


def table_findings(particles: ParticleSet) -> Iterator[Finding]:
    """Findings about where files are, optics, CTF, shifts, half-sets and the order of rows."""
    for remark in particles.remarks():
        yield Finding("warning", ALREADY_TOLD, remark)
    yield _optics(particles)
    yield from _ctf(particles)
    yield _shifts(particles)
    yield _halfsets(particles.halfset)
    yield _row_order(particles)


def _optics(particles: ParticleSet) -> Finding:
    optics = particles.optics
    groups = len(optics.name)
    voltage = _span(optics.voltage_kv, "kV")
    aberration = _span(optics.spherical_aberration_mm, "mm")
    text = (
        f"{groups} optics group{'s' * (groups > 1)}: {voltage}, Cs {aberration}, amplitude contrast "
        f"{_span(optics.amplitude_contrast, '')}; box {particles.box_size} pixels of "
        f"{particles.pixel_size_angstrom:.4g} Å"
    )
    if have_several_sizes(optics):
        boxes, pixels = (
            _span(optics.box_size.astype(np.float64), ""),
            _span(optics.pixel_size_angstrom, "Å"),
        )
        text += f", to which images of {boxes} pixels of {pixels} are brought, noise alike"
    corrected = [
        words for field, words in _ABERRATIONS.items() if getattr(optics, field) is not None
    ]
    if corrected:
        text += f"; corrected for {', '.join(corrected)}"
    return Finding("ok", "optics", text)


def _span(values: Float64, unit: str) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    text = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return f"{text} {unit}".strip()


def _ctf(particles: ParticleSet) -> Iterator[Finding]:
    ctf = particles.exposures.ctf
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)
    if not mean.any():
        yield Finding("warning", "CTF", "every defocus is 0; right only for images without a CTF")
        return
    low, middle, high = np.quantile(mean, [0, 0.5, 1]) / 1e4
    text = f"defocus {low:.2f} to {high:.2f} µm, median {middle:.2f} µm"
    unusual = (mean < _USUAL_DEFOCUS[0]) | (mean > _USUAL_DEFOCUS[1])
    if unusual.any():
        first = int(particles.image_row[np.argmax(unusual)]) + 1
        text += f"; {int(unusual.sum()):,} are outside 0.1 to 6 µm, the first in row {first}"
    yield Finding("warning" if unusual.any() else "ok", "CTF", text)
    astigmatism = np.abs(ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)
    strong = astigmatism > np.maximum(0.5 * mean, 3000)
    if strong.mean() > 0.01:
        text = f"{strong.mean():.0%} of the images have more than 50 % astigmatism"
        yield Finding("warning", "CTF", f"{text}; are defocus U and V in the same unit?")


def _shifts(particles: ParticleSet) -> Finding:
    length = np.linalg.norm(particles.image_poses.shift_angstrom, axis=1)
    if not length.any():
        return Finding("ok", "shifts", "all are 0: the particles are taken as centred")
    box = particles.box_size * particles.pixel_size_angstrom
    rms, largest = float(np.sqrt(np.mean(length**2))), float(length.max())
    text = (
        f"{rms:.1f} Å rms ({rms / particles.pixel_size_angstrom:.1f} pixels), largest "
        f"{largest:.1f} Å ({largest / box:.0%} of the box)"
    )
    large = length > _LARGEST_USUAL_SHIFT * box
    if not large.any():
        return Finding("ok", "shifts", text)
    return Finding(
        "warning",
        "shifts",
        f"{text}; {int(large.sum()):,} exceed 20 % of the box: is the unit right (Å or pixels)?",
    )


def _halfsets(halfset: NDArray[np.int8]) -> Finding:
    first, second = int(np.sum(halfset == 1)), int(np.sum(halfset == 2))
    if first + second < len(halfset) or not first or not second:
        return Finding("ok", "half-sets", "not given for every particle: split at random by --seed")
    text = f"{first:,} and {second:,} particles, as the file gives them"
    uneven = min(first, second) < 0.25 * max(first, second)
    return Finding("warning" if uneven else "ok", "half-sets", text)


def _row_order(particles: ParticleSet) -> Finding:
    if particles.source_format == "cryodrgn":
        text = "poses and CTFs name no images: they are matched to the stack by order alone"
        return Finding("ok", "row order", text)
    images = particles.exposures
    key = images.stack_index * (int(images.frame.max()) + 1) + images.frame
    sorted_ = bool(np.all(np.diff(key) > 0))
    how = "are in the order of the rows" if sorted_ else "are not in the order of the rows"
    text = f"images {how}; each row names its own image"
    return Finding("ok", "row order", text)
