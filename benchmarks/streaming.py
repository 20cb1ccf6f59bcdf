"""Images on disk: throughput against the bounds of this machine, memory, growth with N.

    python benchmarks/streaming.py FOLDER [--counts 10000 50000 200000]

FOLDER is what `solvar simulate -o FOLDER --particles 200000 --stacks 10` wrote (3.3 GB). One sweep of all
particles at the finest band is timed with whitened images on disk, in a process of its own for each N. In
the same process two bounds are measured on the same kernel and the same files:

compute   E-step and back-projection of a thousand particles that lie in memory, the best of twelve
disk      the whitened images of all particles read in the same order and thrown away

The share is the rate of the sweep over the lower of the two. The exponent is that of a sweep's time in N.

    python benchmarks/streaming.py FOLDER --fit [--counts 25000 50000 100000] [--until 1000000] [--rank 10]

times whole fits, images on disk, and says what the largest of all would take: as the last two grow, and
particle for particle.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.images import WhitenedImages
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.pixels import MemoryPixels
from solvar.estimation.prior import Prior
from solvar.estimation.solvers import make_column_solver
from solvar.estimation.whitening import in_memory_images
from solvar.fitting.fit import fit
from solvar.fitting.schedule import split_batches
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import load_mask, whitened_images
from solvar.particles import ImageStack, ParticleSet, assign_halfsets, read_particles
from solvar.progress import SilentProgress
from solvar.threads import ThreadTeam

RANK, CACHED = 4, 1000
GIB = 2**30


def start(band: Band) -> ColumnModel:
    """Columns of noise."""
    rng = np.random.default_rng(0)
    columns = 1e-3 * rng.standard_normal((1 + RANK, *[band.box] * 3)) * band.support.mean
    return ColumnModel(columns.astype(np.float32), contrast_sd=0.15)


def one_sweep(band: Band, settings: FitSettings, turns: int) -> float:
    """Seconds of the fastest of some sweeps over a band."""
    rng = np.random.default_rng(0)
    flat = np.full(band.k_c + 1, float(band.shell_information.mean()))
    batches = split_batches(band.index, settings.batch_size, rng)
    chosen = settings.solver, settings.objective
    solver = make_column_solver(*chosen, band, start(band), Prior(flat, flat), batches)
    seconds = []
    for _ in range(turns):
        begun = time.perf_counter()
        with SilentProgress().step("", 1) as step:
            solver.sweep(rng.permutation(len(batches)), step)
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def compute_bound(band: Band) -> float:
    """Particles a second of the E-step and the back-projection alone, images in memory."""
    model, objective, seconds = start(band), MaximumLikelihood(), []
    for _ in range(6):
        begun = time.perf_counter()
        objective.gradient(band, model, band.index)
        seconds.append(time.perf_counter() - begun)
    return len(band.index) / min(seconds)


def in_memory(images: WhitenedImages) -> WhitenedImages:
    """The first particles, kept in memory."""
    some = images.batch(np.arange(CACHED), images.disc)
    pixels = MemoryPixels(some.data, some.ctf)
    store, rotation = images.store, images.rotation[:CACHED]
    pixel_size = store.pixel_size_angstrom
    return in_memory_images(pixels, rotation, store.disc, store.box, pixel_size, some.ctf_power)


def read_all(images: WhitenedImages, index: np.ndarray, settings: FitSettings) -> float:
    """Seconds to read all images as a sweep reads them."""
    batches = split_batches(index, settings.batch_size, np.random.default_rng(0))
    begun = time.perf_counter()
    for batch in batches:
        for _ in images.batches(batch, images.disc, 1000):
            pass
    return time.perf_counter() - begun


def measure(particles: ParticleSet, scratch: Path) -> dict[str, float]:
    """Rates in particles a second, and the memory of this process."""
    settings = FitSettings(rank=RANK, lazy=True, scratch=scratch)
    stack = ImageStack(particles)
    mask = load_mask(settings, stack)
    count = len(particles)
    with ThreadTeam() as team:
        begun = time.perf_counter()
        images = whitened_images(particles, stack, mask, settings, SilentProgress(), team)
        whitening = time.perf_counter() - begun
        k_c, projection = images.disc.k_c, settings.projection
        small = Band(in_memory(images), np.arange(CACHED), k_c, mask, projection, team)
        compute = compute_bound(small)
        band = Band(images, np.arange(count), k_c, mask, projection, team)
        disk = count / read_all(images, band.index, settings)
        seconds = one_sweep(band, settings, 1 if count > 50_000 else 2)
        compute = max(compute, compute_bound(small))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    sweep = count / seconds
    return {
        "particles": count,
        "whitening": count / whitening,
        "compute": compute,
        "disk": disk,
        "sweep": sweep,
        "share": sweep / min(compute, disk),
        "seconds": seconds,
        "memory": memory,
    }


def whole_fit(particles: ParticleSet, scratch: Path, rank: int) -> dict[str, float]:
    """Seconds on the wall and of CPU of a fit, and the memory of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    fit(particles, FitSettings(rank=rank, lazy=True, scratch=scratch))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"particles": len(particles), "seconds": wall, "cpu": cpu, "memory": memory}


def in_own_process(folder: Path, count: int, *more: str) -> dict[str, float]:
    """What a process of its own measured of so many particles."""
    line = [sys.executable, __file__, str(folder), "--one", str(count), *more]
    made = subprocess.run(line, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(made.stdout.splitlines()[-1])
    return found


def time_fits(options: argparse.Namespace) -> None:
    """Print what whole fits take, and what one of many more particles would."""
    print(f"{'particles':>10} {'wall s':>8} {'CPU s':>8} {'GiB':>5}")
    rows = []
    for count in options.counts:
        row = in_own_process(options.folder, count, "--fit", "--rank", str(options.rank))
        rows.append(row)
        print(
            f"{count:10,} {row['seconds']:8.1f} {row['cpu']:8.1f} {row['memory']:5.2f}", flush=True
        )
    if len(rows) == 1:
        return
    before, last = rows[-2:]
    factor = last["particles"] / before["particles"]
    exponent = np.log(last["seconds"] / before["seconds"]) / np.log(factor)
    more = options.until / last["particles"]
    print(
        f"exponent {exponent:.2f}; {options.until:,}: {last['seconds'] * more**exponent / 60:.0f} min as the "
        f"last two grow, {last['seconds'] * more / 60:.0f} min particle for particle"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--rank", type=int, default=10)
    parser.add_argument("--until", type=int, default=1_000_000)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        particles = read_particles(options.folder / "particles.star")
        chosen = assign_halfsets(particles.select(np.arange(options.one)), 0)
        with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
            given = chosen, Path(scratch)
            found = whole_fit(*given, options.rank) if options.fit else measure(*given)
        print(json.dumps(found))
        return
    if options.fit:
        time_fits(options)
        return
    print(
        f"{'particles':>10} {'whiten/s':>9} {'compute/s':>10} {'disk/s':>9} {'sweep/s':>9}"
        f" {'share':>6} {'seconds':>8} {'GiB':>5}"
    )
    found = []
    for count in options.counts:
        row = in_own_process(options.folder, count)
        found.append(row)
        print(
            f"{row['particles']:10,} {row['whitening']:9,.0f} {row['compute']:10,.0f}"
            f" {row['disk']:9,.0f} {row['sweep']:9,.0f} {row['share']:6.0%}"
            f" {row['seconds']:8.1f} {row['memory']:5.2f}",
            flush=True,
        )
    logs = np.log([[row["particles"], row["seconds"]] for row in found])
    if len(found) > 1:
        print(f"exponent of the time of a sweep in N: {np.polyfit(*logs.T, 1)[0]:.3f}")


if __name__ == "__main__":
    main()
