"""Every choice a user can make about the analysis, validated once and saved with the result."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

NEIGHBOURS = 15
Ends = Literal["extremes", "distant", "densest"]


class AnalysisSettings(BaseModel):
    """Settings of the analysis; the command line and the API share these names and defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clusters: int | None = Field(
        None, ge=2, le=200, description="Number of clusters; default: by BIC, from 2 to 20."
    )
    method: Literal["kmeans", "mixture"] = Field(
        "kmeans", description="How clusters are drawn: k-means, or a mixture of Gaussians."
    )
    component: list[int] = Field(
        [],
        description="Component to analyse, from 1; may be repeated. Default: the real ones, "
        "or all if none is.",
    )
    plane: tuple[int, int] | None = Field(
        None,
        description="The two components whose density is drawn; default: the first two.",
    )
    grid: int = Field(64, ge=16, le=256, description="Nodes of the density per axis.")
    path: list[str] = Field(
        ["extremes", "distant"],
        description="Trajectories to propose, by their ends: extremes (5th to 95th percentile of "
        "--path-component), distant (ends of the longest way), densest (two densest clusters); "
        "may be repeated.",
    )
    path_component: int | None = Field(
        None, ge=1, description="Component of the path 'extremes'; default: the first analysed."
    )
    start: str | None = Field(
        None,
        description="Start of a path of your own: a particle (its row in the run, from 0) or r "
        "latents separated by commas.",
    )
    end: str | None = Field(None, description="End of that path, written like --start.")
    points: int = Field(10, ge=2, le=1000, description="Points along each path.")
    neighbours: int = Field(
        NEIGHBOURS, ge=2, le=200, description="Neighbours in local density and UMAP."
    )
    umap: bool = Field(False, description="Embed the latents in two dimensions with UMAP, too.")
    atoms: Path | None = Field(
        None,
        description="Atomic model (PDB or mmCIF) fitted to mean.mrc: says which chains or parts of them move "
        "how far along each resolved component.",
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice.")

    # Typer has no lists of choices, so the choice is made here.
    @field_validator("path")
    @classmethod
    def _known(cls, paths: list[str]) -> list[str]:
        for name in paths:
            if name not in get_args(Ends):
                raise ValueError(f"{name!r} is not one of {', '.join(get_args(Ends))}")
        return paths
