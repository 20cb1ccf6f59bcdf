"""What a quick mean leaves of images that it has not seen: noise unknown to corners, and pose errors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.evidence import pose_doubt
from solvar.estimation.held_out import evenly_spread
from solvar.estimation.nuisances import held_out_products
from solvar.estimation.residual_noise import residual_power
from solvar.fitting.start import START_CONTRAST_SD
from solvar.imaging.fsc import fourier_shell_correlation, resolution
from solvar.imaging.masks import mask_diameter
from solvar.particles import ParticleSet
from solvar.preflight.findings import Finding
from solvar.preflight.quick_mean import QuickMean

Float32 = NDArray[np.float32]

# of each half: enough to know a spread, or noise in a shell, to some per cent
_SAMPLE = 400
# noise that differs more from that of the corners is worth a word
_MUCH = 0.25


def noise_finding(mean: QuickMean) -> Finding:
    """How strong the noise is where the particle lies, measured against that of the corners."""
    groups, measured = len(mean.images.noise.power), []
    for band, volume in zip(mean.bands, mean.means[::-1], strict=True):
        model = BandModel(band, ColumnModel(volume[None], START_CONTRAST_SD))
        measured.append(residual_power(model, evenly_spread(band.index, _SAMPLE), groups))
    found = measured[0] + measured[1]
    whole = float(found.power.sum() / found.count.sum())
    shell = found.power[:, 1:].sum(axis=0) / found.count[:, 1:].sum(axis=0)
    text = (
        f"what a mean leaves of the images has {whole:.2f} times the power of their corners "
        f"({shell.min():.2f} to {shell.max():.2f} in single shells); a run uses what it measures"
    )
    return Finding("warning" if abs(np.log(whole)) > _MUCH else "ok", "noise", text)


def background_finding(mean: QuickMean) -> Finding:
    """What is taken out of the images before anything else; a run does the same and tells."""
    taken = mean.images.store.reference.normalisation
    told = None if taken is None else taken.sentence()
    if told is None:
        return Finding(
            "ok", "background", "images differ in grey level and strength by chance alone"
        )
    return Finding("ok", "background", f"{told[0].lower()}{told[1:].rstrip('.')}")


def pose_finding(mean: QuickMean, particles: ParticleSet, mask: Float32) -> Finding:
    """How far poses look off.

    Parameters
    ----------
    mean : QuickMean
    particles : ParticleSet
        The ones it is of.
    mask : (L, L, L) float32
    """
    rng, halves = np.random.default_rng(0), []
    for band, volume in zip(mean.bands, mean.means[::-1], strict=True):
        some = evenly_spread(band.index, _SAMPLE)
        halves.append(held_out_products(band, volume[None], some, particles, rng))
    found = pose_doubt(halves)
    store = mean.images.store
    fsc = fourier_shell_correlation(mean.means[0], mean.means[1], mean.bands[0].k_c + 1)
    finest = resolution(fsc, store.extent_angstrom)
    if not found.shows(0.5 * mask_diameter(mask), finest / store.pixel_size_angstrom):
        return Finding("ok", "pose errors", "none that show")
    shift = found.shift_pixel * store.pixel_size_angstrom
    text = (
        f"rotations look off by about {found.rotation_degree:.1f}° and shifts by {shift:.1f} Å: "
        "run with --refine-pose"
    )
    return Finding("warning", "pose errors", text)
