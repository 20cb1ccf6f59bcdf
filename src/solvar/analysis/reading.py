"""Read back what `solvar analyze` left in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.density import DensityMap
from solvar.analysis.writing import FOLDER
from solvar.errors import InputError
from solvar.files import read_json
from solvar.results.hdf5 import Hdf5File, Shape
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
    """The analysis of `run`; None if there is none, or it is damaged or of an earlier run."""
    count = run.particle_count
    shapes: dict[str, Shape] = {"uid": (count,), "cluster": (count,), "outlier": (count,)}
    try:
        summary = read_json(run.folder, f"{FOLDER}/analysis.json")
        with run.hdf5(f"{FOLDER}/particles.h5") as file:
            found = file.arrays(shapes)
            umap = file.arrays({"umap": (count, 2)})["umap"] if "umap" in file else None
            density = _density(file, run.rank) if "density" in file else None
        if summary["run_id"] != run.run_id or not np.array_equal(
            found["uid"], run.particles["uid"]
        ):
            return None
        paths = _paths(run.folder / FOLDER, run.rank)
    except (InputError, OSError, ValueError, LookupError, TypeError):
        return None  # an analysis that was cut short is none
    return StoredAnalysis(
        summary, found["cluster"].astype(np.int64), found["outlier"] != 0, umap, density, paths
    )


def _density(file: Hdf5File, rank: int) -> DensityMap:
    components = file.attribute("components", "density")
    first, second = (int(number) - 1 for number in components)
    if not (0 <= first < rank and 0 <= second < rank):
        raise ValueError
    sides = file.arrays({"density/x": (None,), "density/y": (None,)})
    x, y = sides["density/x"], sides["density/y"]
    shape = len(y), len(x)
    maps = file.arrays({"density/raw": shape, "density/deconvolved": shape})
    raw, deconvolved = maps.values()
    return DensityMap((first, second), x, y, raw, deconvolved, 0, np.empty(0))


def _paths(folder: Path, rank: int) -> dict[str, Float64]:
    import pandas as pd

    found = {}
    for path in sorted(folder.glob("trajectory_*.csv")):
        points = pd.read_csv(path).to_numpy(np.float64)
        if points.shape[1] == rank:
            found[path.stem.removeprefix("trajectory_")] = points
    return found
