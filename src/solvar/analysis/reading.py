"""Read back what `solvar analyze` left in a run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.density import DensityMap
from solvar.analysis.writing import FOLDER
from solvar.results.run import Run

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StoredAnalysis:
    """An analysis as its folder tells it, N particles in the row order of the run.

    Attributes
    ----------
    summary : dict
        The content of ``analysis.json``.
    cluster : (N,) int64
        From 1.
    outlier : (N,) bool
    umap : (N, 2) float64 or None
    density : DensityMap or None
        Without its held-out likelihood.
    paths : dict of str to (n, r) float64
        Latents along each path in eigenvolume units, by name.
    """

    summary: dict[str, Any]
    cluster: NDArray[np.int64]
    outlier: NDArray[np.bool_]
    umap: Float64 | None
    density: DensityMap | None
    paths: dict[str, Float64]


def read_analysis(run: Run) -> StoredAnalysis | None:
    """The analysis of `run`; None if there is none, or it is of an earlier run in the same folder."""
    import h5py

    folder = run.folder / FOLDER
    try:
        summary = json.loads((folder / "analysis.json").read_text(encoding="utf-8"))
        with h5py.File(folder / "particles.h5", "r") as file:
            if not _belongs(summary, file["uid"][()], run):
                return None
            umap = file["umap"][()] if "umap" in file else None
            return StoredAnalysis(
                summary=summary,
                cluster=file["cluster"][()].astype(np.int64),
                outlier=file["outlier"][()],
                umap=umap,
                density=_density(file["density"]) if "density" in file else None,
                paths=_paths(folder, run.rank),
            )
    except (OSError, ValueError, KeyError):
        return None  # an analysis that was cut short is none


def _belongs(summary: dict[str, Any], uid: NDArray[np.uint64], run: Run) -> bool:
    return summary["run_finished"] == run.record["finished"] and np.array_equal(
        uid, run.particles["uid"]
    )


def _density(group: Any) -> DensityMap:
    first, second = (int(number) - 1 for number in group.attrs["components"])
    arrays = {name: group[name][()] for name in ("x", "y", "raw", "deconvolved")}
    return DensityMap((first, second), **arrays, iterations=0, held_out=np.empty(0))


def _paths(folder: Path, rank: int) -> dict[str, Float64]:
    import pandas as pd

    found = {}
    for path in sorted(folder.glob("trajectory_*.csv")):
        points = pd.read_csv(path).to_numpy(np.float64)
        if points.shape[1] == rank:
            found[path.stem.removeprefix("trajectory_")] = points
    return found
