"""States held against the truth: how many are found where there are some, and where there are none.

Simulated sets of two, four and eight states and of continuous motions (hinge and loop, populations flat along
both), each run and analysed anew for a number of seeds; and the reference sets (`../shared/data`, left out
where absent): `adk_64`, flat along one motion, all of it and 300 particles of it, and `pol2_64`, two
preferred angles of the clamp with and without the stalk.

    python benchmarks/states.py [--only discrete] [--seeds 3] [--particles 3000] [--threads 1]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from solvar.analysis import AnalysisSettings, analyze
from solvar.analysis.states import States
from solvar.fitting.settings import FitSettings
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Row:
    """A kind of set, and how many states it has: 1 where none is separate."""

    name: str
    rank: int
    states: int
    simulated: dict[str, Any] = field(default_factory=dict)
    reference: str = ""
    particles: int | None = None


def rows() -> Iterator[Row]:
    """Of the table."""
    for snr in (0.1, 0.05):
        for count in (2, 4, 8):
            settings = {"heterogeneity": "discrete", "states": count, "snr": snr}
            yield Row(f"discrete {count}, SNR {snr}", count, count, settings)
    for snr in (0.3, 0.1, 0.05):
        settings = {"heterogeneity": "hinge-loop", "snr": snr, "box_size": 48, "pixel_size": 4.0}
        yield Row(f"continuous, SNR {snr}", 5, 1, settings)
    yield Row("noise alone", 4, 1, {"heterogeneity": "rigid", "snr": 1e-6, "box_size": 48})
    if DATA.is_dir():
        yield Row("adk_64", 4, 1, reference="adk_64")
        yield Row("adk_64, 300 particles", 4, 1, reference="adk_64", particles=300)
        yield Row("pol2_64", 6, 4, reference="pol2_64")


def found_in(
    row: Row, seed: int, count: int, threads: int | None, scratch: Path
) -> tuple[States | None, Path]:
    """The states of a set, and where the set lies."""
    folder = DATA / row.reference
    if row.simulated:
        folder = scratch / "set"
        made = simulate(SimulationSettings(particles=count, seed=seed, **row.simulated))
        made.write(folder, overwrite=True)
    particles = read_particles(folder / "particles.star")
    if row.particles is not None:
        chosen = np.random.default_rng(seed).permutation(len(particles))[: row.particles]
        particles = particles.select(np.sort(chosen))
    # a run refuses to look for anything in noise
    settings = FitSettings(
        rank=row.rank, mask=folder / "mask.mrc", seed=seed, threads=threads, force=True
    )
    run_job(particles, settings, scratch / "run", overwrite=True)
    return analyze(Run(scratch / "run"), AnalysisSettings(seed=seed)).states, folder


def worst_population(states: States, folder: Path) -> str:
    """The largest difference between the share of a state and that of the true one that it meets most."""
    with np.load(folder / "gt.npz") as truth:
        true = truth["state"]
    if folder.name == "pol2_64":
        # four places: the clamp on either side of the plateau, with the stalk and without
        true = 2 * (true % 40 >= 21) + (true >= 40)
    known, place = np.unique(true, return_inverse=True)
    met = np.stack([np.bincount(place, weight, len(known)) for weight in states.membership.T])
    ours, theirs = linear_sum_assignment(met, maximize=True)
    share = np.bincount(place) / len(place)
    return f", populations off by {100 * np.abs(states.population[ours] - share[theirs]).max():.1f} points"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--particles", type=int, default=3000)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    for row in rows():
        if given.only not in row.name:
            continue
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        # all of a reference set is one set: only its resamples are drawn anew
        for seed in seeds if row.simulated or row.particles else seeds[:1]:
            with tempfile.TemporaryDirectory() as scratch:
                states, folder = found_in(row, seed, given.particles, given.threads, Path(scratch))
                told = "no component is real"
                if states is not None:
                    again = ", ".join(f"{n}: {s:.0%}" for n, s in states.counts.items())
                    right = "right" if len(states) == row.states else f"{row.states} are there"
                    told = f"{len(states)} found, {right} (halves {again})"
                    if len(states) == row.states > 1:
                        told += worst_population(states, folder)
                print(f"{row.name:24} seed {seed}  {told}", flush=True)


if __name__ == "__main__":
    main()
