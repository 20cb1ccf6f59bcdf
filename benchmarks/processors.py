"""The kernels of the projector against themselves, compiled for processors that can do less than this one.

python benchmarks/processors.py [--turns 15]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np
from projector import BATCH, BOX, RANKS, Problem, processor

from solvar.imaging.projector import make_projector
from solvar.threads import ThreadTeam

# What numba is told of the processor: its name and, where the name says too little, its abilities
PROCESSORS = {
    "this one": {},
    "AVX2, FMA (2013)": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
    "AVX (2011)": {"NUMBA_CPU_NAME": "sandybridge", "NUMBA_CPU_FEATURES": "+avx,+sse4.2"},
    "SSE4 (2008)": {"NUMBA_CPU_NAME": "nehalem", "NUMBA_CPU_FEATURES": "+sse4.2"},
    "SSE2 (2003)": {"NUMBA_CPU_NAME": "generic"},
}


def race(turns: int) -> dict[str, list[float]]:
    """CPU time of forward, adjoint and derivatives, µs an image and volume, one thread, in turns.

    A process can compile for one processor, so each contestant is one and runs when it is asked.
    """
    runners = {
        name: subprocess.Popen(
            [sys.executable, __file__, "--answer"], env={**os.environ, **told}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for name, told in PROCESSORS.items()
    }  # fmt: skip
    times: dict[str, list[list[float]]] = {name: [] for name in runners}
    for turn in range(turns + 1):
        for name, runner in runners.items():
            assert runner.stdin is not None and runner.stdout is not None
            print("go", file=runner.stdin, flush=True)
            answer = json.loads(runner.stdout.readline())
            if turn:  # the first one compiles
                times[name].append(answer)
    for runner in runners.values():
        runner.communicate()
    return {name: np.median(seen, axis=0).tolist() for name, seen in times.items()}


def answer() -> None:
    """One line of times for each line that is read."""
    problem = Problem(RANKS[0], ThreadTeam(1))
    projector = make_projector(BOX, problem.disc, interpolation="kaiser", team=problem.team)
    prepared, into = projector.prepare(problem.volumes), projector.zeros(problem.channels)
    where = problem.rotation, problem.scale
    slices = np.empty((BATCH, problem.channels, len(problem.disc)), np.complex64)
    moment = np.ones((BATCH, problem.channels))
    for _ in sys.stdin:
        seen = []
        for run in (
            lambda: projector.project(prepared, *where, slices),
            lambda: projector.scatter(slices, *where, into),
            lambda: projector.differentiate(prepared, *where, moment, slices),
        ):
            run()  # untimed: the contestant before has emptied the caches
            begun = time.process_time()
            run()
            seen.append(1e6 * (time.process_time() - begun) / BATCH / problem.channels)
        print(json.dumps(seen), flush=True)


def show(times: dict[str, list[float]]) -> None:
    """Print the table of `race`."""
    print(f"{processor()}; rank {RANKS[0]}, L = {BOX}, one thread, CPU µs an image and volume")
    print(f"{'compiled for':20}{'forward':>16}{'adjoint':>16}{'derivatives':>16}")
    base = times["this one"]
    for name, seen in times.items():
        cells = (f"{t:8.1f} ({t / b:3.1f}×)" for t, b in zip(seen, base, strict=True))
        print(f"{name:20}" + "".join(f"{cell:>16}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        answer()
    else:
        show(race(arguments.turns))


if __name__ == "__main__":
    main()
