"""What the microscope does to an image: constants of an optics group and the CTF of each image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


ABERRATION_FIELDS = ("magnification", "beam_tilt_mrad", "odd_zernike", "even_zernike")


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
    magnification : (G, 2, 2) float64 or None
        M: the Fourier pixel k of an image is the specimen's frequency M·k. None: identities.
    beam_tilt_mrad : (G, 2) float64 or None
        Along x and y. None: no tilt.
    odd_zernike, even_zernike : (G, n) float64 or None
        Coefficients of antisymmetric and symmetric aberrations (rad, frequencies in 1/Å), in the order of
        `aberrations.zernike_orders`. None: no aberration.
    phase_flipped, premultiplied : (G,) bool or None
        Whether the pixels on disk have the phases of their CTF flipped, or were multiplied by it (then it is
        the same whether they were flipped: C·(C s + n)). None: no group.
    """

    name: tuple[str, ...]
    voltage_kv: Float64
    spherical_aberration_mm: Float64
    amplitude_contrast: Float64
    pixel_size_angstrom: Float64
    box_size: NDArray[np.int64]
    magnification: Float64 | None = None
    beam_tilt_mrad: Float64 | None = None
    odd_zernike: Float64 | None = None
    even_zernike: Float64 | None = None
    phase_flipped: NDArray[np.bool_] | None = None
    premultiplied: NDArray[np.bool_] | None = None

    @property
    def aberrations(self) -> dict[str, Float64]:
        """Those of `ABERRATION_FIELDS` that there are."""
        given = {name: getattr(self, name) for name in ABERRATION_FIELDS}
        return {name: values for name, values in given.items() if values is not None}

    def take(self, groups: NDArray[np.int64]) -> Optics:
        """Some of the groups, in this order."""
        arrays: dict[str, Any] = {
            name: values[groups]
            for name, values in vars(self).items()
            if isinstance(values, np.ndarray)
        }
        # what is true of none of them is nothing
        flags = ("phase_flipped", "premultiplied")
        arrays |= {name: None for name in flags if name in arrays and not arrays[name].any()}
        return replace(self, name=tuple(self.name[g] for g in groups), **arrays)


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
    scale : (N,) float64 or None
        Factor of the amplitude, for what a tilted specimen lets through. None: 1 for all.
    dose_per_angstrom2 : (N,) float64 or None
        Electrons per Å² that the specimen had received, by which `dose_damping` is. None: no damping.
    """

    defocus_u_angstrom: Float64
    defocus_v_angstrom: Float64
    defocus_angle_radian: Float64
    phase_shift_radian: Float64
    bfactor_angstrom2: Float64
    scale: Float64 | None = None
    dose_per_angstrom2: Float64 | None = None

    @property
    def columns(self) -> dict[str, Float64]:
        """Fields that are given, (N,) each."""
        return {name: values for name, values in vars(self).items() if values is not None}

    def take(self, index: NDArray[np.int64]) -> CtfParameters:
        """Those of some of the particles, in this order."""
        return replace(self, **{name: values[index] for name, values in self.columns.items()})

    def defocused(self, angstrom: float | Float64) -> CtfParameters:
        """The same with this much more underfocus, a number or (N,)."""
        u, v = self.defocus_u_angstrom + angstrom, self.defocus_v_angstrom + angstrom
        return replace(self, defocus_u_angstrom=u, defocus_v_angstrom=v)
