"""What a reviewer asks: do latents follow something that is not structure, do clusters see all views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# An association is worth a warning if it is both beyond chance and large enough to shape a picture.
R_SQUARED_WARNING = 0.05
P_VALUE_WARNING = 1e-3
COVERAGE_WARNING = 0.5
KS_WARNING = 0.05
_VIEWS = 48  # bins of half the sphere: 13° wide, enough to see a missing cone
_ENERGY_PARTICLES = 20_000


@dataclass(frozen=True)
class Association:
    """How much of a component's variance a factor explains.

    Attributes
    ----------
    factor : str
    component : int
        From 1.
    r_squared : float
        Adjusted for the number of regressors; about 0 without association.
    p_value : float
        F-test of all regressors.
    """

    factor: str
    component: int
    r_squared: float
    p_value: float

    @property
    def worrying(self) -> bool:
        """Beyond chance, and at least 5 % of the variance."""
        return self.p_value < P_VALUE_WARNING and self.r_squared > R_SQUARED_WARNING


@dataclass(frozen=True)
class HalfsetAgreement:
    """Distribution of one component (from 1) in the two half-sets: Kolmogorov-Smirnov and energy."""

    component: int
    ks_distance: float
    p_value: float
    energy_distance: float

    @property
    def worrying(self) -> bool:
        """Beyond chance, and a visible difference."""
        return self.p_value < P_VALUE_WARNING and self.ks_distance > KS_WARNING


def view_harmonics(rotation: Float64) -> Float64:
    """Real spherical harmonics (N, 8) with l = 1 and 2, unnormalised, of the viewing directions.

    Parameters
    ----------
    rotation : (N, 3, 3) float64
        The viewing direction is the third column, xyz.
    """
    x, y, z = rotation[:, :, 2].T
    return np.stack([x, y, z, x * y, y * z, z * x, x**2 - y**2, 3 * z**2 - 1], axis=1)


def regress(values: Float64, regressors: Float64) -> tuple[Float64, Float64]:
    """Adjusted R² and p-value (m,) of linear regressions of `values` (N, m) on `regressors` (N, p).

    Regressors without variance are left out; without any, R² is 0 and p is 1.
    """
    centred = regressors - regressors.mean(axis=0)
    spread = centred.std(axis=0)
    centred = centred[:, spread > 1e-9 * np.maximum(1, np.abs(regressors).max(axis=0))]
    values = values - values.mean(axis=0)
    if centred.shape[1] == 0:
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    left, singular, _ = np.linalg.svd(centred / centred.std(axis=0), full_matrices=False)
    left = left[:, singular > 1e-6 * singular[0]]
    explained = ((left.T @ values) ** 2).sum(axis=0)
    return _f_test(explained, (values**2).sum(axis=0), left.shape[1], len(values))


def compare_groups(values: Float64, group: Int64) -> tuple[Float64, Float64]:
    """Adjusted R² and p-value (m,) of one-way analyses of variance of `values` (N, m) by `group`."""
    _, group, size = np.unique(group, return_inverse=True, return_counts=True)
    values = values - values.mean(axis=0)
    sums = np.stack([np.bincount(group, column, len(size)) for column in values.T], axis=1)
    explained = (sums**2 / size[:, None]).sum(axis=0)
    return _f_test(explained, (values**2).sum(axis=0), len(size) - 1, len(values))


def _f_test(explained: Float64, total: Float64, p: int, count: int) -> tuple[Float64, Float64]:
    from scipy.stats import f

    rest = count - p - 1
    if p < 1 or rest < 1:
        return np.zeros(len(total)), np.ones(len(total))
    share = np.clip(explained / np.maximum(total, np.finfo(float).tiny), 0, 1 - 1e-12)
    p_value = f.sf((share / p) / ((1 - share) / rest), p, rest)
    return 1 - (1 - share) * (count - 1) / rest, p_value


def associations(
    z: Float64, components: Int64, factors: Mapping[str, NDArray[Any]]
) -> list[Association]:
    """Test each component against each factor.

    Parameters
    ----------
    z : (N, r) float64
    components : (m,) int64
        Zero-based columns of `z`.
    factors : mapping
        (N, p) float64 regressors, or (N,) int64 group numbers.
    """
    found = []
    for name, factor in factors.items():
        values = z[:, components]
        judge = compare_groups if factor.ndim == 1 else regress
        test = judge(values, factor)
        for component, r_squared, p_value in zip(components, *test, strict=True):
            found.append(Association(name, int(component) + 1, float(r_squared), float(p_value)))
    return found


def angular_coverage(rotation: Float64, label: Int64) -> Float64:
    """Evenness (K,) of each cluster's views relative to all particles' views.

    The effective number of 48 equal bins of half the sphere (exponential of the entropy, with the
    Miller-Madow correction for small clusters) over that of the whole set: 1 is as even as the set.
    Opposite views count as one, because their images are mirrors of each other.

    Parameters
    ----------
    rotation : (N, 3, 3) float64
    label : (N,) int64
    """
    clusters = int(label.max()) + 1
    counts = np.bincount(label * _VIEWS + _view_bin(rotation), minlength=clusters * _VIEWS)
    counts = counts.reshape(clusters, _VIEWS)
    whole = _effective_number(counts.sum(axis=0))
    return np.array([_effective_number(count) for count in counts]) / whole


def _view_bin(rotation: Float64) -> Int64:
    """Nearest of 48 axes (N,) of a Fibonacci lattice on half the sphere."""
    step = np.arange(_VIEWS)
    height = (step + 0.5) / _VIEWS
    angle = step * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - height**2)
    axes = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)
    found = np.empty(len(rotation), np.int64)
    for first in range(0, len(rotation), 1 << 16):
        part = slice(first, first + (1 << 16))
        found[part] = np.abs(rotation[part, :, 2] @ axes.T).argmax(axis=1)
    return found


def _effective_number(counts: Int64) -> float:
    seen = counts[counts > 0]
    share = seen / seen.sum()
    entropy = -(share * np.log(share)).sum() + (len(seen) - 1) / (2 * seen.sum())
    return float(min(np.exp(entropy), len(counts)))


def compare_halves(
    z: Float64, components: Int64, halfset: NDArray[np.integer], seed: int = 0
) -> list[HalfsetAgreement]:
    """Compare the latents (N, r) of half-sets 1 and 2; empty if there is only one.

    Energy distances are in prior-free units: the component is divided by its standard deviation.
    """
    from scipy.stats import energy_distance, ks_2samp

    halves = [np.flatnonzero(halfset == half) for half in (1, 2)]
    if min(len(half) for half in halves) < 2:
        return []
    rng = np.random.default_rng(seed)
    few = [rng.permutation(half)[:_ENERGY_PARTICLES] for half in halves]
    found = []
    for component in components:
        values = z[:, component] / max(float(z[:, component].std()), np.finfo(float).tiny)
        test = ks_2samp(values[halves[0]], values[halves[1]], method="asymp")
        energy = energy_distance(values[few[0]], values[few[1]])
        found.append(
            HalfsetAgreement(
                int(component) + 1, float(test.statistic), float(test.pvalue), float(energy)
            )
        )
    return found


_ADVICE = {
    "viewing direction": "errors of the poses or preferred views may pass for motion; compare the "
    "components of the two half-sets, and the volumes of clusters with even views",
    "defocus": "errors of the CTF may pass for motion",
    "shift": "errors of the centring may pass for motion",
    "micrograph": "ice or beam differences between micrographs may pass for motion",
    "height": "what lies at the surfaces of the ice, or a wrong hand of the tilt series, may pass for motion",
    "tomogram": "differences between specimens or their alignments may pass for motion",
    "contrast": "thickness of the ice or a wrong mask may pass for motion",
}


def plain_warnings(
    found: list[Association], coverage: Float64, halves: list[HalfsetAgreement]
) -> list[str]:
    """One sentence for each finding that should be looked at."""
    told = [
        f"Component {one.component} follows the {one.factor} ({100 * one.r_squared:.0f} % of its "
        f"variance): {_ADVICE[one.factor]}."
        for one in found
        if one.worrying
    ]
    told += [
        f"Cluster {k + 1} sees only {100 * share:.0f} % of the views of the whole set: "
        "its volume may be stretched."
        for k, share in enumerate(coverage)
        if share < COVERAGE_WARNING
    ]
    told += [
        f"Component {one.component} is distributed differently in the two half-sets "
        f"(Kolmogorov-Smirnov distance {one.ks_distance:.2f}): they may not come from the same sample."
        for one in halves
        if one.worrying
    ]
    return told
