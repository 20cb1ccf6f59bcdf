"""A mask from maps on disk: of one map above a threshold, or of what two half-maps agree on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from solvar.errors import InputError
from solvar.imaging.density_mask import MaskShape, density_mask, mask_above
from solvar.imaging.masks import widest_sphere
from solvar.volume_file import read_volume

Float32 = NDArray[np.float32]


class MaskSettings(BaseModel):
    """How a mask is made; the command line and the API share these names and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Density above which a single map is molecule, at --resolution; default: between "
        "molecule and solvent.",
    )
    resolution: float = Field(
        15.0,
        gt=0,
        allow_inf_nan=False,
        description="Resolution in Å at which maps are looked at, or as coarsely as half-maps agree.",
    )
    extend: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Å beyond density before the mask falls off; default: half the resolution.",
    )
    soft_edge: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Width of the soft edge in Å; default: 6 % of the box.",
    )
    complement: bool = Field(
        False, description="Everything else in the widest sphere that the box holds."
    )
    pixel_size: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Å, where the maps do not say."
    )


@dataclass(frozen=True, eq=False)
class MadeMask:
    """A mask and the map that it was made of, (L, L, L) each, and their pixel size."""

    mask: Float32
    density: Float32
    pixel_size_angstrom: float


def make_mask(maps: list[Path], settings: MaskSettings | None = None) -> MadeMask:
    """Make a soft mask from one map, or from two half-maps.

    Parameters
    ----------
    maps : list of path
        One or two MRC files, protein bright.
    settings : MaskSettings, optional

    Raises
    ------
    InputError
        When maps cannot be read or do not belong together, or nothing stands out in them.
    """
    settings = settings or MaskSettings()
    if len(maps) not in (1, 2):
        raise InputError(f"{len(maps)} maps make no mask", remedy="give one map, or two half-maps")
    if len(maps) == 2 and settings.threshold is not None:
        raise InputError(
            "--threshold is for one map: two half-maps tell what is density by what they agree on",
            remedy="leave it out, or give one map",
        )
    volumes, pixel_size = _read(maps, settings.pixel_size)
    shape = MaskShape(settings.resolution, settings.extend, settings.soft_edge)
    sphere = widest_sphere(len(volumes[0]))
    if len(volumes) == 2:
        mask = density_mask(volumes[0], volumes[1], pixel_size, sphere, shape)
        problem, remedy = "nothing stands out in the half-maps", "give --threshold and one map"
    else:
        mask = mask_above(volumes[0], pixel_size, settings.threshold, shape)
        problem, remedy = "nothing is above the threshold", "lower --threshold"
    if mask is None:
        raise InputError(problem, file=maps[0], remedy=remedy)
    if settings.complement:
        mask = sphere * (1 - mask)
    density = np.asarray(np.mean(volumes, axis=0), dtype=np.float32)
    return MadeMask(mask, density, pixel_size)


def _read(maps: list[Path], given: float | None) -> tuple[list[Float32], float]:
    """Volumes of one size, and their pixel size, Å."""
    volumes, sizes = zip(*(read_volume(path) for path in maps), strict=True)
    for path, volume, size in zip(maps[1:], volumes[1:], sizes[1:], strict=True):
        if len(volume) != len(volumes[0]):
            raise InputError(
                f"has a box of {len(volume)} voxels, {maps[0].name} one of {len(volumes[0])}",
                file=path,
                remedy="give half-maps of one refinement",
            )
        if abs(size - sizes[0]) > 1e-3 * sizes[0]:
            raise InputError(
                f"has voxels of {size:.4g} Å, {maps[0].name} has {sizes[0]:.4g} Å",
                file=path,
                remedy="give half-maps of one refinement",
            )
    pixel_size = given or sizes[0]
    if not pixel_size > 0:
        raise InputError("does not say its pixel size", file=maps[0], remedy="pass --pixel-size")
    return list(volumes), pixel_size
