"""What a GPU does for whole fits of simulated images, stage by stage, beside all cores of the CPU.

First table: a fit; second: one with refined poses; and how far their results are from the CPU's. They are
small, to fit into 100 and 60 s of a lent GPU: much of their time is the algebra between batches, on the host.

    python benchmarks/gpu_jobs.py [--particles 1000] [--refined 400] [--tables fit poses] [--quick]

`--quick` is a try of everything in small, on a machine without a GPU with the CPU alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from gpu import RANK, chosen, contestants, heading, release
from threadpoolctl import threadpool_limits

from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate

TABLES = ("fit", "poses")


@contextmanager
def simulated(particles: int, box: int, rank: int) -> Iterator[Path]:
    # true eigenvolumes of the other kinds take longer than a fit
    settings = SimulationSettings(
        particles=particles,
        box_size=box,
        pixel_size=224 / box,
        snr=0.1,
        pose_error=2.0,
        heterogeneity="gaussian",
        rank=rank,
    )
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1, user_api="blas"):
        start = time.perf_counter()
        simulate(settings).write(folder)
        print(f"\n{particles} images of box {box} simulated in {time.perf_counter() - start:.0f} s")
        yield Path(folder)


def jobs_table(particles: int, box: int, rank: int, refine: bool) -> None:
    """Print one of the tables, row by row."""
    star = "particles_noisy.star" if refine else "particles.star"
    with simulated(particles, box, rank) as folder:
        poses = ", poses refined" if refine else ""
        print(f"\n## A fit: {particles} images, box {box}, rank {rank}{poses}; s (of all cores)\n")
        expected: Fit | None = None
        for name, (backend, device) in contestants().items():
            settings = FitSettings(
                rank=rank,
                mask=folder / "mask.mrc",
                refine_pose=refine,
                backend=backend,
                device=device,
            )
            warm_up(settings)
            if device != "cpu":
                torch.cuda.reset_peak_memory_stats()
            found = fit(read_particles(folder / star), settings)
            peak = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}" if device != "cpu" else ""
            if expected is None:
                expected = found
                stages = " | ".join(cost.name for cost in found.costs)
                print(
                    f"| on | {stages} | all | peak GB | eigenvalues off by | latents off by | sweeps |"
                )
                print("|---" * (6 + len(found.costs)) + "|")
            cells = [f"{cost.wall_seconds:.1f} ({cost.cpu_seconds:.0f})" for cost in found.costs]
            cells.append(f"{sum(cost.wall_seconds for cost in found.costs):.1f}")
            cells += [peak, eigenvalues_off(found, expected), latents_off(found, expected)]
            cells.append(f"{len(found.history)}")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
            release()


def warm_up(settings: FitSettings) -> None:
    """Compile what a fit compiles, on a fit of next to nothing."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = SimulationSettings(particles=200, box_size=16, pixel_size=10.0, snr=0.5)
        star = simulate(tiny).write(folder)
        # what is found in so little means nothing, and neither do doubts of it
        fit(read_particles(star), settings.model_copy(update={"rank": 1, "mask": None}))


def eigenvalues_off(found: Fit, expected: Fit) -> str:
    """Greatest relative difference."""
    ratio = found.model.eigenvalues / expected.model.eigenvalues - 1
    return f"{np.abs(ratio).max():.1e}"


def latents_off(found: Fit, expected: Fit) -> str:
    """Median and greatest difference in standard deviations, components of either sign."""
    sign = np.sign(np.sum(found.posterior.z * expected.posterior.z, axis=0))
    off = np.abs(sign * found.posterior.z - expected.posterior.z)
    off = off / np.sqrt(expected.model.eigenvalues)
    return f"{np.median(off):.1e}, {off.max():.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=1000, help="of the fit at box 96, rank 10")
    parser.add_argument(
        "--refined", type=int, default=400, help="of the fit with refined poses, box 32, rank 3"
    )
    arguments = chosen(parser, TABLES)
    if arguments is None:
        return
    heading()
    quick = arguments.quick
    if "fit" in arguments.tables:
        jobs_table(*((400, 32, 3) if quick else (arguments.particles, 96, RANK)), refine=False)
    if "poses" in arguments.tables:
        jobs_table(*((200, 24, 2) if quick else (arguments.refined, 32, 3)), refine=True)


if __name__ == "__main__":
    main()
