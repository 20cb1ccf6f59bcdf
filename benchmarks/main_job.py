"""Wall time, CPU time and peak memory of `solvar run`, and how they grow with particles and box.

Each figure is of a whole process, from the operating system's own account of it, reading, figures and
import included; the median of several runs. The first run of all has an empty compilation cache.

    python benchmarks/main_job.py [--repeats 3] [--json]

`--threads` asks instead how much of a job several threads share: by the clock of one thread, which other
work on the machine does not disturb, and with `--wall` by the clock on the wall, one thread and all cores in
turns.

    python benchmarks/main_job.py --threads [--wall] [--particles 5000] [--box 64] [--rank 4]
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
from shared_out import Account

from solvar import job
from solvar.fitting.settings import FitSettings
from solvar.machine import available_cores
from solvar.particles import ParticleSet, read_particles

PARTICLES, BOXES, RANK = (1000, 2000, 3000), (32, 64), 4
MORE_THREADS = (2, 4, 8, 16)


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
    parser.add_argument("--threads", action="store_true")
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--particles", type=int, default=5000)
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--rank", type=int, default=RANK)
    options = parser.parse_args()
    if options.threads:
        threads_share(options)
        return
    with tempfile.TemporaryDirectory() as scratch:
        first, costs = run_all(Path(scratch), options.repeats)
    if options.json:
        rows = [{"box": box, "particles": n, **asdict(cost)} for (box, n), cost in costs.items()]
        print(json.dumps({"first_use": asdict(first), "runs": rows}, indent=1))
        return
    report(first, costs)


def threads_share(options: argparse.Namespace) -> None:
    """What threads share of a job, and what that is worth on more of them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "set"
        size = ["--box-size", str(options.box), "--pixel-size", str(224 / options.box)]
        count = ["--particles", str(options.particles), "--snr", "0.05"]
        measure(solvar("simulate", "-o", str(folder), *count, *size), dict(os.environ))
        particles = read_particles(folder / "particles.star")
        account = accounted(particles, options.rank, Path(scratch) / "run")
        show_account(account)
        run = ["run", str(folder / "particles.star"), "--rank", str(options.rank), "--overwrite"]
        costs: dict[int, list[Cost]] = {1: [], available_cores(): []} if options.wall else {}
        for _ in range(options.repeats):
            for threads, seen in costs.items():
                output = ["-o", str(Path(scratch) / "run"), "--threads", str(threads)]
                seen.append(measure(solvar(*run, *output), dict(os.environ)))
    for threads, seen in costs.items():
        wall, cpu = (np.median([getattr(c, name) for c in seen]) for name in ("wall", "cpu"))
        print(
            f"{threads} thread(s): {wall:.1f} s on the wall, {cpu:.1f} s of CPU, medians of {len(seen)}"
        )


def accounted(particles: ParticleSet, rank: int, folder: Path) -> Account:
    """A whole job on one thread, compiled before."""
    settings = FitSettings(rank=rank, threads=1)
    job.run_job(particles, settings, folder)
    account = Account()
    for name in (
        "gate",
        "announce",
        "fit",
        "write_run",
        "draw_figures",
        "draw_movies",
        "write_report",
    ):
        setattr(job, name, account.timed(name, getattr(job, name)))
    with account.watching():
        job.run_job(particles, settings, folder, overwrite=True)
    return account


def show_account(account: Account) -> None:
    """Seconds of each step, and a model of more threads."""
    steps = [step for step in account.outside if account.seconds(step) > (0.005, 0.0)]
    print(f"{'CPU s of one thread':20}{'alone':>8}{'shared':>8}{'alone %':>9}", end="")
    print("".join(f"{f'×{n}':>7}" for n in MORE_THREADS))
    for title, chosen in [*((step, [step]) for step in steps), ("all", steps)]:
        alone, shared = np.sum([account.seconds(step) for step in chosen], axis=0)
        whole = alone + shared
        gains = (whole / account.model(chosen, n) for n in MORE_THREADS)
        print(f"{title:20}{alone:8.2f}{shared:8.2f}{100 * alone / whole:8.1f}%", end="")
        print("".join(f"{gain:7.2f}" for gain in gains))


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
        for key, command in jobs.items():
            output = str(scratch / f"run{repeat}_{key[0]}_{key[1]}")
            runs[key].append(measure(solvar(*command, "-o", output), environment))
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
