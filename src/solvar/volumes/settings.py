"""Every choice about volumes of a run, validated once and saved beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from solvar import plugins
from solvar.machine import MOST_THREADS

_METHODS = ("kernel", "reproject", "subset")


class VolumeSettings(BaseModel):
    """Settings of `reconstruct`; the command line and the API share these names and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = Field(
        "kernel",
        description="kernel: regression on particles nearby; reproject: mean and eigenvolumes alone; "
        "subset: plain reconstruction of the nearest particles.",
    )
    subset_fraction: float = Field(
        0.1, gt=0, le=1, description="Share of all particles that 'subset' reconstructs from."
    )
    subset_probability: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="'subset' takes the particles whose posterior ellipsoid of this probability holds the "
        "point, instead of a fixed share.",
    )
    mask: Path | None = Field(
        None, description="Mask volume (.mrc, values 0 to 1); default: the mask of the run."
    )
    bfactor: Annotated[float, Field(ge=-1000, le=1000)] | Literal["auto"] = Field(
        0.0,
        description="Also write a map sharpened by this B-factor, Å² (negative sharpens), or by that of a "
        "Guinier fit ('auto').",
    )
    local_resolution: bool = Field(
        False,
        description="Also write a map of the local resolution, from the half-maps, and the volume "
        "filtered by it.",
    )
    voxel_size: float | None = Field(
        None,
        gt=0,
        description="Voxel size of the volumes, Å, instead of what the particle file says: for headers "
        "and resolutions.",
    )
    lazy: bool | None = Field(
        None,
        description="Keep whitened images on disk; default: when they would take half of the free memory.",
    )
    scratch: Path | None = Field(
        None,
        description="Folder for whitened images on disk, best a fast local one; default: the folder that "
        "is written to.",
    )
    threads: int | None = Field(
        None, ge=1, le=MOST_THREADS, description="Threads; default: all available cores."
    )

    @field_validator("method")
    @classmethod
    def _known_method(cls, name: str) -> str:
        return plugins.known(plugins.VOLUME_METHODS, name, _METHODS)
