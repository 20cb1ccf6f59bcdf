"""Several processes on one machine: the same result, and what their sums cost.

    python benchmarks/parallel.py FOLDER [--processes 1 2 4] [--particles 50000]

FOLDER is what `solvar simulate` wrote, box 64. For each number of processes a sweep of all particles at the
finest band is timed. Before every sum the processes wait for each other, so that the time in it is that of
the transfer alone. `difference` is the largest difference of the columns after the sweep from those of one
process, relative to their largest value.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.prior import Prior
from solvar.estimation.solvers import make_column_solver
from solvar.fitting.schedule import split_batches
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import load_mask, whitened_images
from solvar.parallel import Array, OneProcess, Processes, join_processes
from solvar.particles import ImageStack, assign_halfsets, read_particles
from solvar.progress import SilentProgress
from solvar.threads import ThreadTeam

RANK = 4


class Watched(OneProcess):
    """Processes whose sums are timed."""

    def __init__(self, others: Processes) -> None:
        self.others, self.rank, self.size = others, others.rank, others.size
        self.summing = self.waiting = 0.0

    def sum(self, values: Array) -> Array:
        begun = time.perf_counter()
        self.others.wait()
        met = time.perf_counter()
        found = self.others.sum(values)
        self.waiting += met - begun
        self.summing += time.perf_counter() - met
        return found


def measure(folder: Path, count: int, output: Path) -> None:
    """One process of several: a sweep, timed; the first one writes what it found."""
    processes = Watched(join_processes())
    settings = FitSettings(rank=RANK, scratch=output)
    particles = read_particles(folder / "particles.star").select(np.arange(count))
    stack = ImageStack(assign_halfsets(particles, 0))
    mask = load_mask(settings, stack)
    with ThreadTeam() as team:
        images = whitened_images(
            particles, stack, mask, settings, SilentProgress(), team, processes
        )
        band = Band(images, np.arange(count), images.disc.k_c, mask, settings.projection, team)
        rng = np.random.default_rng(0)
        columns = 1e-3 * rng.standard_normal((1 + RANK, *[band.box] * 3)) * band.support.mean
        flat = np.full(band.k_c + 1, float(band.shell_information.mean()))
        batches = split_batches(band.index, None, rng)
        model = ColumnModel(columns.astype(np.float32), contrast_sd=0.15)
        chosen = settings.solver, settings.objective
        fit = make_column_solver(*chosen, band, model, Prior(flat, flat), batches)
        with SilentProgress().step("", 1) as step:
            fit.sweep(rng.permutation(len(batches)), step)  # compiles
            processes.summing = processes.waiting = 0.0
            begun = time.perf_counter()
            fit.sweep(rng.permutation(len(batches)), step)
            seconds = time.perf_counter() - begun
    if processes.rank == 0:
        np.save(output / "columns.npy", fit.model.columns)
        row = {"sweep": seconds, "summing": processes.summing, "waiting": processes.waiting}
        (output / "row.json").write_text(json.dumps(row))
    processes.others.leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--particles", type=int, default=50_000)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.output:
        measure(options.folder, options.particles, options.output)
        return
    print(
        f"{'processes':>9} {'sweep':>8} {'sums':>8} {'share':>6} {'waiting':>8} {'difference':>11}"
    )
    reference = None
    for number in options.processes:
        with tempfile.TemporaryDirectory() as scratch:
            line = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            line += ["--nproc-per-node", str(number), __file__, str(options.folder)]
            line += ["--particles", str(options.particles), "--output", scratch]
            subprocess.run(line, check=True, capture_output=True)
            row = json.loads((Path(scratch) / "row.json").read_text())
            columns = np.load(Path(scratch) / "columns.npy")
        reference = columns if reference is None else reference
        away = np.abs(columns - reference).max() / np.abs(reference).max()
        print(
            f"{number:9d} {row['sweep']:6.2f} s {row['summing']:6.3f} s"
            f" {row['summing'] / row['sweep']:6.1%} {row['waiting']:6.2f} s {away:11.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
