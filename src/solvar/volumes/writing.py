"""The files and the record of one volume."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.results.run import Run
from solvar.volume_file import write_volume
from solvar.volumes.postprocess import (
    BFactor,
    guinier_bfactor,
    local_resolution,
    locally_filtered,
    sharpened,
    weighted,
)
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.volume import Reconstruction

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Placement:
    """Where a volume's voxels lie in space.

    Attributes
    ----------
    pixel_size_angstrom : float
    origin_angstrom : float
        Of voxel 0 on each axis.
    """

    pixel_size_angstrom: float
    origin_angstrom: float

    @classmethod
    def over(cls, run: Run, box: int, pixel_size: float, override: float | None) -> Placement:
        """That of `box` voxels whose voxel L // 2 lies where it does in the run's volumes.

        Parameters
        ----------
        pixel_size : float
            Å, as the particles say it.
        override : float or None
            What it is instead; then the run's volumes are taken to be larger by the same factor.
        """
        actual = pixel_size if override is None else override
        ours = run.pixel_size_angstrom * actual / pixel_size
        return cls(actual, (run.model.box_size // 2) * ours - (box // 2) * actual)


def write_reconstruction(
    folder: Path,
    name: str,
    made: Reconstruction,
    place: Placement,
    settings: VolumeSettings,
    run_id: str,
) -> dict[str, Any]:
    """Write the files of one volume of the run `run_id`.

    Returns
    -------
    dict
        particles, effective_particles, resolution_angstrom, fsc, bfactor, bfactor_note, files; of JSON's
        types.
    """
    pixel_size = place.pixel_size_angstrom
    resolution = np.inf
    record: dict[str, Any] = {"particles": made.particles, "effective_particles": made.effective}
    record |= {"resolution_angstrom": None, "fsc": None}
    maps = {name: made.volume}
    halves = made.halves
    if halves is not None:
        maps[f"{name}_half1"], maps[f"{name}_half2"] = halves.plain
        resolution = halves.fsc.resolution(len(made.volume) * pixel_size)
        record["resolution_angstrom"] = resolution if np.isfinite(resolution) else None
        plain = [round(float(value), 6) for value in halves.plain_fsc]
        record["fsc"] = {**halves.fsc.record(), "half_maps": plain}
    finished, bfactor = _postprocessed(made, resolution, pixel_size, settings.bfactor)
    if finished is not None:
        maps[f"{name}_postprocessed"] = finished
    record |= {"bfactor": bfactor.value, "bfactor_note": bfactor.note}
    if settings.local_resolution and halves is not None:
        local = local_resolution(halves.blind, pixel_size)
        maps[f"{name}_local_resolution"] = local
        maps[f"{name}_local_filtered"] = locally_filtered(made.volume, local, pixel_size)
    for file, volume in maps.items():
        write_volume(folder / f"{file}.mrc", volume, pixel_size, place.origin_angstrom, run_id)
    return {**record, "files": [f"{file}.mrc" for file in maps]}


def _postprocessed(
    made: Reconstruction, resolution: float, pixel_size: float, wanted: float | str
) -> tuple[Float32 | None, BFactor]:
    """The volume weighted by its FSC, where it has one, and sharpened; None if that changes nothing."""
    if wanted == 0:
        return None, BFactor(0.0)
    halves = made.halves
    volume = made.volume if halves is None else weighted(made.volume, halves.fsc.corrected)
    bfactor = (
        guinier_bfactor(volume, pixel_size, resolution)
        if isinstance(wanted, str)
        else BFactor(wanted)
    )
    unchanged = halves is None and bfactor.value == 0
    return None if unchanged else sharpened(volume, bfactor.value, pixel_size), bfactor
