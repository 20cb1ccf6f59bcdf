"""Exact projections of Gaussian blobs, and coloured noise.

The image of a particle with rotation R is the sum of the density along the beam: the blob at r is
seen at the first two components of Rᵀ r, which is v̂(R·(kx, ky, 0)) in Fourier space.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.simulation.volumes import (
    Complex64,
    Float32,
    Float64,
    blob_envelope,
    half_frequencies,
    phase_table,
)


def disc_pixels(box_size: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Where |k| < L/2 on the (L, L/2 + 1) grid of a real transform, with kx and ky there."""
    rows, columns = half_frequencies(box_size)
    inside = rows[:, None] ** 2 + columns**2 < (box_size / 2) ** 2
    ky, kx = np.broadcast_arrays(rows[:, None], columns)
    return inside, kx[inside], ky[inside]


def project_blobs(
    positions: Float64,
    weights: Float64,
    sigma_angstrom: float,
    rotation: Float64,
    offset_angstrom: Float64,
    box_size: int,
    pixel_size_angstrom: float,
) -> Complex64:
    """Transforms of the projections of n blob sums.

    Parameters
    ----------
    positions : (n, A, 3)
        Å, xyz.
    weights : (n, A)
    sigma_angstrom : float
    rotation : (n, 3, 3)
        R of the module docstring.
    offset_angstrom : (n, 2)
        Where each particle sits (x, y); the shift that centres it is the negative.
    box_size, pixel_size_angstrom
        L (even) and the pixel size.

    Returns
    -------
    (n, L, L/2 + 1) complex64
        Unnormalised, origin of the image at index L // 2; zero at |k| ≥ L/2.
    """
    extent = box_size * pixel_size_angstrom
    rows, columns = half_frequencies(box_size)
    # r @ R[:, :2] is (Rᵀ r)_x,y
    seen = positions @ rotation[:, :, :2] + offset_angstrom[:, None, :]
    y = phase_table(seen[..., 1], rows, extent) * np.asarray(weights, np.float32)[:, None, :]
    x = phase_table(seen[..., 0], columns, extent)
    transform: Complex64 = (y @ np.swapaxes(x, -1, -2)).astype(np.complex64, copy=False)
    inside, _, _ = disc_pixels(box_size)
    k_squared = rows[:, None] ** 2 + columns**2
    transform *= inside * blob_envelope(k_squared, sigma_angstrom, extent)
    return transform


def to_images(transform: Complex64) -> Float32:
    """Inverse transform (n, L, L/2 + 1) -> (n, L, L) float32: rows y, columns x, origin L // 2."""
    box_size = transform.shape[-2]
    images = np.fft.irfft2(transform, s=(box_size, box_size), axes=(-2, -1))
    return np.fft.fftshift(images, axes=(-2, -1)).astype(np.float32)


def noise_spectrum(box_size: int, colour: float) -> Float64:
    """Noise power at every Fourier pixel, (L, L), centred (DC at L // 2), mean 1.

    White, plus `colour` times as much at the lowest frequencies: 1 + colour·exp(-(|k|/(L/8))²).
    """
    k = np.arange(box_size) - box_size // 2
    k_squared = k[:, None] ** 2 + k**2
    power = 1 + colour * np.exp(-k_squared / (box_size / 8) ** 2)
    return power / power.mean()


def noise_images(power: Float64, index: NDArray[np.int64], seed: int) -> Float32:
    """Stationary Gaussian noise of unit pixel variance for the particles `index`.

    Each particle has a generator of its own, so an image does not depend on how the set is divided
    into chunks.

    Parameters
    ----------
    power : (n, L, L)
        Centred power spectrum of each image, mean 1.
    index : (n,) int
        Particle numbers.
    seed : int

    Returns
    -------
    (n, L, L) float32
    """
    box_size = power.shape[-1]
    white = np.empty((len(index), box_size, box_size), np.float32)
    for slot, particle in enumerate(index):
        rng = np.random.default_rng([seed, 2, int(particle)])
        rng.standard_normal(dtype=np.float32, out=white[slot])
    gain = np.sqrt(np.fft.ifftshift(power, axes=(-2, -1))[..., : box_size // 2 + 1])
    transform = np.fft.rfft2(white, axes=(-2, -1)) * gain.astype(np.float32)
    return np.fft.irfft2(transform, s=(box_size, box_size), axes=(-2, -1)).astype(np.float32)
