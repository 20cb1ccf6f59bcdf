"""What the microscope does to an image: constants of an optics group and the CTF of each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Optics:
    """Optical constants, one entry per optics group (G groups).

    Attributes
    ----------
    name : tuple of G str
    voltage_kv, spherical_aberration_mm, amplitude_contrast : (G,) float64
    pixel_size_angstrom : (G,) float64
        Pixel size of the images on disk.
    box_size : (G,) int64
        Edge of the images on disk in pixels.
    """

    name: tuple[str, ...]
    voltage_kv: Float64
    spherical_aberration_mm: Float64
    amplitude_contrast: Float64
    pixel_size_angstrom: Float64
    box_size: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CtfParameters:
    """Contrast transfer of N particles.

    Attributes
    ----------
    defocus_u_angstrom, defocus_v_angstrom : (N,) float64
        Underfocus positive.
    defocus_angle_radian : (N,) float64
        Angle of the `u` axis from x towards y.
    phase_shift_radian : (N,) float64
    bfactor_angstrom2 : (N,) float64
        Envelope exp(-B |k|² / 4); 0 for none.
    """

    defocus_u_angstrom: Float64
    defocus_v_angstrom: Float64
    defocus_angle_radian: Float64
    phase_shift_radian: Float64
    bfactor_angstrom2: Float64
