"""Fourier shell correlation of volumes, half-maps and covariances, and the resolution that a curve says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import hermitian_weight, volume_shells

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Volumes = Float32 | Sequence[Float32]

# of two halves, each of which holds half of the data; and of a map with the truth
HALVES_THRESHOLD, TRUTH_THRESHOLD = 0.143, 0.5
_RANDOMISE_BELOW = 0.8
# a mask ties neighbouring shells: the first randomised ones still see phases that were kept
_MARGIN = 2
_LARGEST_RANDOMISED = 0.99
_DRAWS = 3
# standard deviations of chance by which the halves must agree up to the resolution
_BEYOND_CHANCE = 3.0
_SEED = 0


def shell_products(first: Volumes, second: Volumes, shells: int) -> Float64:
    """Shell means of products of the transforms of two sets of volumes.

    Parameters
    ----------
    first : (A, L, L, L)
    second : (B, L, L, L)
    shells : int
        At most L//2 + 1.

    Returns
    -------
    (shells, A, B) float64
        a_ij(s) = mean of v̂_i conj(ŵ_j) over shell s of the full grid; real because the volumes are.
    """
    box = len(first[0])
    shell = volume_shells(box).ravel()
    weight = np.broadcast_to(hermitian_weight(box), (box, box, box // 2 + 1)).ravel()
    order = np.argsort(shell, kind="stable")
    edges = np.searchsorted(shell[order], np.arange(shells + 1))
    left = _transforms(first)
    right = left if second is first else _transforms(second)
    out = np.empty((shells, len(first), len(second)))
    for s in range(shells):
        members = order[edges[s] : edges[s + 1]]
        w, seen = weight[members].astype(np.float64), left[:, members]
        other = seen if right is left else right[:, members]
        out[s] = ((seen * w) @ other.conj().T).real / w.sum()
    return out


def _transforms(volumes: Volumes) -> NDArray[np.complexfloating]:
    """rfftn of volumes one by one, each flat."""
    import scipy.fft

    found = (scipy.fft.rfftn(volume).ravel() for volume in volumes)
    first = next(found)
    out = np.empty((len(volumes), len(first)), first.dtype)
    for row, each in zip(out, chain([first], found), strict=True):
        row[:] = each
    return out


def fourier_shell_correlation(first: Float32, second: Float32, shells: int) -> Float64:
    """Fourier shell correlation of two volumes, (L, L, L) each -> (shells,)."""
    both = [first, second]
    product = shell_products(both, both, shells)
    return product[:, 0, 1] / np.sqrt(np.maximum(product[:, 0, 0] * product[:, 1, 1], 1e-60))


def masked_fsc(
    first: Float32, second: Float32, mask: Float32 | None = None, shells: int | None = None
) -> Float64:
    """Fourier shell correlation of two volumes inside a soft mask.

    Parameters
    ----------
    first, second : (L, L, L)
        Any positive scale.
    mask : (L, L, L), optional
        0 to 1; multiplies both volumes.
    shells : int, optional
        Up to Nyquist by default.

    Returns
    -------
    (shells,) float64
        Shells |k| rounded to 0, 1, …; 0 where one of the two has no power.

    Raises
    ------
    ValueError
        If shapes differ.
    """
    if first.shape != second.shape or (mask is not None and mask.shape != first.shape):
        raise ValueError("the volumes and the mask need one shape")
    if mask is not None:
        first, second = first * mask, second * mask
    return fourier_shell_correlation(first, second, shells or first.shape[-1] // 2 + 1)


def covariance_fsc(first: Float32, second: Float32, shells: int) -> Float64:
    """Correlation of the covariances V Vᵀ of two sets of columns between shells s and t.

    FSC_Σ(s, t) = B₁₂/√(B₁₁ B₂₂), B_ab(s, t) = Σ_ij a_ij(s) a_ij(t) with a_ij of `shell_products`: the inner
    product of the blocks Σ(k, k'), k in shell s and k' in shell t. It does not depend on the basis of either
    set, so nothing is aligned.

    Parameters
    ----------
    first, second : (r, L, L, L)
        Columns √eigenvalue · eigenvolume, or any rotation of them.

    Returns
    -------
    (shells, shells) float64
    """

    both, rank = [*first, *second], len(first)
    products = shell_products(both, both, shells)

    def block(a: slice, b: slice) -> Float64:
        product = products[:, a, b]
        return np.einsum("sij,tij->st", product, product)

    one, other = slice(0, rank), slice(rank, None)
    norm = block(one, one) * block(other, other)
    return block(one, other) / np.sqrt(np.maximum(norm, 1e-60))


def resolution(fsc: Float64, extent_angstrom: float, threshold: float = HALVES_THRESHOLD) -> float:
    """Resolution in Å where a curve (S,) first falls below `threshold` after shell 1.

    Interpolated between shells; inf when shell 1 is already below, the last shell's when none is.
    """
    below = np.flatnonzero(fsc[1:] < threshold) + 1
    if len(below) == 0:
        return extent_angstrom / (len(fsc) - 1)
    s = int(below[0])
    if s == 1:
        return float("inf")
    fraction = (fsc[s - 1] - threshold) / (fsc[s - 1] - fsc[s])
    return float(extent_angstrom / (s - 1 + fraction))


@dataclass(frozen=True)
class SharedDetail:
    """To what detail two volumes agree, Å: best guess, and one standard error to either side.

    inf where they agree no more than chance would have it.
    """

    resolution: float
    finest: float
    coarsest: float


def shared_detail(fsc: Float64, freedom: Float64, extent_angstrom: float) -> SharedDetail:
    """To what detail two volumes agree that may have nothing in common at the coarsest shells.

    A change that moves density from one place to another has no power at the coarsest shells. So the
    shells that count are the run of neighbours above 0.143 whose agreement is furthest beyond chance; the
    resolution is where it ends.

    Parameters
    ----------
    fsc : (S,) float64
    freedom : (S,) float64
        Independent coefficients of each shell, as of `shell_freedom`.
    extent_angstrom : float
        Edge of the box.
    """
    above = np.append(fsc > HALVES_THRESHOLD, False)
    above[0] = False
    edge = np.flatnonzero(np.diff(above.astype(np.int8), prepend=0))
    runs = [slice(a, b) for a, b in zip(edge[::2], edge[1::2], strict=True)]
    beyond = [freedom[run] @ fsc[run] / np.sqrt(freedom[run].sum()) for run in runs]
    if not runs or max(beyond) < _BEYOND_CHANCE:
        return SharedDetail(np.inf, np.inf, np.inf)
    run = runs[int(np.argmax(beyond))]
    # the first shells of a run hold few numbers: less their error they may be below, and the run is not
    surest = run.start + int(np.argmax((fsc * np.sqrt(freedom))[run]))
    error = (1 - np.minimum(fsc**2, 1)) / np.sqrt(freedom)
    curves = (fsc, fsc + error, fsc - error)
    return SharedDetail(*(_end_of_run(curve, surest, extent_angstrom) for curve in curves))


def _end_of_run(fsc: Float64, start: int, extent_angstrom: float) -> float:
    """Å where a curve falls below 0.143 after shell `start`."""
    below = np.flatnonzero(fsc[start:] < HALVES_THRESHOLD) + start
    if len(below) == 0:
        return extent_angstrom / (len(fsc) - 1)
    s = int(below[0])
    if s == start:
        return extent_angstrom / start
    fraction = (fsc[s - 1] - HALVES_THRESHOLD) / (fsc[s - 1] - fsc[s])
    return float(extent_angstrom / (s - 1 + fraction))


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
    """All curves of two half-maps; corrected as S. Chen et al., Ultramicroscopy 135 (2013) 24–35, do.

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
    masked = masked_fsc(half_maps[0], half_maps[1], mask, shells)
    freedom = shell_freedom(mask, shells)
    below = np.flatnonzero(unmasked[1:] < _RANDOMISE_BELOW) + 1
    if len(below) == 0:
        return FscCurves(unmasked, masked, masked, masked, None, freedom)
    first = int(below[0])
    rng = np.random.default_rng(_SEED)
    draws = []
    for _ in range(_DRAWS):
        noise = [with_random_phases(half, first, rng) for half in half_maps]
        draws.append(masked_fsc(noise[0], noise[1], mask, shells))
    randomised = np.mean(draws, axis=0)
    # where even shell 1 is below, no shell is known to be good: all of them are corrected
    start = first + _MARGIN if first > 1 else first
    chance = np.clip(randomised, 0, _LARGEST_RANDOMISED)
    corrected = masked.copy()
    corrected[start:] = ((masked - chance) / (1 - chance))[start:]
    return FscCurves(unmasked, masked, randomised, corrected, first, freedom)


def shell_freedom(mask: Float32, shells: int) -> Float64:
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
