"""After a reconstruction: sharpening, local resolution, maps filtered by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import fourier_filter, volume_shells
from solvar.imaging.fsc import shell_products

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# Gaussian window of the local correlation, in units of the wavelength that is looked at
_WINDOW = 0.5
# P. B. Rosenthal & R. Henderson, J. Mol. Biol. 333 (2003): amplitudes fall as a Gaussian beyond 10 Å
_GUINIER_FROM = 10.0
_FEWEST_SHELLS = 5


@dataclass(frozen=True)
class BFactor:
    """What a map is sharpened by.

    Attributes
    ----------
    value : float
        Å²; negative sharpens; 0 for none.
    note : str or None
        Why an automatic B-factor was not applied.
    """

    value: float
    note: str | None = None


def guinier_bfactor(
    volume: Float32, pixel_size_angstrom: float, resolution_angstrom: float
) -> BFactor:
    """B of a straight line through ln amplitude against k² between 10 Å and the resolution.

    Parameters
    ----------
    volume : (L, L, L)
        Masked, weighted by what is known of each shell.
    resolution_angstrom : float
        inf where nothing is resolved.

    Returns
    -------
    BFactor
        0 with a note if fewer than five shells lie between the two, or amplitudes do not fall.
    """
    box = len(volume)
    extent = box * pixel_size_angstrom
    last = int(extent / resolution_angstrom) if np.isfinite(resolution_angstrom) else 0
    shell = np.arange(int(np.ceil(extent / _GUINIER_FROM)), min(last, box // 2) + 1)
    if len(shell) < _FEWEST_SHELLS:
        told = f"{resolution_angstrom:.1f} Å" if last else "not resolved"
        return BFactor(
            0.0,
            f"no B-factor: a Guinier fit needs {_FEWEST_SHELLS} shells between {_GUINIER_FROM:.0f} Å and "
            f"the resolution ({told}), there are {len(shell)}",
        )
    power = shell_products(volume[None], volume[None], box // 2 + 1)[shell, 0, 0]
    slope = np.polyfit((shell / extent) ** 2, 0.5 * np.log(np.maximum(power, 1e-30)), 1)[0]
    if slope >= 0:
        return BFactor(0.0, f"no B-factor: amplitudes do not fall beyond {_GUINIER_FROM:.0f} Å")
    return BFactor(float(4 * slope))


def weighted(volume: Float32, fsc: Float64) -> Float32:
    """The volume times √(2 FSC/(1 + FSC)) per shell, from the first shell with an FSC <= 0 on nothing.

    The weight is the correlation of the average of both halves with the truth (Rosenthal & Henderson, 2003).

    Parameters
    ----------
    volume : (L, L, L)
    fsc : (S,)
        Of half-maps.
    """
    known = np.minimum.accumulate(np.where(fsc[1:] > 0, 1.0, 0.0))
    kept = np.concatenate([[1.0], known * np.clip(fsc[1:], 0, 1), [0.0]])
    response = np.sqrt(2 * kept / (1 + kept)).astype(np.float32)
    shell = np.minimum(volume_shells(len(volume)), len(fsc))
    return np.asarray(fourier_filter(volume, response[shell]), dtype=np.float32)


def sharpened(volume: Float32, bfactor: float, pixel_size_angstrom: float) -> Float32:
    """The volume times exp(-B k²/4), k in 1/Å: a negative B sharpens."""
    box = len(volume)
    frequency = volume_shells(box) / (box * pixel_size_angstrom)
    response = np.exp(-bfactor / 4 * frequency**2).astype(np.float32)
    return np.asarray(fourier_filter(volume, response), dtype=np.float32)


def local_resolution(
    half_maps: Float32, pixel_size_angstrom: float, threshold: float = 0.5
) -> Float32:
    """Local resolution from the correlation of band-passed half-maps in a Gaussian window.

    The window is half a wavelength wide (one standard deviation). The threshold is 0.5, not 0.143: a window
    holds few independent coefficients.

    Parameters
    ----------
    half_maps : (2, L, L, L)

    Returns
    -------
    (L, L, L) float32
        Å; the box's extent where nothing is resolved.
    """
    import scipy.fft
    from scipy.ndimage import fourier_gaussian

    box = half_maps.shape[-1]
    extent = box * pixel_size_angstrom
    shell = volume_shells(box)
    spectra = scipy.fft.rfftn(half_maps, axes=(1, 2, 3))
    resolved = np.full((box,) * 3, extent, dtype=np.float32)
    open_still = np.ones((box,) * 3, dtype=bool)
    for s in range(2, box // 2):
        band = np.exp(-0.5 * (shell - s) ** 2).astype(np.float32)
        a, b = scipy.fft.irfftn(spectra * band, s=(box,) * 3, axes=(1, 2, 3))
        width = _WINDOW * box / s + 1
        # in Fourier space: in real space the widest windows took most of the time
        products = scipy.fft.rfftn(np.stack([a * b, a * a, b * b]), axes=(1, 2, 3))
        smooth = fourier_gaussian(products, (0, width, width, width), n=box)
        cross, left, right = scipy.fft.irfftn(smooth, s=(box,) * 3, axes=(1, 2, 3))
        correlation = cross / np.sqrt(np.maximum(left * right, 1e-30))
        open_still &= correlation > threshold
        resolved[open_still] = extent / s
    return resolved


def locally_filtered(
    volume: Float32, resolution_angstrom: Float32, pixel_size_angstrom: float
) -> Float32:
    """The volume, low-passed at every voxel to the resolution there.

    The shells of the volume are added up one by one, each where it is resolved, with a soft edge of two
    shells. Shells 0 to 2 are kept everywhere: below them no local resolution is measured.

    Parameters
    ----------
    volume, resolution_angstrom : (L, L, L)
        As of `local_resolution`.
    """
    import scipy.fft

    box = len(volume)
    shell = volume_shells(box)
    limit = np.maximum(box * pixel_size_angstrom / resolution_angstrom, 2).astype(np.float32)
    spectrum = scipy.fft.rfftn(volume)
    out = np.zeros_like(volume)
    for s in range(int(limit.max()) + 2):
        part = scipy.fft.irfftn(np.where(shell == s, spectrum, 0), s=volume.shape)
        share = np.clip((limit - s) / 2 + 1, 0, 1) if s > 2 else 1.0
        out += part * share
    return out
