"""Aberrations beyond defocus, astigmatism and Cs: phases at each Fourier pixel of an optics group.

They are Zernike polynomials Z(m, n) of the frequency in 1/Å (the radius is not divided by an aperture),
R(|m|, n)·cos(mφ) for m ≥ 0 and R(|m|, n)·sin(|m|φ) for m < 0, in the order of RELION: n rises, and within an
n so does m. With c the coefficients, τ the beam tilt in radians and s the frequency,

    even    the CTF is sin(χ + asin w) with χ reduced by Σ c Z
    odd     the transform of an image is multiplied by exp(i θ), θ = Σ c Z - 2π Cs λ² |s|² (s·τ)

Both were read off images that RELION 3.1 made (docs/conventions.md).
"""

from __future__ import annotations

from math import factorial

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.optics import Optics

Complex64 = NDArray[np.complex64]
Float64 = NDArray[np.float64]


def electron_wavelength(voltage_kv: Float64) -> Float64:
    """Relativistic electron wavelength in Å."""
    volt = np.asarray(voltage_kv, dtype=np.float64) * 1e3
    return 12.2642596 / np.sqrt(volt * (1.0 + 0.978475598e-6 * volt))


def zernike_orders(parity: int, count: int) -> list[tuple[int, int]]:
    """(m, n) of the first `count` polynomials with n even (parity 0) or odd (parity 1)."""
    orders: list[tuple[int, int]] = []
    n = parity
    while len(orders) < count:
        orders += [(m, n) for m in range(-n, n + 1, 2)]
        n += 2
    return orders[:count]


def zernike(m: int, n: int, x: Float64, y: Float64) -> Float64:
    """Z(m, n) at frequencies x, y of any shape."""
    radius, angle, order = np.hypot(x, y), np.arctan2(y, x), abs(m)
    radial = np.zeros_like(radius)
    for k in range((n - order) // 2 + 1):
        below = factorial(k) * factorial((n + order) // 2 - k) * factorial((n - order) // 2 - k)
        radial += (-1) ** k * factorial(n - k) / below * radius ** (n - 2 * k)
    return radial * (np.cos(order * angle) if m >= 0 else np.sin(order * angle))


def even_phase(x: Float64, y: Float64, optics: Optics) -> Float64 | None:
    """By how much aberrations reduce χ at frequencies x, y (G, n) in 1/Å; radians, or None for nothing."""
    if optics.even_zernike is None:
        return None
    return _weighted(optics.even_zernike, 0, x, y)


def odd_correction(
    kx: NDArray[np.integer],
    ky: NDArray[np.integer],
    extent_angstrom: float | Float64,
    optics: Optics,
) -> Complex64 | None:
    """exp(-iθ) at Fourier pixels kx, ky (n,) of images of an extent in Å, one or (G,) of them.

    Returns
    -------
    (G, n) complex64 or None
        None where there is nothing to correct.
    """
    if optics.odd_zernike is None and optics.beam_tilt_mrad is None:
        return None
    x, y = undistorted(kx, ky, optics)
    extent = np.reshape(extent_angstrom, (-1, 1))
    return np.exp(-1j * odd_phase(x / extent, y / extent, optics)).astype(np.complex64)


def odd_phase(x: Float64, y: Float64, optics: Optics) -> Float64:
    """The phase θ of the transform of an image at frequencies x, y (G, n) in 1/Å; (G, n) radians."""
    phase = np.zeros(np.broadcast_shapes(x.shape, (len(optics.name), 1)))
    if optics.odd_zernike is not None:
        phase += _weighted(optics.odd_zernike, 1, x, y)
    if optics.beam_tilt_mrad is not None:
        tilt = optics.beam_tilt_mrad * 1e-3
        along = x * tilt[:, :1] + y * tilt[:, 1:]
        cs = optics.spherical_aberration_mm * 1e7
        factor = 2 * np.pi * cs * electron_wavelength(optics.voltage_kv) ** 2
        phase -= factor[:, None] * (x**2 + y**2) * along
    return phase


def undistorted(
    kx: NDArray[np.integer], ky: NDArray[np.integer], optics: Optics
) -> tuple[Float64, Float64]:
    """What Fourier pixels kx, ky (n,) would be without the magnification, M·k: (G, n), or (1, n) for all."""
    x, y = kx.astype(np.float64)[None], ky.astype(np.float64)[None]
    if optics.magnification is None:
        return x, y
    m = optics.magnification[..., None]
    return m[:, 0, 0] * x + m[:, 0, 1] * y, m[:, 1, 0] * x + m[:, 1, 1] * y


def _weighted(coefficients: Float64, parity: int, x: Float64, y: Float64) -> Float64:
    """Σ c Z of each group."""
    total = np.zeros(np.broadcast_shapes(x.shape, (len(coefficients), 1)))
    orders = zernike_orders(parity, coefficients.shape[1])
    for (m, n), weight in zip(orders, coefficients.T, strict=True):
        if weight.any():
            total += weight[:, None] * zernike(m, n, x, y)
    return total
