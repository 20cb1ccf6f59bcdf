"""The default solver against the published one: captured variance and time, side by side in one process.

    python benchmarks/solvers.py ../shared/data/adk_64 [--rank 4]

FOLDER holds particles.star, mask.mrc and the truth (as `solvar simulate` writes them).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from solvar.evaluation import Truth, evaluate
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles

RUNS = (("em", "ml"), ("adam", "ml"), ("adam", "ls"), ("em", "ml"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rank", type=int, default=4)
    given = parser.parse_args()
    particles = read_particles(given.folder / "particles.star")
    truth = Truth.load(given.folder)
    for solver, objective in RUNS:
        settings = FitSettings(
            rank=given.rank, mask=given.folder / "mask.mrc", solver=solver, objective=objective
        )
        start = time.perf_counter()
        found = fit(particles, settings)
        seconds = time.perf_counter() - start
        captured = evaluate(found, truth)["covariance"]["captured_variance"]
        print(
            f"{solver:4} {objective}: captured variance {captured:.3f} in {seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
