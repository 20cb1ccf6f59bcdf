"""Memory of each of several processes by number of particles: what a particle costs, bytes.

    python benchmarks/sharding.py FOLDER [--processes 1 2 4] [--particles 64000 128000] [--no-lazy]
        [--resolution 24] [--rank 10]

FOLDER is what `solvar simulate -o FOLDER --particles 128000 --box-size 24 --pixel-size 8` wrote: what is kept
of a particle beside its pixels does not depend on the box. Fits of rank 10 up to 24 Å, images on disk, or in
memory with `--no-lazy`. Each process looks fifty times a second at the memory that is its own: pages of
files, which the system takes back when it must, are left out, and freed memory goes back at once. A row tells
the peaks of the first process and of the largest of the others at the larger number of particles, and slopes
between the two numbers: of reading the table; of the step of the fit that grows most, at the first process
and at the others; and of what the first one does alone after that: files, figures, report. `of one` is the
slope of the fit at the others over that of a single process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

MIB = 2**20
READING, WRITING = "reading", "writing"
# freed memory must not count: all but small pieces are mapped, and unmapped again
ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Watch(threading.Thread):
    """The peak of each stage of a run, bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stage, self.peaks = READING, dict[str, int]()

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text(encoding="ascii")
            own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
            stage = self.stage
            self.peaks[stage] = max(self.peaks.get(stage, 0), int(own.split()[1]) * 1024)
            time.sleep(0.02)


def measure(asked: argparse.Namespace) -> None:
    """One process of several: a fit, and what it took."""
    import solvar
    from solvar import job
    from solvar.progress import SilentProgress
    from solvar.report import figures  # noqa: F401  of the imports of a run

    watch = Watch()

    class Told(SilentProgress):
        """Tells the watch how far the run has come."""

        def step(self, name: str, total: int, unit: str = "particles") -> Any:
            if watch.stage != WRITING:
                watch.stage = name
            return super().step(name, total, unit)

    def write_run(*given: Any) -> None:
        watch.stage = WRITING
        written(*given)

    written = job.write_run
    # what the processes that do not speak are told
    job.SilentProgress, job.write_run = Told, write_run  # type: ignore[misc, assignment]
    watch.start()
    table = solvar.read_particles(asked.folder / "particles.star")
    watch.stage = "start"
    settings = solvar.FitSettings(
        rank=asked.rank, resolution=asked.resolution, lazy=not asked.no_lazy
    )
    solvar.fit(table, settings, asked.output / "run", progress=Told())
    row = json.dumps(watch.peaks)
    (asked.output / f"{os.environ['RANK']}.json").write_text(row, encoding="ascii")


def fitted(asked: argparse.Namespace, processes: int, count: int) -> list[dict[str, int]]:
    """Peaks of every process of a fit, the first one first."""
    from solvar.particles import read_particles, write_star

    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        few = read_particles(asked.folder / "particles.star").select(range(count))
        write_star(Path(scratch) / "particles.star", few, {})
        line = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        line += ["--nproc-per-node", str(processes), __file__, scratch, "--output", scratch]
        line += ["--resolution", str(asked.resolution), "--rank", str(asked.rank)]
        line += ["--no-lazy"] if asked.no_lazy else []
        subprocess.run(line, check=True, capture_output=True, env=os.environ | ALLOCATION)
        rows = [Path(scratch) / f"{rank}.json" for rank in range(processes)]
        return [json.loads(row.read_text(encoding="ascii")) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--particles", type=int, nargs=2, default=[64_000, 128_000])
    parser.add_argument("--no-lazy", action="store_true")
    parser.add_argument("--resolution", type=float, default=24.0, help="Å")
    parser.add_argument("--rank", type=int, default=10)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.output:
        measure(asked)
        return
    few, many = asked.particles
    print(f"{'':9} {'peak, MiB':>14}   bytes a particle")
    print(
        f"{'processes':>9} {'first':>7} {'others':>6}   {'reading':>7} {'first':>6} {'others':>6}"
        f" {'of one':>6} {'writing':>7}"
    )
    alone = None
    for processes in asked.processes:
        found = [fitted(asked, processes, count) for count in (few, many)]

        def slope(others: bool, *stages: str, found: Any = found) -> float:
            # of one process there are no others
            chosen = slice(len(found[0]) > 1, None) if others else slice(1)
            less, more = (each[chosen] for each in found)
            return max(
                (max(row[stage] for row in more) - max(row[stage] for row in less)) / (many - few)
                for stage in stages
            )

        steps = [name for name in found[0][-1] if name not in (READING, WRITING, "start")]
        first, *others = (max(row.values()) for row in found[1])
        each = slope(True, *steps)
        alone = each if alone is None else alone
        print(
            f"{processes:9d} {first / MIB:7.0f} {max(others, default=first) / MIB:6.0f}  "
            f" {slope(False, READING):7.0f} {slope(False, *steps):6.0f} {each:6.0f}"
            f" {each / alone:6.2f} {slope(False, WRITING):7.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
