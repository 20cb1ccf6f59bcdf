"""The files of a simulated set: star files of RELION 3.1 and 5, stacks, and the ground truth beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import OwnedFolder, Writer, owned, replacing
from solvar.imaging.rotations import to_euler
from solvar.particles import CtfParameters, Optics, Poses
from solvar.particles.star_blocks import write_blocks

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_STACK = "particles.mrcs"
# The files that say what the images are come first: they go before the images do, and come back after.
SIMULATION = Writer(
    "simulation",
    (
        *("particles.star", "particles_noisy.star", "optimisation_set.star", "tomograms.star"),
        *("tilt_series/*.star", "settings.json", "gt.npz", _STACK),
        *("particles_[0-9]*.mrcs", "subtomograms/*/[0-9]*.mrcs"),
        *("gt_mean.mrc", "gt_eigenvolumes.mrc", "mask.mrc", "vols/[0-9]*.mrc"),
    ),
)


@contextmanager
def simulation_folder(folder: Path, overwrite: bool = False) -> Iterator[OwnedFolder]:
    """Be the only one who writes a simulated set to `folder`, which is made if need be.

    Raises
    ------
    InputError
        If a simulated set is there and `overwrite` is false, something else wrote files of its names, or
        another process writes there.
    """
    with owned(folder, "solvar simulate") as own:
        own.refuse_foreign(SIMULATION)
        there = own.written_by(SIMULATION)
        if there and not overwrite:
            raise InputError(
                f"already holds {there[0]}",
                file=folder,
                remedy="choose another --output or pass --overwrite",
            )
        yield own


def stack_rows(count: int, stacks: int) -> dict[str, range]:
    """Name of each stack, and the rows of its particles."""
    if stacks == 1:
        return {_STACK: range(count)}
    cut = np.linspace(0, count, stacks + 1).astype(int).tolist()
    return {f"particles_{i + 1:03d}.mrcs": range(cut[i], cut[i + 1]) for i in range(stacks)}


def write_stacked_volumes(path: Path, volumes: Float32, pixel_size: float) -> None:
    """Volumes (r, L, L, L) one after the other along z."""
    import mrcfile

    with replacing(path) as partial, mrcfile.new(partial, overwrite=True) as file:
        file.set_data(volumes.reshape(-1, *volumes.shape[2:]))
        file.voxel_size = pixel_size


def write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Arrays by name, compressed."""
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)


def image_names(stacks: Mapping[str, range]) -> list[str]:
    """`rlnImageName` of every image of some stacks."""
    return [
        f"{frame + 1:06d}@{name}" for name, rows in stacks.items() for frame in range(len(rows))
    ]


def ctf_columns(ctf: CtfParameters) -> dict[str, Float64]:
    """What a star file says of the CTF of each image, (M,) each."""
    columns = {
        "rlnDefocusU": ctf.defocus_u_angstrom,
        "rlnDefocusV": ctf.defocus_v_angstrom,
        "rlnDefocusAngle": np.rad2deg(ctf.defocus_angle_radian),
        "rlnPhaseShift": np.rad2deg(ctf.phase_shift_radian),
    }
    of_tilts = {
        "rlnCtfScalefactor": ctf.scale,
        "rlnMicrographPreExposure": ctf.dose_per_angstrom2,
    }
    return columns | {name: values for name, values in of_tilts.items() if values is not None}


def pose_columns(poses: Poses) -> dict[str, Float64]:
    """Angles (degrees) and origins (Å) of images, (M,) each."""
    rot, tilt, psi = to_euler(poses.rotation).T
    return {
        "rlnAngleRot": rot,
        "rlnAngleTilt": tilt,
        "rlnAnglePsi": psi,
        "rlnOriginXAngst": poses.shift_angstrom[:, 0],
        "rlnOriginYAngst": poses.shift_angstrom[:, 1],
    }


def optics_columns(optics: Optics) -> dict[str, Any]:
    """What a star file says of each optics group."""
    return {
        "rlnOpticsGroup": np.arange(1, len(optics.name) + 1),
        "rlnOpticsGroupName": optics.name,
        "rlnAmplitudeContrast": optics.amplitude_contrast,
        "rlnSphericalAberration": optics.spherical_aberration_mm,
        "rlnVoltage": optics.voltage_kv,
        "rlnImagePixelSize": optics.pixel_size_angstrom,
        "rlnImageSize": optics.box_size,
        "rlnImageDimensionality": 2,
    }


def write_tables(path: Path, **tables: Mapping[str, Any]) -> None:
    """A star file of some blocks, whose columns have RELION's names."""
    import pandas as pd

    write_blocks(path, {name: pd.DataFrame(columns) for name, columns in tables.items()})
