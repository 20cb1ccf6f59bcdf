"""The files of a simulated set: RELION 3.1 star files, stacks, and the ground truth beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import OwnedFolder, Writer, owned, replacing
from solvar.particles import Optics
from solvar.particles.star_blocks import write_blocks

Float32 = NDArray[np.float32]

_STACK = "particles.mrcs"
# The files that say what the images are come first: they go before the images do, and come back after.
SIMULATION = Writer(
    "simulation",
    (
        *("particles.star", "particles_noisy.star", "settings.json", "gt.npz", _STACK),
        "particles_[0-9]*.mrcs",
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


def write_star(path: Path, optics: Optics, columns: Mapping[str, Any]) -> None:
    """A star file of optics groups and of particles, whose `columns` have RELION's names."""
    import pandas as pd

    optics_table = pd.DataFrame(
        {
            "rlnOpticsGroup": np.arange(1, len(optics.name) + 1),
            "rlnOpticsGroupName": optics.name,
            "rlnAmplitudeContrast": optics.amplitude_contrast,
            "rlnSphericalAberration": optics.spherical_aberration_mm,
            "rlnVoltage": optics.voltage_kv,
            "rlnImagePixelSize": optics.pixel_size_angstrom,
            "rlnImageSize": optics.box_size,
            "rlnImageDimensionality": 2,
        }
    )
    write_blocks(path, {"optics": optics_table, "particles": pd.DataFrame(columns)})
