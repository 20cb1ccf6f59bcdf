"""Pose refinement held against the truth: one row a set, errors before and after, and what they cost.

Reference sets (`../shared/data`, left out where absent) and simulated ones: poses as RELION left them, poses
with random errors, true poses, a hinge, and a molecule that does not move. Every set is also run with its
poses as they are and, for the captured variance to be compared with, at the true poses.

    python benchmarks/pose.py [--only hinge] [--seeds 1]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solvar.evaluation import Truth, evaluate
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HINGE: dict[str, Any] = {
    "particles": 2000, "box_size": 48, "pixel_size": 3.0, "pose_error": 5.0, "shift_error": 1.5,
}  # fmt: skip
RIGID = {**HINGE, "heterogeneity": "rigid", "snr": 0.1, "pose_error": 8.0, "shift_error": 2.0}
ERRORS = ("out_of_plane_degree", "in_plane_degree", "shift_px")


@dataclass(frozen=True)
class Row:
    """A set, the file whose poses are refined, and what is looked for."""

    name: str
    file: str
    rank: int | str
    simulated: dict[str, Any] = field(default_factory=dict)


def rows(seeds: int) -> Iterator[Row]:
    """Of the table."""
    for name, rank in (("adk_64", 4), ("pol2_64", 6)):
        if (DATA / name).is_dir():
            for file in ("particles_relion.star", "particles_noisy.star", "particles.star"):
                yield Row(name, file, rank)
    for seed in range(seeds):
        for rank in (10, "auto"):
            yield Row(
                f"hinge, seed {seed}",
                "particles_noisy.star",
                rank,
                {**HINGE, "snr": 0.3, "seed": seed},
            )
        for snr in (0.01, 0.1, 0.3):
            yield Row(
                f"hinge, SNR {snr}", "particles.star", 10, {**HINGE, "snr": snr, "seed": seed}
            )
        yield Row(f"rigid, seed {seed}", "particles_noisy.star", 4, {**RIGID, "seed": seed})


class Bench:
    """Runs, each done once."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._done: dict[tuple[Path, str, int | str, bool], tuple[Fit, float]] = {}

    def folder(self, row: Row) -> Path:
        """Where the set of a row lies."""
        if not row.simulated:
            return DATA / row.name
        made = self._scratch / "_".join(f"{key}{value}" for key, value in row.simulated.items())
        if not made.exists():
            simulate(SimulationSettings(**row.simulated)).write(made)
        return made

    def run(self, folder: Path, file: str, rank: int | str, refine: bool) -> tuple[Fit, float]:
        """A fit and the CPU seconds that it took."""
        key = folder, file, rank, refine
        if key not in self._done:
            settings = FitSettings(rank=rank, mask=folder / "mask.mrc", refine_pose=refine)
            begun = time.process_time()
            found = fit(read_particles(folder / file), settings)
            self._done[key] = found, time.process_time() - begun
        return self._done[key]

    def line(self, row: Row) -> str:
        """What a row of the table says."""
        folder = self.folder(row)
        truth = Truth.load(folder)
        found, seconds = self.run(folder, row.file, row.rank, True)
        _, fixed_seconds = self.run(folder, row.file, row.rank, False)
        told = evaluate(found, truth)
        poses = told["poses"]
        parts = [f"{row.name:16} {row.file:22} rank {row.rank!s:4}"]
        parts += [_errors(poses["start"]), "->", _errors(poses)]
        if "covariance" in told:
            true, _ = self.run(folder, "particles.star", found.model.rank, False)
            best = evaluate(true, truth)["covariance"]["captured_variance"]
            parts.append(
                f"captured {told['covariance']['captured_variance'] / best:.3f} of {best:.3f}"
            )
        if "within_state" in poses:
            parts.append("within state " + _errors(poses["within_state"]))
        if "bound_unknown_shape" in poses:
            parts.append("bound " + _numbers(poses["bound_unknown_shape"]))
        bars = poses["calibration"]
        for what in ("rotation", "shift"):
            one, two = (bars[f"{what}_within_{count}_sd"] for count in (1, 2))
            parts.append(f"{what} within 1, 2 sd: {one:.2f}, {two:.2f}")
        assert found.validation is not None
        parts.append(f"real {found.validation.reliable.sum()} of {found.model.rank}")
        peak = max(cost.peak_memory_mib for cost in found.costs)
        parts.append(
            f"{seconds / fixed_seconds:.1f} x fixed ({fixed_seconds:.0f} s CPU), {peak:.0f} MiB"
        )
        return "  ".join(parts)


def _numbers(values: dict[str, float]) -> str:
    return " / ".join(f"{values[name]:.3g}" for name in ERRORS)


def _errors(told: dict[str, Any]) -> str:
    """Means, the median of the first in brackets."""
    first, *others = (told[name]["mean"] for name in ERRORS)
    return f"{first:.2f} ({told[ERRORS[0]]['median']:.2f}) / " + " / ".join(
        f"{x:.3g}" for x in others
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name or file holds this")
    parser.add_argument("--seeds", type=int, default=1, help="of the simulated sets")
    given = parser.parse_args()
    print("out of plane mean (median), in plane (degrees) and shift (px)")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        for row in rows(given.seeds):
            if given.only in f"{row.name} {row.file}":
                print(bench.line(row), flush=True)


if __name__ == "__main__":
    main()
