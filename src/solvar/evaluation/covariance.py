"""How well estimated eigenvolumes span the true ones.

Everything is compared inside one mask and below one frequency: beyond, an estimate would be judged
by what no data at the usual noise level could have told it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import hermitian_weight
from solvar.imaging.fsc import covariance_fsc

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_NEGLIGIBLE = 1e-6  # relative length below which a direction is rounding


def captured_variance(
    eigenvolumes: Float32,
    truth_eigenvolumes: Float32,
    rank: int | None = None,
    mask: Float32 | None = None,
    k_c: float | None = None,
) -> float:
    """Share of the true variance that the estimated subspace holds, relative to the best possible.

    ‖UᵀW‖²_F over the sum of the `rank` largest squared singular values of W, where W are the true
    scaled eigenvolumes and U an orthonormal basis of the estimated ones, all masked and low-passed.

    Parameters
    ----------
    eigenvolumes : (r, L, L, L)
        Estimated; scale and orthogonality do not matter.
    truth_eigenvolumes : (q, L, L, L)
        True eigenvolumes × √eigenvalue, all that are known.
    rank : int, optional
        Use only the first `rank` estimated eigenvolumes.
    mask : (L, L, L), optional
    k_c : float, optional
        Hard cut: |k| ≤ k_c is compared. Default L/4, half Nyquist.

    Returns
    -------
    float
        1 for the best subspace of this rank, 0 for none or an orthogonal one; NaN without truth.
    """
    curve = captured_variance_by_rank(eigenvolumes[:rank], truth_eigenvolumes, mask, k_c)
    return float(curve[-1]) if len(curve) else 0.0


def captured_variance_by_rank(
    eigenvolumes: Float32,
    truth_eigenvolumes: Float32,
    mask: Float32 | None = None,
    k_c: float | None = None,
) -> Float64:
    """`captured_variance` of the first 1, 2, … r estimated eigenvolumes, (r,) float64."""
    if not len(eigenvolumes):
        return np.empty(0)
    estimate = _orthonormal(_band(eigenvolumes, mask, k_c))
    truth = _band(truth_eigenvolumes, mask, k_c)
    captured = ((estimate @ truth.T) ** 2).sum(axis=1).cumsum()
    best = np.zeros(len(estimate))
    singular = np.linalg.svd(truth, compute_uv=False)[: len(best)] if len(truth) else np.empty(0)
    best[: len(singular)] = singular**2
    best = best.cumsum()
    return np.divide(captured, best, out=np.full(len(best), np.nan), where=best > 0)


def variance_along(eigenvolumes: Float32, truth_eigenvolumes: Float32) -> Float64:
    """True variance along each unit eigenvolume, (r,) float64: what its eigenvalue estimates.

    Neither masked nor low-passed, in the units of eigenvalues.
    """
    voxels = (1, 2, 3)
    overlap = np.tensordot(eigenvolumes, truth_eigenvolumes, axes=(voxels, voxels))
    return (overlap.astype(np.float64) ** 2).sum(axis=1)


def principal_angles(
    eigenvolumes: Float32,
    truth_eigenvolumes: Float32,
    mask: Float32 | None = None,
    k_c: float | None = None,
) -> Float64:
    """Principal angles between the two spans in degrees, ascending, (min(r, q),) float64.

    Masked and low-passed as in `captured_variance`; pass the first r true eigenvolumes to compare
    subspaces of equal dimension.
    """
    if not len(eigenvolumes) or not len(truth_eigenvolumes):
        return np.empty(0)
    first, second = (
        _orthonormal(_band(volumes, mask, k_c)) for volumes in (eigenvolumes, truth_eigenvolumes)
    )
    cosine = np.linalg.svd(first @ second.T, compute_uv=False)
    return np.rad2deg(np.arccos(np.clip(cosine, 0, 1)))


def covariance_fsc_curve(
    scaled_eigenvolumes: Float32,
    truth_eigenvolumes: Float32,
    mask: Float32 | None = None,
) -> Float64:
    """Correlation of the estimated and the true covariance within each shell, (L // 2 + 1,) float64.

    The diagonal of `covariance_fsc`: 1 where Σ(k, k') agrees up to its scale for k and k' in that shell.
    It compares products of two amplitudes; its root compares with the FSC of a volume.

    Parameters
    ----------
    scaled_eigenvolumes : (r, L, L, L)
        Estimated eigenvolumes × √eigenvalue, or any rotation of them.
    truth_eigenvolumes : (q, L, L, L)
        True ones, scaled likewise.
    mask : (L, L, L), optional
    """
    shells = truth_eigenvolumes.shape[-1] // 2 + 1
    if not len(scaled_eigenvolumes) or not len(truth_eigenvolumes):
        return np.zeros(shells)
    if mask is not None:
        scaled_eigenvolumes, truth_eigenvolumes = (
            scaled_eigenvolumes * mask,
            truth_eigenvolumes * mask,
        )
    return np.diag(covariance_fsc(scaled_eigenvolumes, truth_eigenvolumes, shells)).copy()


def band_correlation(
    volume: Float32,
    truth: Float32,
    mask: Float32 | None = None,
    k_c: float | None = None,
) -> float:
    """Correlation coefficient of two volumes (L, L, L), masked and low-passed as the rest."""
    first, second = (_band(v[None], mask, k_c)[0] for v in (volume, truth))
    return float(first @ second / max(np.linalg.norm(first) * np.linalg.norm(second), 1e-300))


def _band(volumes: Float32, mask: Float32 | None, k_c: float | None) -> Float64:
    """Masked volumes as real vectors of their Fourier coefficients at |k| ≤ k_c.

    Weights make Euclidean inner products of the vectors those of the low-passed volumes.
    """
    box = volumes.shape[-1]
    full, half = np.fft.fftfreq(box, 1 / box), np.arange(box // 2 + 1)
    k_squared = full[:, None, None] ** 2 + full[:, None] ** 2 + half**2
    inside = k_squared <= (box / 4 if k_c is None else k_c) ** 2
    weight = np.broadcast_to(np.sqrt(hermitian_weight(box) / box**3), inside.shape)[inside]
    rows = np.empty((len(volumes), 2 * len(weight)))
    for row, volume in zip(rows, volumes, strict=True):
        spectrum = np.fft.rfftn(volume if mask is None else volume * mask)[inside] * weight
        row[: len(weight)], row[len(weight) :] = spectrum.real, spectrum.imag
    return rows


def _orthonormal(rows: Float64) -> Float64:
    """Gram-Schmidt in order; a row that adds no direction becomes zero."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    if len(unit) > unit.shape[1]:
        unit = unit[: unit.shape[1]]
    q, r = np.linalg.qr(unit.T)
    return (q * (np.abs(np.diag(r)) > _NEGLIGIBLE)).T
