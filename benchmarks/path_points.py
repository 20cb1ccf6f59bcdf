"""How pure in state the particles behind the points of a path are.

For each path of `solvar analyze RUN`: standard deviation of the true state over the particles whose volumes
differ least from the one at each point, median and worst over the points.

    python benchmarks/path_points.py RUN ../shared/data/adk_64 [--nearest 50]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from solvar.estimation.posterior import squared_differences
from solvar.results.run import Run


def spreads(run: Run, path: Path, state: np.ndarray, nearest: int) -> np.ndarray:
    """Standard deviation of the state (N, d), rms over its coordinates, at each point of a path (n,)."""
    table, z = pd.read_csv(path), run.posterior.z
    points = table[[f"z{j + 1}" for j in range(run.rank)]].to_numpy(np.float64)
    found = []
    for point in points:
        near = np.argsort(squared_differences(z, point), kind="stable")[:nearest]
        found.append(np.sqrt(state[near].var(axis=0).mean()))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--nearest", type=int, default=50)
    given = parser.parse_args()
    run = Run(given.run)
    with np.load(given.truth / "gt.npz") as truth:
        state = truth["state_coord"].reshape(len(truth["state_coord"]), -1)
    state = state[run.particles["row"]]
    for path in sorted((given.run / "analysis").glob("trajectory_*.csv")):
        found = spreads(run, path, state, given.nearest)
        print(f"{path.stem:30} median {np.median(found):.3f}  worst {found.max():.3f}")


if __name__ == "__main__":
    main()
