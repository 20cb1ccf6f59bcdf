"""cryoDRGN: an image stack, or a text file that lists stacks, with poses.pkl and ctf.pkl.

Poses hold Rᵀ of this program's R and, optionally, the shift as a fraction of the box. CTFs are rows
of (L, apix, dfU, dfV, dfang°, kV, Cs, w, phase°) of the images they were made from; downsampled
images are used with the same file, so the pixel size is L·apix / (edge of the images at hand).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import open_regular, read_bytes, read_text
from solvar.imaging.optics import CtfParameters, Optics
from solvar.mrc_header import looks_like_mrc, read_mrc_header
from solvar.particles.particle_set import Poses
from solvar.particles.reading import Reading
from solvar.particles.table import (
    Format,
    ParticleTable,
    group_rows,
    shortest_float64,
)
from solvar.particles.unpickle import read_pickled_arrays

_CTF_COLUMNS = ("box size", "pixel size", "dfU", "dfV", "dfang", "kV", "Cs", "w", "phase")


def recognises(path: Path) -> bool:
    """An MRC file, or text whose first line names one."""
    if looks_like_mrc(path):
        return True
    try:
        with open_regular(path) as file:
            first = read_bytes(file, 4096).split(b"\n")[0].decode("utf-8").strip().lower()
    except (OSError, UnicodeDecodeError):
        return False
    return first.endswith((".mrc", ".mrcs"))


def read(path: Path, reading: Reading) -> ParticleTable:
    """Number the images; poses and CTFs come from the pickles that `reading` names."""
    for value, name, what in ((reading.poses, "poses", "poses"), (reading.ctf, "ctf", "CTFs")):
        if value is None and not (name == "poses" and reading.ignore_poses):
            raise InputError(
                f"an image stack does not hold {what}",
                file=path,
                remedy=f"pass --{name} {name}.pkl, or the .star or .cs file of a refinement",
            )
    if looks_like_mrc(path):
        names = [path.name]
        depths = [read_mrc_header(path).shape[0]]
    else:
        finder = reading.finder(path)
        names = _listed(path)
        depths = [read_mrc_header(finder.find(n)).shape[0] for n in names]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    entry = np.array([index[name] for name in names], dtype=np.int64)
    count = sum(depths)
    return ParticleTable(
        stack_names=tuple(index),
        stack_index=np.repeat(entry, depths),
        frame=np.concatenate([np.arange(d, dtype=np.int64) for d in depths]),
        halfset=np.zeros(count, dtype=np.int8),
        optics_group=np.zeros(count, dtype=np.int64),
    )


def _listed(path: Path) -> list[str]:
    """The stacks that a text file names, one a line."""
    try:
        lines = read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot be read as a list of stacks ({error})", file=path, remedy="write it again"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def read_poses(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses of a pickle.

    Parameters
    ----------
    path : Path
        A pickle of (rotations, shifts) or of rotations alone.

    Returns
    -------
    rotation : (N, 3, 3) float64
        R, the transpose of what the file holds.
    shift_fraction : (N, 2) float64
        (x, y) as a fraction of the box; zero where the file has none.
    """
    arrays = read_pickled_arrays(path)
    rotation = arrays[0]
    if rotation.ndim != 3 or rotation.shape[1:] != (3, 3) or rotation.dtype.kind not in "fiu":
        raise _wrong_shape(path, rotation, "(N, 3, 3) rotations", "--poses")
    shift = arrays[1] if len(arrays) > 1 else np.zeros((len(rotation), 2))
    if shift.shape != (len(rotation), 2) or shift.dtype.kind not in "fiu" or len(arrays) > 2:
        raise _wrong_shape(path, shift, f"({len(rotation)}, 2) shifts", "--poses")
    return rotation.astype(np.float64).transpose(0, 2, 1), shift.astype(np.float64)


def scale_poses(
    rotation: NDArray[np.float64],
    shift_fraction: NDArray[np.float64],
    optics: Optics,
    optics_group: NDArray[np.int64],
) -> Poses:
    """`read_poses` in Å: a fraction of the box is a shift of trans · L · apix."""
    width = (optics.box_size * optics.pixel_size_angstrom)[optics_group]
    return Poses(rotation, shift_fraction * width[:, None])


def read_ctf(path: Path) -> NDArray[np.float64]:
    """The table of a CTF pickle.

    Parameters
    ----------
    path : Path

    Returns
    -------
    (N, 9) float64
        L, apix, dfU, dfV, dfang (degrees), kV, Cs (mm), w, phase (degrees).
    """
    arrays = read_pickled_arrays(path)
    table = arrays[0]
    plain = len(arrays) == 1 and table.dtype.kind in "fiu"
    if not plain or table.ndim != 2 or table.shape[1] != len(_CTF_COLUMNS):
        raise _wrong_shape(path, table, "(N, 9) CTF parameters", "--ctf")
    bad = np.argwhere(~np.isfinite(table))
    if len(bad):
        row, column = (int(i) for i in bad[0])
        raise InputError(
            f"value is not a finite number ({table[row, column]})",
            file=path,
            row=row,
            column=_CTF_COLUMNS[column],
            remedy="write the CTF file again",
        )
    return table.astype(np.float64)


def interpret_ctf(
    table: NDArray[np.float64], box_size: NDArray[np.int64]
) -> tuple[Optics, NDArray[np.int64], CtfParameters]:
    """Optics and CTFs of `read_ctf` rows for images of the given edges.

    Parameters
    ----------
    table : (N, 9) float64
    box_size : (N,) int64
        Edge of the images on disk.

    Returns
    -------
    optics : Optics
    optics_group : (N,) int64
    ctf : CtfParameters
    """
    first, group = group_rows([table[:, c] for c in (0, 1, 5, 6, 7)] + [box_size])
    constants = table[first]
    apix = shortest_float64(constants[:, 1])
    optics = Optics(
        name=tuple(f"group {g + 1}" for g in range(len(first))),
        voltage_kv=shortest_float64(constants[:, 5]),
        spherical_aberration_mm=shortest_float64(constants[:, 6]),
        amplitude_contrast=shortest_float64(constants[:, 7]),
        pixel_size_angstrom=constants[:, 0] * apix / box_size[first],
        box_size=box_size[first],
    )
    ctf = CtfParameters(
        defocus_u_angstrom=table[:, 2],
        defocus_v_angstrom=table[:, 3],
        defocus_angle_radian=np.deg2rad(table[:, 4]),
        phase_shift_radian=np.deg2rad(table[:, 8]),
        bfactor_angstrom2=np.zeros(len(table)),
    )
    return optics, group, ctf


def _wrong_shape(path: Path, array: NDArray[Any], wanted: str, option: str) -> InputError:
    return InputError(
        f"holds an array of shape {array.shape} and type {array.dtype} where {wanted} are needed",
        file=path,
        remedy=f"pass cryoDRGN's pickle with {option}",
    )


FORMAT = Format("cryodrgn", recognises, read)
