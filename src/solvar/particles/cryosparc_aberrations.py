"""Aberrations of a .cs that are not corrected for: the phase they can be at most, and what follows.

Their signs are not published, but their size is bounded: a coefficient a in Å of order n is a phase of
some 2π λⁿ⁻¹ sⁿ a at the frequency s in 1/Å.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.aberrations import electron_wavelength

ORDERS = {"ctf/tilt_A": 3, "ctf/trefoil_A": 3, "ctf/tetra_A": 4, "ctf/shift_A": 1}
# beyond, images lose half of their signal at Nyquist
_LARGEST_PHASE = 1.0


def refuse_strong_aberrations(
    path: Path, fields: Mapping[str, NDArray[Any]], constants: Mapping[str, NDArray[Any]]
) -> tuple[str, ...]:
    """Remark on aberrations that are not corrected for, or refuse those that images at hand would show.

    Parameters
    ----------
    path : Path
    fields : mapping
        Of the .cs.
    constants : mapping
        Of each row, with `voltage_kv` and `pixel_size_angstrom`.

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        If the phase at Nyquist is beyond 1 rad, or no number.
    """
    wavelength = electron_wavelength(constants["voltage_kv"])
    pixel_size = constants["pixel_size_angstrom"].astype(np.float64)
    present = {}
    for name, order in ORDERS.items():
        if name not in fields or not np.any(fields[name]):
            continue
        size = np.linalg.norm(fields[name].astype(np.float64).reshape(len(pixel_size), -1), axis=1)
        phase = 2 * np.pi * wavelength ** (order - 1) * size / (2 * pixel_size) ** order
        row = int(np.argmax(phase))
        if not phase[row] <= _LARGEST_PHASE:
            enough = pixel_size[row] * (phase[row] / _LARGEST_PHASE) ** (1 / order)
            raise InputError(
                f"is a phase of up to {phase[row]:.2g} rad at Nyquist, which this program cannot correct",
                file=path,
                row=row,
                column=name,
                remedy="pass a star file with rlnBeamTiltX, rlnBeamTiltY and rlnOddZernike, "
                f"or images with pixels of {1.005 * enough:.2f} Å",
            )
        present[name] = phase[row]
    if not present:
        return ()
    names, most = ", ".join(present), max(present.values())
    return (f"{names} not corrected for ({most:.2g} rad at Nyquist at most).",)
