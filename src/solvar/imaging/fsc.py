"""Fourier shell correlation of volumes and of covariances, and the resolution that a curve says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import hermitian_weight, volume_shells

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def shell_products(first: Float32, second: Float32, shells: int) -> Float64:
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
    import scipy.fft

    box = first.shape[-1]
    shell = volume_shells(box).ravel()
    weight = np.broadcast_to(hermitian_weight(box), (box, box, box // 2 + 1)).ravel()
    order = np.argsort(shell, kind="stable")
    edges = np.searchsorted(shell[order], np.arange(shells + 1))
    left = scipy.fft.rfftn(first, axes=(1, 2, 3)).reshape(len(first), -1)
    right = scipy.fft.rfftn(second, axes=(1, 2, 3)).reshape(len(second), -1)
    out = np.empty((shells, len(first), len(second)))
    for s in range(shells):
        members = order[edges[s] : edges[s + 1]]
        w = weight[members].astype(np.float64)
        out[s] = ((left[:, members] * w) @ right[:, members].conj().T).real / w.sum()
    return out


def fourier_shell_correlation(first: Float32, second: Float32, shells: int) -> Float64:
    """Fourier shell correlation of two volumes, (L, L, L) each -> (shells,)."""
    product = shell_products(np.stack([first, second]), np.stack([first, second]), shells)
    return product[:, 0, 1] / np.sqrt(np.maximum(product[:, 0, 0] * product[:, 1, 1], 1e-60))


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

    def blocks(a: Float32, b: Float32) -> Float64:
        product = shell_products(a, b, shells)
        return np.einsum("sij,tij->st", product, product)

    norm = blocks(first, first) * blocks(second, second)
    return blocks(first, second) / np.sqrt(np.maximum(norm, 1e-60))


def resolution(fsc: Float64, extent_angstrom: float, threshold: float = 0.143) -> float:
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
