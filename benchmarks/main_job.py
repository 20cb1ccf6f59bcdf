"""Wall time, CPU time and peak memory of `solvar run`, and how they grow with particles and box.

Each figure is of a whole process, from the operating system's own account of it, reading, figures and
import included; the median of several runs. The first run of all has an empty compilation cache.

    python benchmarks/main_job.py [--repeats 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

PARTICLES, BOXES, RANK = (1000, 2000, 3000), (32, 64), 4


@dataclass(frozen=True)
class Cost:
    """Seconds and MiB of one process."""

    wall: float
    cpu: float
    memory: float


def measure(command: list[str], environment: dict[str, str]) -> Cost:
    """Run a command to its end and account for it."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    complaint = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)} failed:\n{complaint}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)


def solvar(*arguments: str) -> list[str]:
    """A command line of this program, run by this interpreter."""
    return [sys.executable, "-c", "from solvar.cli.main import main; main()", *arguments]


def exponent(x: list[float], y: list[float]) -> float:
    """Slope of log y against log x."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main() -> None:
    """Simulate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        first, costs = run_all(Path(scratch), options.repeats)
    if options.json:
        rows = [{"box": box, "particles": n, **asdict(cost)} for (box, n), cost in costs.items()]
        print(json.dumps({"first_use": asdict(first), "runs": rows}, indent=1))
        return
    report(first, costs)


def run_all(scratch: Path, repeats: int) -> tuple[Cost, dict[tuple[int, int], Cost]]:
    """First use with an empty cache, then every box and number of particles."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(scratch / "cache")}
    jobs = {}
    for box in BOXES:
        folder = scratch / f"box{box}"
        size = ["--box-size", str(box), "--pixel-size", str(224 / box), "--snr", "0.05"]
        simulate = ["simulate", "-o", str(folder), "--particles", str(max(PARTICLES)), *size]
        measure(solvar(*simulate), environment)
        for count in PARTICLES:
            chosen = folder / f"first{count}.txt"
            np.savetxt(chosen, np.arange(count), fmt="%d")
            stack, mask = str(folder / "particles.star"), str(folder / "mask.mrc")
            jobs[box, count] = [
                "run",
                stack,
                "--rank",
                str(RANK),
                "--mask",
                mask,
                "--ind",
                str(chosen),
            ]
    runs: dict[tuple[int, int], list[Cost]] = {key: [] for key in jobs}
    smallest = jobs[BOXES[0], PARTICLES[0]]
    first = measure(solvar(*smallest, "-o", str(scratch / "first")), environment)
    for repeat in range(repeats):
        for key, job in jobs.items():
            output = str(scratch / f"run{repeat}_{key[0]}_{key[1]}")
            runs[key].append(measure(solvar(*job, "-o", output), environment))
    median = {
        key: Cost(*(float(np.median([getattr(c, f) for c in costs])) for f in Cost.__annotations__))
        for key, costs in runs.items()
    }
    return first, median


def report(first: Cost, costs: dict[tuple[int, int], Cost]) -> None:
    """A table and the exponents of growth."""
    print(
        f"{platform.node()}: {platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    )
    print(f"{'box':>4} {'particles':>9} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9}")
    for (box, count), cost in costs.items():
        print(f"{box:4d} {count:9d} {cost.wall:8.1f} {cost.cpu:8.1f} {cost.memory:9.0f}")
    smallest = costs[BOXES[0], PARTICLES[0]]
    print(
        f"first use, compilation included: {first.wall:.1f} s, {first.wall - smallest.wall:.1f} s more"
    )
    for box in BOXES:
        cpu = [costs[box, n].cpu for n in PARTICLES]
        print(f"CPU time at box {box} grows as particles^{exponent(list(PARTICLES), cpu):.2f}")
    for count in PARTICLES:
        cpu = [costs[box, count].cpu for box in BOXES]
        print(f"CPU time of {count} particles grows as box^{exponent(list(BOXES), cpu):.2f}")


if __name__ == "__main__":
    main()
