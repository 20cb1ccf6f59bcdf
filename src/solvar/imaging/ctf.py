"""The contrast transfer function.

Positive at low frequency, so that bright protein has positive density (cryoDRGN's has the other
sign).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.optics import CtfParameters, Optics

Float64 = NDArray[np.float64]


def electron_wavelength(voltage_kv: Float64) -> Float64:
    """Relativistic electron wavelength in Å."""
    volt = np.asarray(voltage_kv, dtype=np.float64) * 1e3
    return 12.2642596 / np.sqrt(volt * (1.0 + 0.978475598e-6 * volt))


def evaluate_ctf(
    kx: NDArray[np.integer],
    ky: NDArray[np.integer],
    extent_angstrom: float,
    ctf: CtfParameters,
    optics: Optics,
    optics_group: NDArray[np.int64],
) -> Float64:
    """CTF of N particles at n Fourier pixels.

    With s² = |k|² / extent² and df the astigmatic defocus along the pixel's direction,
    χ = πλ df s² - ½π Cs λ³ s⁴ + phase and C = √(1-w²) sin χ + w cos χ, times exp(-B s²/4).

    Parameters
    ----------
    kx, ky : (n,) int
        Integer frequencies along image columns and rows.
    extent_angstrom : float
        Box size × pixel size: the period of the Fourier grid, unchanged by Fourier cropping.
    ctf, optics, optics_group
        As in `ParticleSet`.

    Returns
    -------
    (N, n) float64
    """
    wavelength = electron_wavelength(optics.voltage_kv)[optics_group][:, None]
    cs = (optics.spherical_aberration_mm * 1e7)[optics_group][:, None]
    w = optics.amplitude_contrast[optics_group][:, None]
    s2 = (kx.astype(np.float64) ** 2 + ky.astype(np.float64) ** 2) / extent_angstrom**2
    angle = np.arctan2(ky, kx)
    # cos 2(φ-angle) expanded, so that the (N, n) part is two multiply-adds and not a cosine
    twice = 2.0 * ctf.defocus_angle_radian[:, None]
    astigmatism = np.cos(twice) * np.cos(2 * angle) + np.sin(twice) * np.sin(2 * angle)
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)[:, None]
    half = 0.5 * (ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)[:, None]
    chi = np.pi * wavelength * s2 * (mean + half * astigmatism)
    chi += ctf.phase_shift_radian[:, None] - 0.5 * np.pi * cs * wavelength**3 * s2**2
    # √(1-w²) sin χ + w cos χ in one sine
    value = np.sin(chi + np.arcsin(w))
    bfactor = ctf.bfactor_angstrom2[:, None]
    return value * np.exp(-0.25 * bfactor * s2) if bfactor.any() else value
