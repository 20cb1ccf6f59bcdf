"""Exact voxel volumes of Gaussian blobs, and the Fourier sums they share with projections.

A blob of weight w and width σ at r has the transform w exp(-2π²σ²|k|²/X²) exp(-2πi k·r/X), X = box
size × pixel size. The exponential of k·r is a product over the axes, so a sum over blobs on a whole
grid is a matrix product of two small tables of phases: exact, no interpolation. Nothing is put at
|k| ≥ L/2, where a voxel grid could not hold it without aliasing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]


def half_frequencies(box_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Integer frequencies of the rows (L, FFT order) and columns (L/2 + 1) of a real transform."""
    rows = np.rint(np.fft.fftfreq(box_size) * box_size).astype(np.int64)
    return rows, np.arange(box_size // 2 + 1)


def phase_table(coordinate: Float64, frequency: NDArray[np.int64], extent: float) -> Complex64:
    """exp(-2πi k x / extent), (..., m, A) complex64, of coordinates (..., A), frequencies (m,)."""
    turns = frequency[:, None] * (np.asarray(coordinate, np.float64)[..., None, :] / extent)
    # reduced to one turn in float64: the cheap float32 sine then loses nothing
    angle = (-2 * np.pi * (turns - np.rint(turns))).astype(np.float32)
    table = np.empty(angle.shape, np.complex64)
    table.real, table.imag = np.cos(angle), np.sin(angle)
    return table


def blob_envelope(k_squared: NDArray[np.int64], sigma_angstrom: float, extent: float) -> Float32:
    """exp(-2π²σ²|k|²/extent²) at the given |k|²."""
    return np.exp(-2 * (np.pi * sigma_angstrom / extent) ** 2 * k_squared).astype(np.float32)


def blob_volume(
    positions: Float64,
    weights: Float64,
    sigma_angstrom: float,
    box_size: int,
    pixel_size_angstrom: float,
) -> Float32:
    """Voxel volume of Gaussian blobs, band-limited to |k| < L/2.

    Parameters
    ----------
    positions : (A, 3)
        Å, xyz, relative to the voxel at index L // 2.
    weights : (A,)
        Integrals; the voxels of the volume add up to their sum.
    sigma_angstrom : float
    box_size, pixel_size_angstrom
        L (even) and the voxel size.

    Returns
    -------
    (L, L, L) float32
        Axes z, y, x.
    """
    extent = box_size * pixel_size_angstrom
    rows, columns = half_frequencies(box_size)
    x = phase_table(positions[:, 0], columns, extent).T
    y = phase_table(positions[:, 1], rows, extent)
    z = phase_table(positions[:, 2], rows, extent) * np.asarray(weights, np.float32)
    transform = np.zeros((box_size, box_size, box_size // 2 + 1), np.complex64)
    in_plane = rows[:, None] ** 2 + columns**2
    for index, kz in enumerate(rows):
        k_squared = in_plane + kz**2
        inside = k_squared < (box_size / 2) ** 2
        if inside.any():
            envelope = blob_envelope(k_squared, sigma_angstrom, extent)
            transform[index] = ((y * z[index]) @ x) * (envelope * inside)
    volume = np.fft.irfftn(transform, s=(box_size,) * 3, axes=(0, 1, 2))
    return np.fft.fftshift(volume).astype(np.float32)
