"""Compiled inner products and combinations of image-plane arrays (one image's data stays in cache).

Sums over pixels run in float32 lanes over blocks of 256 values and are added up in float64: the blocks
are short enough that no digits are lost, the lanes are what makes it fast.

Slices that are not numpy arrays lie on a device (`Projector.empty`); `device_kernels.py` works there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.compilation import compiled
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_BLOCK = 256


@compiled()
def _gram(slices, image, out, first, last):  # type: ignore[no-untyped-def]
    channels, length = slices.shape[1], slices.shape[2]
    for b in range(first, last):
        for i in range(channels + 1):
            for j in range(i + 1):
                total = np.float64(0.0)
                for start in range(0, length, _BLOCK):
                    stop = min(start + _BLOCK, length)
                    left = slices[b, i, start:stop] if i < channels else image[b, start:stop]
                    right = slices[b, j, start:stop] if j < channels else image[b, start:stop]
                    part = np.float32(0.0)
                    for p in range(len(left)):
                        part += left[p] * right[p]
                    total += part
                out[b, i, j] = total
                out[b, j, i] = total


@compiled()
def _pose_products(slices, tangent, image, moment, wave, out, first, last):  # type: ignore[no-untyped-def]
    """Eight arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours."""
    channels, length = slices.shape[1], slices.shape[2]
    rows = np.empty((5, _BLOCK), np.float32)
    expected = np.empty(_BLOCK, np.float32)
    for b in range(first, last):
        out[b] = 0.0
        for start in range(0, length, _BLOCK):
            size = min(_BLOCK, length - start)
            for p in range(size):
                expected[p] = 0.0
            for c in range(channels):
                factor, source = moment[b, c], slices[b, c, start : start + size]
                for p in range(size):
                    expected[p] += factor * source[p]
            for d in range(3):
                for p in range(size):
                    rows[d, p] = tangent[b, d, start + p]
            for d in range(2):
                k = wave[d, start // 2 : (start + size) // 2]
                for p in range(size // 2):  # 2πi k ŷ
                    rows[3 + d, 2 * p] = -k[p] * expected[2 * p + 1]
                    rows[3 + d, 2 * p + 1] = k[p] * expected[2 * p]
            for i in range(5):
                left = rows[i]
                for j in range(i, 5 + channels + 1):
                    if j < 5:
                        right = rows[j, :size]
                    elif j < 5 + channels:
                        right = slices[b, j - 5, start : start + size]
                    else:
                        right = image[b, start : start + size]
                    part = np.float32(0.0)
                    for p in range(size):
                        part += left[p] * right[p]
                    out[b, i, j] += part
        for i in range(5):
            for j in range(i):
                out[b, i, j] = out[b, j, i]


def gram(slices: Any, image: Complex64, team: ThreadTeam) -> Float64:
    """All real inner products among an image's slices and its data.

    Parameters
    ----------
    slices : (B, C, n) complex64
        CTF-modulated, weight-folded slices of the C columns.
    image : (B, n) complex64
        Whitened data, weight-folded.

    Returns
    -------
    (B, C + 1, C + 1) float64
        Gram matrices of (slices…, image): every per-image statistic of the model is a function of it.
    """
    if not isinstance(slices, np.ndarray):
        from solvar.estimation import device_kernels

        return device_kernels.gram(slices, image)
    count, channels, _ = slices.shape
    out = np.empty((count, channels + 1, channels + 1))
    real, data = slices.view(np.float32), image.view(np.float32)
    size = real.shape[1] * real.shape[2]
    team.over_items(count, size, lambda first, last: _gram(real, data, out, first, last))
    return out


def residual(
    slices: Any,
    image: Complex64,
    second: Float64,
    first: Float64,
    team: ThreadTeam,
    out: Any,
) -> None:
    """The expected residual weighted by the latents, E·S - y·ζᵀ.

    Parameters
    ----------
    slices : (B, C, n) complex64
    image : (B, n) complex64
    second : (B, C, K) float64
        Second moments S of the C coefficients with the first K ones.
    first : (B, K) float64
        First moments of ζ, the first K coefficients.
    out : (B, K, n) complex64
        Memory of its own, of the kind of the slices.
    """
    if not isinstance(slices, np.ndarray):
        from solvar.estimation import device_kernels

        return device_kernels.residual(slices, image, second, first, out)
    real, data, written = (array.view(np.float32) for array in (slices, image, out))
    mixing = second.transpose(0, 2, 1).astype(np.float32)
    moment = first.astype(np.float32)[:, :, None]

    def some(begin: int, end: int) -> None:
        here = slice(begin, end)
        np.matmul(mixing[here], real[here], out=written[here])
        written[here] -= moment[here] * data[here, None]

    # a library's matrix product is three times as fast as loops of ours (docs/decisions/0008)
    team.over_items(len(slices), real.shape[1] * real.shape[2], some)


def pose_products(
    slices: Any,
    tangent: Any,
    image: Complex64,
    first: Float64,
    wave: Float32,
    team: ThreadTeam,
) -> Float64:
    """Inner products of the five pose derivatives J of the expected image ŷ = Σ_c ζ_c E_c.

    Parameters
    ----------
    slices : (B, C, n) complex64
        E.
    tangent : (B, 3, n) complex64
        Rotation derivatives of ŷ.
    image : (B, n) complex64
    first : (B, C) float64
        ζ.
    wave : (2, n) float32
        2πk: a shift by t multiplies the data by exp(-2πi k·t), as good as multiplying ŷ by exp(2πi k·t).

    Returns
    -------
    (B, 5, 5 + C + 1) float64
        Of J with (J, E, y).
    """
    if not isinstance(slices, np.ndarray):
        from solvar.estimation import device_kernels

        return device_kernels.pose_products(slices, tangent, image, first, wave)
    count, channels, _ = slices.shape
    out = np.empty((count, 5, 6 + channels))
    e, t, y = (array.view(np.float32) for array in (slices, tangent, image))
    moment = first.astype(np.float32)
    team.over_items(
        count, channels * e.shape[2], lambda a, b: _pose_products(e, t, y, moment, wave, out, a, b)
    )
    return out


def on_host(slices: Any) -> Complex64:
    """Slices as a numpy array, wherever they lie."""
    found: Complex64 = slices if isinstance(slices, np.ndarray) else slices.cpu().numpy()
    return found
