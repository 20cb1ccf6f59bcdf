"""Every choice about volumes of a run, validated once and saved beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class VolumeSettings(BaseModel):
    """Settings of `reconstruct`; the command line and the API share these names and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["kernel", "reproject", "subset"] = Field(
        "kernel",
        description="kernel: regression on particles nearby; reproject: mean and eigenvolumes alone; "
        "subset: plain reconstruction of the nearest particles.",
    )
    subset_fraction: float = Field(
        0.1, gt=0, le=1, description="Share of all particles that 'subset' reconstructs from."
    )
    mask: Path | None = Field(
        None, description="Mask volume (.mrc, values 0 to 1); default: the mask of the run."
    )
    bfactor: float = Field(
        0.0, ge=-1000, le=1000, description="Sharpen by this B-factor, Å²; negative sharpens."
    )
    local_resolution: bool = Field(
        False, description="Also write a map of the local resolution, from the half-maps."
    )
    lazy: bool | None = Field(
        None,
        description="Keep whitened images on disk; default: when they would take half of the free memory.",
    )
    threads: int | None = Field(None, ge=1, description="Threads; default: all available cores.")
