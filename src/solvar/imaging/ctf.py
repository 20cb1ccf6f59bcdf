"""The contrast transfer function.

Positive at low frequency, so that bright protein has positive density (cryoDRGN's has the other
sign).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.aberrations import electron_wavelength, even_phase, undistorted
from solvar.imaging.optics import CtfParameters, Optics

Float64 = NDArray[np.float64]

# the critical exposure at these voltages (kV), as a share of that at 300 kV
_STRENGTH = ((200.0, 300.0), (0.8, 1.0))


def evaluate_ctf(
    kx: NDArray[np.integer],
    ky: NDArray[np.integer],
    extent_angstrom: float | Float64,
    ctf: CtfParameters,
    optics: Optics,
    optics_group: NDArray[np.int64],
) -> Float64:
    """CTF of N particles at n Fourier pixels.

    With s² = |M k|² / extent², M the magnification of the optics group, and df the astigmatic defocus along
    M k, χ = πλ df s² - ½π Cs λ³ s⁴ + phase - (symmetric aberrations) and C = √(1-w²) sin χ + w cos χ, times
    exp(-B s²/4), the scale and the damping by dose where there are such.

    Parameters
    ----------
    kx, ky : (n,) int
        Integer frequencies along image columns and rows.
    extent_angstrom : float or (G,) float64
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
    x, y = undistorted(kx, ky, optics)
    extent = np.reshape(extent_angstrom, (-1, 1))
    even = even_phase(x / extent, y / extent, optics)
    s2, angle = (x**2 + y**2) / extent**2, np.arctan2(y, x)
    # one row for everybody, or one a group
    s2, angle = (v if len(v) == 1 else v[optics_group] for v in (s2, angle))
    # cos 2(φ-angle) expanded, so that the (N, n) part is two multiply-adds and not a cosine
    twice = 2.0 * ctf.defocus_angle_radian[:, None]
    astigmatism = np.cos(twice) * np.cos(2 * angle) + np.sin(twice) * np.sin(2 * angle)
    mean = 0.5 * (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom)[:, None]
    half = 0.5 * (ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)[:, None]
    chi = np.pi * wavelength * s2 * (mean + half * astigmatism)
    chi += ctf.phase_shift_radian[:, None] - 0.5 * np.pi * cs * wavelength**3 * s2**2
    if even is not None:
        chi -= even[optics_group]
    # √(1-w²) sin χ + w cos χ in one sine
    value = np.sin(chi + np.arcsin(w))
    bfactor = ctf.bfactor_angstrom2[:, None]
    if bfactor.any():
        value = value * np.exp(-0.25 * bfactor * s2)
    if ctf.scale is not None:
        value *= ctf.scale[:, None]
    if ctf.dose_per_angstrom2 is not None:
        _damp(value, s2, ctf.dose_per_angstrom2, optics.voltage_kv[optics_group])
    return value


def _damp(value: Float64, s2: Float64, dose_per_angstrom2: Float64, voltage_kv: Float64) -> None:
    """Multiply CTFs (N, n) by what radiation leaves of them, in place; s2 is (1, n) or (N, n)."""
    if len(s2) > 1:
        value *= dose_damping(s2, dose_per_angstrom2[:, None], voltage_kv[:, None])
        return
    # exposures of a tomogram share their dose
    seen = np.stack([dose_per_angstrom2, voltage_kv], axis=1)
    distinct, number = np.unique(seen, axis=0, return_inverse=True)
    damping = dose_damping(s2, distinct[:, :1], distinct[:, 1:])
    for row, one in zip(value, number.reshape(-1), strict=True):
        row *= damping[one]


def dose_damping(s2: Float64, dose_per_angstrom2: Float64, voltage_kv: Float64) -> Float64:
    """What radiation leaves of the amplitude: exp(-½ dose / critical exposure).

    The critical exposure is 0.245 s^-1.665 + 2.81 electrons per Å² at 300 kV and less below, as electrons do
    more damage there (Grant & Grigorieff 2015, doi:10.7554/eLife.06980).

    Parameters
    ----------
    s2 : array
        Squared frequency, 1/Å².
    dose_per_angstrom2, voltage_kv : array
        Of shapes that go with it.
    """
    with np.errstate(divide="ignore"):
        critical = 0.245 * s2 ** (-0.5 * 1.665) + 2.81
    strength = np.interp(voltage_kv, *_STRENGTH)
    return np.asarray(np.exp(-0.5 * dose_per_angstrom2 / (strength * critical)))
