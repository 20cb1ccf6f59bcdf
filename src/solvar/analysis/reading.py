"""Read back what `solvar analyze` left in a run folder; what no analysis leaves is none."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from solvar.analysis.density import DensityMap
from solvar.analysis.writing import FOLDER
from solvar.commands import command_line
from solvar.errors import InputError
from solvar.estimation.low_rank import prior_spread
from solvar.files import explained, read_json, read_text
from solvar.results.hdf5 import Hdf5File, Shape
from solvar.results.numbers import Judge
from solvar.results.record import validated
from solvar.results.run import Run

Float64 = NDArray[np.float64]

FILE = f"{FOLDER}/particles.h5"
_TABLE = f"{FOLDER}/analysis.json"
# standard deviations; farther away there is nothing to draw
_FARTHEST_SIGMA = 1e6
_LONGEST_PATH = 100_000

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Whole = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
_Number = Annotated[float, Field(allow_inf_nan=False, ge=0, lt=1e9)]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Clusters(_Part):
    size: list[_Count]
    angular_coverage: list[_Number]
    nearest_particle: list[_Count]


class _States(_Part):
    count: Annotated[int, Field(ge=1, le=1000)]
    resamples: Annotated[dict[_Whole, _Number], Field(min_length=1)]
    population: list[_Number]
    population_error: list[_Number]
    probability: list[_Number]


class _Trajectory(_Part):
    name: str
    points: _Count
    length: _Number
    behind: Annotated[list[_Count], Field(min_length=1)]
    crosses_gap: bool


class _Body(_Part):
    body: str
    displacement_angstrom: _Number
    error_angstrom: _Number
    rotation_degree: _Number
    occupancy: Annotated[list[_Number], Field(min_length=2, max_length=2)]
    explained: Annotated[float, Field(allow_inf_nan=False, le=1)]
    verdict: str


class _Motion(_Part):
    component: Annotated[int, Field(ge=1, le=200)]
    resolution_angstrom: _Number
    bodies: list[_Body]


class _Outliers(_Part):
    far: _Count
    unlikely: _Count
    either: _Count


class _Association(_Part):
    factor: str
    component: Annotated[int, Field(ge=1, le=200)]
    r_squared: Annotated[float, Field(ge=-1e9, le=1, allow_inf_nan=False)]


class _Summary(_Part):
    """What is used of analysis.json."""

    run_id: str
    clusters: _Clusters
    states: _States | None
    trajectories: list[_Trajectory]
    # earlier analyses did not ask for it
    rigid_bodies: list[_Motion] | None = None
    outliers: _Outliers
    associations: list[_Association]
    messages: list[str]
    warnings: list[str]


@dataclass(frozen=True, eq=False)
class StoredAnalysis:
    """An analysis as its folder tells it, N particles in the row order of the run.

    Attributes
    ----------
    summary : dict
        The content of ``analysis.json``.
    cluster : (N,) int64
        From 1.
    state : (N,) int64 or None
        From 1, 0 for particles between states; None where none is separate.
    states : (S, r) float64
        Latents at their tops; none where none is separate.
    outlier : (N,) bool
    umap : (N, 2) float64 or None
    density : DensityMap or None
    paths : dict of str to (n, r) float64
        Latents along each path in eigenvolume units, by name.
    """

    summary: dict[str, Any]
    cluster: NDArray[np.int64]
    state: NDArray[np.int64] | None
    states: Float64
    outlier: NDArray[np.bool_]
    umap: Float64 | None
    density: DensityMap | None
    paths: dict[str, Float64]


def read_analysis(run: Run) -> StoredAnalysis | None:
    """The analysis of `run`; None if there is none, or it is damaged or of an earlier run."""
    try:
        summary = _summary(run)
        columns = analysed_columns(run, "cluster", "outlier")
        with run.hdf5(FILE) as file:
            has_umap, has_density = "umap" in file, "density" in file
            density = _density(file, run.rank) if has_density else None
        umap = analysed_columns(run, "umap")["umap"] if has_umap else None
        paths = _paths(run)
        several = summary["states"] is not None and summary["states"]["count"] > 1
        state = analysed_columns(run, "state")["state"] if several else None
        tops = _latents(run, run.folder / FOLDER / "states.csv") if several else None
    except (InputError, OSError, ValueError):
        return None  # an analysis that was cut short is none
    tops = np.empty((0, run.rank)) if tops is None else tops
    labels = columns["cluster"], state, tops, columns["outlier"]
    return StoredAnalysis(summary, *labels, umap, density, paths)


def analysed_columns(run: Run, *names: str, remedy: str | None = None) -> dict[str, NDArray[Any]]:
    """Columns (N, …) that the analysis of a run has for its particles.

    Parameters
    ----------
    run : Run
    *names : str
        Such as ``cluster`` (from 1), ``state`` (from 1, or 0), ``outlier``, ``umap`` (N, 2),
        ``log_density`` or ``mahalanobis``.
    remedy : str, optional

    Raises
    ------
    InputError
        If there is no analysis, or it is damaged, of another run, or has no such column.
    """
    remedy = remedy or f"run `{command_line('solvar', 'analyze', run.folder)}` again"
    count, judge = run.particle_count, Judge(run.folder / FILE, remedy)
    shapes: dict[str, Shape] = {name: (count, 2) if name == "umap" else (count,) for name in names}
    with run.hdf5(FILE, remedy) as file:
        found = file.arrays(shapes, truths=("outlier",))
    for name, values in found.items():
        if name in ("cluster", "state"):
            wrong = (values.dtype.kind not in "iu") | (values < 0) | (values > count)
            judge.refuse(wrong, name, f"is no label of a {name}")
            found[name] = values.astype(np.int64)
        elif name == "umap":
            judge.finite(name, values)
    return found


def _summary(run: Run) -> dict[str, Any]:
    path = run.folder / _TABLE
    content: dict[str, Any] = read_json(run.folder, _TABLE)
    told = validated(_Summary, content, path)
    clusters = told.clusters
    lengths = {len(clusters.size), len(clusters.angular_coverage), len(clusters.nearest_particle)}
    judge = Judge(path)
    judge.refuse(told.run_id != run.run_id, "run_id", "is that of another run")
    judge.refuse(len(lengths) != 1, "clusters", "has columns of several lengths")
    if (states := told.states) is not None:
        columns = states.population, states.population_error, states.probability
        wrong = any(len(column) != states.count for column in columns)
        judge.refuse(wrong, "states", "has columns of another length than their count")
    return content


def _density(file: Hdf5File, rank: int) -> DensityMap:
    components = file.attribute("components", "density")
    if components.dtype.kind not in "iu" or components.shape != (2,):
        raise file.refused("density", "is of no two components")
    first, second = (int(number) - 1 for number in components)
    if not (0 <= first < rank and 0 <= second < rank):
        raise file.refused("density", "is of components that the run does not have")
    sides = file.arrays({"density/x": (None,), "density/y": (None,)})
    x, y = sides["density/x"], sides["density/y"]
    for side in (x, y):
        if len(side) < 2 or not np.isfinite(side).all() or not (np.diff(side) > 0).all():
            raise file.refused("density", "has sides that do not rise")
    shape = len(y), len(x)
    maps = file.arrays({"density/raw": shape, "density/deconvolved": shape})
    for name, values in maps.items():
        if not np.isfinite(values).all() or (values < 0).any() or not values.sum() < np.inf:
            raise file.refused(name, "is no density")
    raw, deconvolved = maps.values()
    if not deconvolved.any():
        raise file.refused("density", "is zero everywhere")
    return DensityMap((first, second), x, y, raw, deconvolved, 0)


def _paths(run: Run) -> dict[str, Float64]:
    """Points of every path that has one latent a component."""
    found = {}
    for path in sorted((run.folder / FOLDER).glob("trajectory_*.csv")):
        points = _latents(run, path)
        if points is not None:
            found[path.stem.removeprefix("trajectory_")] = points
    return found


def _latents(run: Run, path: Path) -> Float64 | None:
    """Points (n, r) of a table; None where it has not one latent a component."""
    points = _points(path, run.folder)
    if points.shape[1:] != (run.rank,):
        return None
    far = np.abs(points) > _FARTHEST_SIGMA * prior_spread(run.eigenvalues)
    Judge(path).refuse(far.any(axis=1), "z", "is farther away than any latent")
    return points


def _points(path: Path, inside: Path) -> Float64:
    """Points (n, r) of a table as `write_points` writes it, n at least 2."""
    with explained(path):
        lines = list(csv.reader(io.StringIO(read_text(path, inside=inside))))[1:]
    points = np.array(lines, dtype=np.float64)
    if points.ndim != 2 or not 2 <= len(points) <= _LONGEST_PATH or not np.isfinite(points).all():
        raise InputError("is no path", file=path)
    return points
