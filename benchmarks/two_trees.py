"""The main job of two source trees in turns: cost of the whole process, and what is found, seed by seed.

For a change that must not change results. The other tree comes from `git worktree add ../before COMMIT`.

    nice python benchmarks/two_trees.py ../before ../shared/data/adk_64 [--star particles.star]
        [--seeds 3] [-- --rank 4 --refine-pose]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from main_job import measure

HERE = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path, help="the other tree")
    parser.add_argument("data", type=Path, help="a simulated set with its truth")
    parser.add_argument("--star", default="particles.star")
    parser.add_argument("--seeds", type=int, default=3)
    given = sys.argv[1:]
    end = given.index("--") if "--" in given else len(given)
    asked, options = parser.parse_args(given[:end]), given[end + 1 :] or ["--rank", "4"]
    found: dict[str, list[dict[str, float]]] = {"before": [], "here": []}
    for seed in range(asked.seeds):
        for name, tree in (("before", asked.before), ("here", HERE)):
            settings = [*options, "--seed", str(seed)]
            found[name].append(one_run(tree, asked.data, asked.star, settings))
            print(seed, name, {k: round(v, 4) for k, v in found[name][-1].items()}, flush=True)
    report(found)


def one_run(tree: Path, data: Path, star: str, options: list[str]) -> dict[str, float]:
    """Cost and metrics of one run."""
    environment = {**os.environ, "PYTHONPATH": str(tree.absolute() / "src")}
    solvar = [sys.executable, "-m", "solvar"]
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        cost = measure([*solvar, "run", str(data / star), "-o", run, *options], environment)
        told = f"{folder}/told"
        measure([*solvar, "evaluate", run, "--truth", str(data), "-o", told], environment)
        metrics = json.loads(Path(told, "metrics.json").read_text())
    return {"cpu_s": cost.cpu, "memory_mib": cost.memory, **chosen(metrics)}


def chosen(metrics: dict[str, Any]) -> dict[str, float]:
    """What is compared of all that `solvar evaluate` tells."""
    numbers = {"captured": metrics["covariance"]["captured_variance"]}
    latents = metrics.get("latents") or {}
    for number, value in enumerate(latents.get("knn_spearman", []), 1):
        numbers[f"spearman_{number}"] = value
    if "calibration_chi2" in latents:
        numbers["calibration_chi2"] = latents["calibration_chi2"]
    if metrics.get("contrast"):
        numbers["contrast"] = metrics["contrast"]["correlation"]
    poses = metrics.get("poses") or {}
    for part in ("out_of_plane_degree", "in_plane_degree", "shift_px"):
        if part in poses and poses[part]["mean"] > 1e-3:
            numbers[part] = poses[part]["mean"]
    return numbers


def report(found: dict[str, list[dict[str, float]]]) -> None:
    """Means of either tree, the spread from seed to seed, and the ratio."""
    print(f"\n{'':22s}{'before':>10s}{'here':>10s}{'spread':>10s}{'ratio':>8s}")
    for name in found["before"][0]:
        old, new = ([run[name] for run in found[tree]] for tree in ("before", "here"))
        spread = stdev(old) if len(old) > 1 else float("nan")
        ratio = mean(new) / mean(old)
        print(f"{name:22s}{mean(old):10.4f}{mean(new):10.4f}{spread:10.4f}{ratio:8.3f}")


if __name__ == "__main__":
    main()
