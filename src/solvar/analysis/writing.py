"""Write an `Analysis` to the folder ``analysis`` of its run; ``analysis.json`` comes last."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.analyze import Analysis
from solvar.analysis.bodies.rigid_bodies import ComponentMotion
from solvar.analysis.states import States
from solvar.files import OwnedFolder, replacing, write_json
from solvar.results.run import Run
from solvar.results.writer import ANALYSIS

FOLDER = "analysis"
_TABLE = f"{FOLDER}/analysis.json"


def write_analysis(run: Run, own: OwnedFolder, analysis: Analysis) -> Path:
    """Write numbers, paths and summary; an earlier analysis is replaced.

    Parameters
    ----------
    run : Run
    own : OwnedFolder
        The right to write in its folder.
    analysis : Analysis

    Returns
    -------
    folder : path
        ``analysis.json``, ``particles.h5``, ``clusters.csv``, ``states.csv`` where there are separate
        ones, and ``trajectory_*.csv``; these tables hold latents in eigenvolume units, columns z1 … zr, one
        row a point. ``rigid_bodies.csv`` where atoms were given, one row a component and body.
    """
    own.refuse_foreign(ANALYSIS)
    own.remove(ANALYSIS, first=_TABLE)
    to_latents = analysis.space.to_latents
    points = {"clusters": analysis.clusters.centre}
    if analysis.states is not None and len(analysis.states) > 1:
        points["states"] = analysis.states.centre
    points |= {f"trajectory_{path.name}": path.points for path in analysis.trajectories}
    tables = own.claim(ANALYSIS, [f"{FOLDER}/{name}.csv" for name in points])
    _write_particles(own.file(ANALYSIS, f"{FOLDER}/particles.h5"), run, analysis)
    for path, centres in zip(tables, points.values(), strict=True):
        write_points(path, to_latents(centres))
    if analysis.rigid_bodies is not None:
        _write_bodies(own.file(ANALYSIS, f"{FOLDER}/rigid_bodies.csv"), analysis.rigid_bodies)
    write_json(own.file(ANALYSIS, _TABLE), summary(run, analysis))
    return own.root / FOLDER


def write_points(path: Path, latents: NDArray[np.float64]) -> None:
    """Latents (n, r) as comma-separated text with the header z1 … zr."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([f"z{j + 1}" for j in range(latents.shape[1])])
        writer.writerows([f"{value:.9g}" for value in row] for row in latents)


def _write_bodies(path: Path, components: list[ComponentMotion]) -> None:
    """One row a component and body, units in the header."""
    rows = [
        {"component": one.component, "resolution_angstrom": one.resolution_angstrom}
        | {name: getattr(body, name) for name in _PLAIN}
        | dict(zip(_AXIS, body.axis, strict=True))
        | dict(zip(_TRANSLATION, body.translation_angstrom, strict=True))
        | dict(zip(_OCCUPANCY, body.occupancy, strict=True))
        for one in components
        for body in one.bodies
    ]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(
            {
                name: f"{value:.6g}" if isinstance(value, float) else value
                for name, value in row.items()
            }
            for row in rows
        )


_PLAIN = (
    "body", "verdict", "atoms", "displacement_angstrom", "error_angstrom", "rotation_degree", "correlation",
    "explained",
)  # fmt: skip
_AXIS = ("axis_x", "axis_y", "axis_z")
_TRANSLATION = tuple(f"translation_{axis}_angstrom" for axis in "xyz")
_OCCUPANCY = ("occupancy_start", "occupancy_end")


def _write_particles(path: Path, run: Run, analysis: Analysis) -> None:
    import h5py

    outliers = analysis.outliers
    columns: dict[str, NDArray] = {
        "uid": run.particles["uid"],
        "cluster": (analysis.clusters.label + 1).astype(np.int32),
        "log_density": analysis.log_density,
        "mahalanobis": outliers.distance,
        "p_value": outliers.p_value,
        "likelihood_score": outliers.score,
        "outlier": outliers.far | outliers.unlikely,
    }
    if analysis.states is not None:
        columns["state"] = analysis.states.label.astype(np.int32)
        columns["state_probability"] = analysis.states.membership.max(axis=1)
    if analysis.umap is not None:
        columns["umap"] = analysis.umap
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["run_id"] = run.run_id
        for name, values in columns.items():
            file[name] = values
        if analysis.density is not None:
            density = file.create_group("density")
            density.attrs["components"] = [j + 1 for j in analysis.density.components]
            for name in ("x", "y", "raw", "deconvolved"):
                density[name] = getattr(analysis.density, name)


def summary(run: Run, analysis: Analysis) -> dict[str, Any]:
    """The result in few numbers, in JSON's types: what ``solvar analyze --json`` prints."""
    outliers, clusters, density = analysis.outliers, analysis.clusters, analysis.density
    centres = analysis.space.to_latents(clusters.centre)
    return {
        "run": str(run.folder),
        "run_id": run.run_id,
        "folder": str(run.folder / FOLDER),
        "settings": analysis.settings.model_dump(mode="json"),
        "components": analysis.space.active + 1,
        "clusters": {
            "method": clusters.method,
            "count": len(clusters),
            "bic": clusters.bic,
            "size": clusters.size,
            "centre": centres,
            "nearest_particle": clusters.nearest,
            "angular_coverage": analysis.coverage,
        },
        "density": None
        if density is None
        else {
            "components": [j + 1 for j in density.components],
            "gaussians": density.gaussians,
        },
        "states": None if analysis.states is None else _states(analysis, analysis.states),
        "trajectories": [
            {
                "name": path.name,
                "length": path.length,
                "points": len(path.points),
                "particles": path.nodes,
                "behind": path.behind,
                "crosses_gap": path.crosses_gap,
                "log_density": path.log_density,
            }
            for path in analysis.trajectories
        ],
        "rigid_bodies": None
        if analysis.rigid_bodies is None
        else [asdict(one) for one in analysis.rigid_bodies],
        "outliers": {
            "far": int(outliers.far.sum()),
            "unlikely": int(outliers.unlikely.sum()),
            "either": int((outliers.far | outliers.unlikely).sum()),
        },
        "associations": [asdict(one) | {"worrying": one.worrying} for one in analysis.associations],
        "halfsets": [asdict(one) | {"worrying": one.worrying} for one in analysis.halves],
        "messages": analysis.messages,
        "warnings": analysis.warnings,
    }


def _states(analysis: Analysis, states: States) -> dict[str, Any]:
    """How many there are, how sure that is, and how many particles each holds."""
    return {
        "count": len(states),
        "resamples": states.counts,
        "population": states.population,
        "population_error": states.population_error,
        "probability": states.probability,
        "centre": analysis.space.to_latents(states.centre),
    }
