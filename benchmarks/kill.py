"""Kills a run at random moments, again and again, and looks at what it ends with.

    python benchmarks/kill.py [--kills 50]

A small set is simulated and run once without disturbance. Then runs of the same are killed (kill -9) at a
random moment and resumed until they finish, and started anew, until there were as many kills as asked for.
Every finished run must have the numbers of the first one to the last bit, every checkpoint must be readable,
and the next start must leave no temporary file behind.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from solvar.evaluation import Truth, evaluate
from solvar.results.checkpoint import read_tree
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate

START = [sys.executable, "-m", "solvar", "run"]


def command(star: Path, folder: Path) -> list[str]:
    return [*START, str(star), "-o", str(folder), "--rank", "2", "--refine-pose", "--resume"]


def kill_once(line: list[str], moment: float) -> bool:
    """Whether the run was killed before it had finished."""
    program = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, said = program.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        program.send_signal(signal.SIGKILL)
        program.communicate()
        return True
    if program.returncode:
        sys.exit(f"a resumed run failed: {said}")
    return False


def look(folder: Path) -> None:
    """Stop unless everything that looks whole is whole."""
    for path in (folder / "checkpoint").glob("*.npz"):
        read_tree(path)
    if (folder / "run.json").exists():
        assert Run(folder).model.rank == 2


def same(first: Run, second: Run) -> bool:
    pairs = [
        (first.model.eigenvolumes, second.model.eigenvolumes),
        (first.posterior.z, second.posterior.z),
        (first.particles["rotation"], second.particles["rotation"]),
    ]
    return all(np.array_equal(a, b) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        data, folder = Path(scratch) / "data", Path(scratch) / "run"
        settings = SimulationSettings(particles=600, box_size=32, pixel_size=6.0, snr=0.3, seed=1)
        simulate(settings).write(data)
        star = data / "particles_noisy.star"
        subprocess.run(command(star, Path(scratch) / "whole"), check=True, capture_output=True)
        begun = time.perf_counter()
        subprocess.run(command(star, folder), check=True, capture_output=True)
        usual = time.perf_counter() - begun
        whole, truth = Run(Path(scratch) / "whole"), Truth.load(data)
        kills, finished, equal = 0, 0, 0
        while kills < options.kills:
            shutil.rmtree(folder, ignore_errors=True)
            while kill_once(command(star, folder), chance.uniform(0.3, 0.9) * usual):
                kills += 1
                look(folder)
            found = Run(folder)
            left = [*folder.rglob("*.partial*"), *folder.glob("checkpoint")]
            if left or not same(whole, found):
                print("left behind:", left) if left else print("other numbers")
            finished, equal = finished + 1, equal + (same(whole, found) and not left)
            captured = evaluate(found, truth)["covariance"]["captured_variance"]
            print(
                f"{kills:3d} kills, {finished:3d} finished, {equal:3d} of them the same to the last bit "
                f"and clean; captured variance {captured:.6f}",
                flush=True,
            )
    sys.exit(equal < finished)


if __name__ == "__main__":
    main()
