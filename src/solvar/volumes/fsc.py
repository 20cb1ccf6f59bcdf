"""Fourier shell correlation of half-maps, corrected for what the mask alone makes of it.

Phase randomisation: S. Chen et al., Ultramicroscopy 135 (2013) 24–35.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import hermitian_weight, volume_shells
from solvar.imaging.fsc import fourier_shell_correlation, resolution

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_RANDOMISE_BELOW = 0.8
# a mask ties neighbouring shells: the first randomised ones still see phases that were kept
_MARGIN = 2
_LARGEST_RANDOMISED = 0.99
_DRAWS = 3
# standard deviations of chance by which the halves must agree up to the resolution
_BEYOND_CHANCE = 3.0
_SEED = 0


@dataclass(frozen=True, eq=False)
class FscCurves:
    """Fourier shell correlations of two half-maps, (S,) float64 each.

    Attributes
    ----------
    unmasked, masked : (S,)
    randomised : (S,)
        In the mask, after the phases from shell `first_random` on were made random; mean of three draws.
    corrected : (S,)
        (masked - randomised) / (1 - randomised) where phases were random, else `masked`. A `randomised`
        below 0 is chance and counts as 0: it must not raise the curve.
    first_random : int or None
        First shell with random phases; None when `unmasked` never falls below 0.8, where nothing can be
        corrected and `corrected` and `randomised` equal `masked`.
    freedom : (S,)
        Independent coefficients of each shell in the mask: the variance of `masked` by chance is 1/freedom.
    """

    unmasked: Float64
    masked: Float64
    randomised: Float64
    corrected: Float64
    first_random: int | None
    freedom: Float64

    def resolution(self, extent_angstrom: float) -> float:
        """Å where `corrected` falls below 0.143; inf where the shells up to it agree by chance.

        In a tight mask the first shells hold a few independent numbers, which often agree by themselves.
        """
        found = resolution(self.corrected, extent_angstrom)
        if not np.isfinite(found):
            return found
        within = slice(1, int(extent_angstrom / found) + 1)
        agreement = float(self.freedom[within] @ self.corrected[within])
        chance = float(np.sqrt(self.freedom[within].sum()))
        return found if agreement > _BEYOND_CHANCE * chance else np.inf

    def record(self) -> dict[str, Any]:
        """The curves, of JSON's types."""
        names = ("unmasked", "masked", "randomised", "corrected")
        curves = {name: [round(float(v), 6) for v in getattr(self, name)] for name in names}
        return {**curves, "first_random_shell": self.first_random}


def half_map_fsc(half_maps: Float32, mask: Float32, shells: int) -> FscCurves:
    """All curves of two half-maps.

    Parameters
    ----------
    half_maps : (2, L, L, L)
        Not masked: of maps that were masked before, the unmasked curve and so the correction is wrong.
    mask : (L, L, L)
        0 to 1.
    shells : int
        S, at most L // 2 + 1.
    """
    unmasked = fourier_shell_correlation(half_maps[0], half_maps[1], shells)
    masked = fourier_shell_correlation(half_maps[0] * mask, half_maps[1] * mask, shells)
    freedom = _freedom(mask, shells)
    below = np.flatnonzero(unmasked[1:] < _RANDOMISE_BELOW) + 1
    if len(below) == 0:
        return FscCurves(unmasked, masked, masked, masked, None, freedom)
    first = int(below[0])
    rng = np.random.default_rng(_SEED)
    draws = []
    for _ in range(_DRAWS):
        noise = [mask * with_random_phases(half, first, rng) for half in half_maps]
        draws.append(fourier_shell_correlation(noise[0], noise[1], shells))
    randomised = np.mean(draws, axis=0)
    # where even shell 1 is below, no shell is known to be good: all of them are corrected
    start = first + _MARGIN if first > 1 else first
    chance = np.clip(randomised, 0, _LARGEST_RANDOMISED)
    corrected = masked.copy()
    corrected[start:] = ((masked - chance) / (1 - chance))[start:]
    return FscCurves(unmasked, masked, randomised, corrected, first, freedom)


def _freedom(mask: Float32, shells: int) -> Float64:
    """Independent coefficients of each shell of volumes in a mask; half a shell is the other's conjugate."""
    square = mask.astype(np.float64) ** 2
    support = square.sum() ** 2 / max(float((square**2).sum()), 1e-30) / mask.size
    count = np.bincount(
        volume_shells(len(mask)).ravel(),
        np.broadcast_to(hermitian_weight(len(mask)), volume_shells(len(mask)).shape).ravel(),
    )
    return support * count[:shells] / 2


def with_random_phases(volume: Float32, first: int, rng: np.random.Generator) -> Float32:
    """The volume with the phases of shells >= `first` replaced by random ones; amplitudes are kept."""
    import scipy.fft

    # the phases of white noise have the symmetry that keeps the volume real
    noise = scipy.fft.rfftn(rng.standard_normal(volume.shape).astype(np.float32))
    spectrum = scipy.fft.rfftn(volume)
    beyond = volume_shells(len(volume)) >= first
    spectrum[beyond] = (np.abs(spectrum) * noise / np.maximum(np.abs(noise), 1e-20))[beyond]
    return np.asarray(scipy.fft.irfftn(spectrum, s=volume.shape), dtype=np.float32)
