"""Resident memory of a run by box and rank, images on disk: stage by stage, and how it grows.

    python benchmarks/memory.py FOLDER [--boxes 64 96 128] [--ranks 10] [--particles 640] [--largest 4]

Each fit is a process of its own, of few particles in as many batches as those of a large set: what grows with
the box is volumes, lattices and targets, and a fit of 20,000 particles has the same ones. A thread reads
resident memory fifty times a second; the kernel's peak, in `all`, knows what it misses. `file` is the share
of the peak in pages of files, which the system takes back when it must. With `--largest` the arrays of
the peak are told too, which takes longer. With `--sweep` made-up images stand in for a stack: what is done
is a sweep of both halves at the finest band and their merging: the steps with the largest arrays, for boxes
where a fit takes hours. The exponents are those of the peak less that of the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

GIB = 2**30
PAGE = os.sysconf("SC_PAGE_SIZE")
BATCHES = 16  # of all particles: eight in each half, as those of a large set


class Watch(threading.Thread):
    """The peak of each stage, and what is allocated at the largest one."""

    def __init__(self, largest: int) -> None:
        super().__init__(daemon=True)
        self.stage, self.peaks, self.seconds = "imports", {"imports": (0, 0)}, {"imports": 0.0}
        self.arrays: list[str] = []
        self._largest, self._told, self._begun = largest, 0, time.perf_counter()
        self._over = threading.Event()
        if largest:
            tracemalloc.start(8)

    def enter(self, stage: str) -> None:
        """What is done from now on; the same stage may be entered again."""
        now = time.perf_counter()
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + now - self._begun
        self.stage, self._begun = stage, now

    def run(self) -> None:
        """Look until `end`."""
        while not self._over.wait(0.02):
            _, resident, shared = (int(n) for n in Path("/proc/self/statm").read_text().split()[:3])
            stage = self.stage
            if resident > self.peaks.get(stage, (0, 0))[0]:
                self.peaks[stage] = resident, shared
            if self._largest and resident > 1.05 * self._told:
                self._told = resident
                self.arrays = _largest_arrays(self._largest)

    def end(self) -> None:
        """Stop looking."""
        self.enter("")
        self._over.set()


def _largest_arrays(count: int) -> list[str]:
    """The lines that hold most, MiB."""
    found = []
    for each in tracemalloc.take_snapshot().statistics("traceback")[:count]:
        own = [f for f in each.traceback if "solvar" in f.filename] or list(each.traceback)
        last = own[-1]
        found.append(f"{each.size / 2**20:8.0f}  {Path(last.filename).name}:{last.lineno}")
    return found


def sweep(asked: argparse.Namespace, box: int) -> None:
    """Sweep two models of made-up images and merge them, and print what it took; in a process of its own."""
    watch = Watch(asked.largest)
    watch.start()
    from solvar.estimation.band import Band
    from solvar.estimation.column_model import ColumnModel
    from solvar.estimation.latents import leading, principal_axes
    from solvar.estimation.pixels import DiskPixels
    from solvar.estimation.prior import Prior
    from solvar.estimation.solvers.em import IncrementalEm
    from solvar.estimation.whitening import in_memory_images
    from solvar.imaging import rotations
    from solvar.imaging.fourier import HalfDisc
    from solvar.imaging.masks import soft_sphere
    from solvar.progress import SilentProgress
    from solvar.threads import ThreadTeam

    rng, count = np.random.default_rng(0), asked.particles
    disc, rank = HalfDisc.of_radius(box // 2 - 1), asked.of_one
    with ThreadTeam() as team, SilentProgress().step("", 1) as step:
        watch.enter("images")
        pixels = DiskPixels(asked.folder, np.zeros(count, np.int8), [len(disc)])
        for row in np.arange(count)[:, None]:
            data = rng.standard_normal((1, 2 * len(disc))).astype(np.float32).view(np.complex64)
            pixels.write(row, data, np.ones(data.shape, np.float32))
        power = np.ones((count, disc.k_c + 1), np.float32)
        images = in_memory_images(pixels, rotations.random(count, rng), disc, box, 1.0, power)
        mask = pixels.shelf.keep(soft_sphere(box, 0.85 * box))
        halves = np.array_split(np.arange(count), 2)
        prior = Prior(np.ones(disc.k_c + 1), np.ones(disc.k_c + 1))
        watch.enter("starts")
        bands = [Band(images, half, disc.k_c, mask, team=team) for half in halves]
        solvers = []
        for band in bands:
            columns = np.empty((1 + rank, *[box] * 3), np.float32)
            for column in columns:
                column[:] = 1e-3 * rng.standard_normal(mask.shape, np.float32) * mask
            parts = np.array_split(band.index, 2)
            solvers.append(IncrementalEm(band, ColumnModel(columns, 0.1), prior, parts))
            del columns, column
        watch.enter("sweeps")
        for solver in solvers:
            solver.sweep(np.arange(2), step)
        watch.enter("merging")
        merged = leading([v for solver in solvers for v in solver.columns[1:]], rank)
        pixels.shelf.rest()
        watch.enter("axes")
        principal_axes(merged)
    _tell(watch, [])


def _tell(watch: Watch, planned: list[str]) -> None:
    """Print peaks, for the process that asked."""
    watch.end()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peaks = {
        name: (seen[0] * PAGE, seen[1] * PAGE, watch.seconds.get(name, 0.0))
        for name, seen in watch.peaks.items()
    }
    print(json.dumps([peaks, peak, watch.arrays, planned]))


def measure(asked: argparse.Namespace) -> None:
    """Fit, and print what it took; in a process of its own."""
    watch, folder = Watch(asked.largest), asked.folder
    watch.start()
    import solvar
    from solvar.progress import SilentProgress
    from solvar.report import figures  # noqa: F401  of the imports of a run

    planned: list[str] = []

    class Told(SilentProgress):
        def step(self, name: str, total: int, unit: str = "particles") -> AbstractContextManager:
            watch.enter(name)
            return super().step(name, total, unit)

        def message(self, text: str) -> None:
            if text.startswith("This run takes"):
                planned.append(text)

    table = solvar.read_particles(folder / "particles.star")
    table = table.select(np.arange(min(asked.particles, len(table))))
    # the pixels alone would fit
    each = max(1, len(table) // BATCHES)
    settings = solvar.FitSettings(rank=asked.of_one, lazy=True, batch_size=each)
    with tempfile.TemporaryDirectory(dir=folder) as run:
        watch.enter("start")
        solvar.fit(table, settings, Path(run) / "run", progress=Told(), overwrite=True)
    _tell(watch, planned)


def exponent(size: Sequence[float], memory: Sequence[float]) -> float:
    """Of a power law through the points."""
    return float(np.polyfit(np.log(size), np.log(memory), 1)[0])


def table_of(asked: argparse.Namespace, box: int, rank: int) -> tuple[int, int]:
    """One fit; its peak and that of the imports, bytes."""
    where, particles = asked.folder / f"box_{box}", asked.particles
    if asked.sweep:
        where.mkdir(parents=True, exist_ok=True)
    elif not (where / "particles.star").exists():
        size = ["--box-size", str(box), "--pixel-size", str(3.0 * 64 / box)]
        made = ["solvar", "simulate", "-o", str(where), "--particles", str(particles), *size]
        subprocess.run([sys.executable, "-m", *made], check=True, stdout=subprocess.DEVNULL)
    command = [sys.executable, __file__, str(where), "--of-one", str(rank)]
    command += ["--particles", str(particles), "--largest", str(asked.largest)]
    command += ["--sweep", "--boxes", str(box)] if asked.sweep else []
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks, peak, arrays, planned = json.loads(done.stdout.splitlines()[-1])
    print(f"\nbox {box}, rank {rank}, {particles} particles; {' '.join(planned)}")
    print(f"{'stage':45} {'GiB':>6} {'file':>6} {'seconds':>8}")
    for name, (memory, file, seconds) in peaks.items():
        print(f"{name:45} {memory / GIB:6.2f} {file / GIB:6.2f} {seconds:8.1f}")
    seconds = sum(each[2] for each in peaks.values())
    print(f"{'all':45} {peak / GIB:6.2f} {'':6} {seconds:8.1f}", *arrays, sep="\n", flush=True)
    return peak, peaks["imports"][0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--boxes", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--ranks", type=int, nargs="+", default=[10])
    parser.add_argument("--particles", type=int, default=640)
    parser.add_argument("--largest", type=int, default=0)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--of-one", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.of_one:
        sweep(asked, asked.boxes[0]) if asked.sweep else measure(asked)
        return
    found = {(box, rank): table_of(asked, box, rank) for rank in asked.ranks for box in asked.boxes}
    grown = {each: peak - imports for each, (peak, imports) in found.items()}
    for rank in asked.ranks if len(asked.boxes) > 1 else []:
        power = exponent(asked.boxes, [grown[box, rank] for box in asked.boxes])
        # buffers are as large at any box; volumes, lattices and targets are not
        cube, fixed = np.polyfit(
            [box**3 for box in asked.boxes], [found[b, rank][0] for b in asked.boxes], 1
        )
        beyond = [f"{box}: {(fixed + cube * box**3) / GIB:.1f} GiB" for box in (256, 384)]
        print(
            f"rank {rank}: exponent in the box {power:.2f}; a constant and the cube, box {', '.join(beyond)}"
        )
    for box in asked.boxes if len(asked.ranks) > 1 else []:
        power = exponent(
            [1 + rank for rank in asked.ranks], [grown[box, rank] for rank in asked.ranks]
        )
        print(f"box {box}: exponent in the columns 1 + rank {power:.2f}")


if __name__ == "__main__":
    main()
