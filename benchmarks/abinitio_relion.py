"""Ab initio beside RELION's way: its initial model, its refinement, then `solvar run` at those poses.

The set of `solvar demo --ab-initio`, smaller; same images, side by side on the same cores. RELION 3.1 is
Debian's package: `apt-get install relion`. Its full schedule takes days on two cores, so `--share` shortens
its stochastic gradient descent, in RELION's favour, and its search of shifts covers three of their standard
deviations where its default is six pixels.

    python benchmarks/abinitio_relion.py [--particles 500] [--share 0.25] [--threads 1] [--work FOLDER]

RELION goes on from files that are in the folder. Ratios are of CPU time, which says the same beside other
jobs; that of RELION's master process, which waits by asking, is in it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import starfile
from abinitio import Took, reached

from solvar.imaging.frames import frame_between
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate

SET: dict[str, Any] = {
    "box_size": 32,
    "pixel_size": 6.0,
    "snr": 0.3,
    "shift_sd": 1.0,
    "motion": 0.5,
    "heterogeneity": "hinge-loop",
}
RANK, DIAMETER = 4, 180
# of RELION's job of an initial model: iterations and images an iteration at its beginning and end
ITERATIONS, SUBSETS = {"ini": 50, "inbetween": 200, "fin": 50}, {"ini": 100, "fin": 500}
SAMPLING = "--oversampling 1 --offset_range 3 --offset_step 2"
COMMON = (
    f"--ctf --flatten_solvent --zero_mask --sym C1 --pad 1 --particle_diameter {DIAMETER} "
    "--dont_combine_weights_via_disc --preread_images --pool 3 --norm --scale"
)


def iterations(share: float) -> dict[str, int]:
    """Of its initial model, shortened."""
    return {name: max(1, round(share * count)) for name, count in ITERATIONS.items()}


def initial_model(star: Path, folder: Path, share: float, threads: int) -> str:
    """RELION's command for a model from images alone."""
    steps = iterations(share).items()
    counts = " ".join(f"--sgd_{name}_iter {count}" for name, count in steps)
    subsets = " ".join(f"--sgd_{name}_subset {count}" for name, count in SUBSETS.items())
    return (
        f"relion_refine --i {star} --o {folder}/initial --sgd --denovo_3dref --K 1 {COMMON} {SAMPLING} "
        f"--healpix_order 1 --sgd_ini_resol 35 --sgd_fin_resol 15 --sgd_write_iter 1000 {counts} "
        f"{subsets} --j {threads}"
    )


def refinement(star: Path, folder: Path, model: Path, threads: int, order: int) -> str:
    """RELION's command for poses and half-maps from there; its HEALPix grid begins with an order."""
    grid = f"--healpix_order {order} --auto_local_healpix_order 4"
    return (
        f"mpirun --allow-run-as-root --oversubscribe -n 3 relion_refine_mpi --i {star} --o {folder}/refined "
        f"--auto_refine --split_random_halves --ref {model} --ini_high 35 --firstiter_cc {COMMON} "
        f"{SAMPLING} {grid} --low_resol_join_halves 40 --j {threads}"
    )


def of_children() -> float:
    """CPU seconds of processes that this one has waited for, and of those that they have waited for."""
    spent = os.times()
    return spent.children_user + spent.children_system


def timed(command: str, folder: Path, done: Path) -> Took:
    """What a command takes in a folder; nothing where what it makes is there."""
    if done.exists():
        print(f"there already: {done}")
        return Took()
    print(f"$ {command}", flush=True)
    begun, cpu = time.perf_counter(), of_children()
    with done.with_suffix(".log").open("w") as log:
        subprocess.run(shlex.split(command), cwd=folder, stdout=log, stderr=log, check=True)
    return Took(time.perf_counter() - begun, of_children() - cpu)


def without_poses(folder: Path) -> Path:
    """A star file of the set that knows no poses."""
    blocks = starfile.read(folder / "particles.star")
    table = blocks["particles"]
    blocks["particles"] = table[
        [name for name in table if not name.startswith(("rlnAngle", "rlnOrigin"))]
    ]
    starfile.write(blocks, folder / "images.star", overwrite=True)
    return folder / "images.star"


def in_order(star: Path, folder: Path) -> Path:
    """What RELION wrote, in the order of the set and beside its images."""
    blocks, first = starfile.read(star), starfile.read(folder / "particles.star")
    table = blocks["particles"].set_index("rlnImageName")
    blocks["particles"] = table.loc[first["particles"]["rlnImageName"]].reset_index()
    ordered = folder / star.name
    starfile.write(blocks, ordered, overwrite=True)
    return ordered


def poses_told(star: Path, true: Any) -> str:
    """How far RELION's poses are off after alignment, of either hand."""
    found = read_particles(star).poses.rotation
    angle = np.rad2deg(frame_between(found, true.poses.rotation).angle)
    return f"median {np.median(angle):6.2f} deg, within 20 {np.mean(angle < 20):6.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.25, help="of RELION's iterations")
    parser.add_argument("--healpix", type=int, default=2, help="order its refinement begins with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder; a temporary one by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        compare(work.resolve(), given.particles, given.share, given.threads, given.healpix)


def compare(work: Path, count: int, share: float, threads: int, order: int) -> None:
    """Both on the same images."""
    folder = work / "set"
    if not folder.exists():
        simulate(SimulationSettings(particles=count, seed=1, **SET)).write(folder)
    true = read_particles(folder / "particles.star")
    images = without_poses(folder)
    ours = reached(folder, images.name, 0, threads, rank=RANK, ab_initio=True)
    print(f"solvar abinitio         {ours}", flush=True)

    stem = f"initial_it{sum(iterations(share).values()):03d}"
    model, first = work / f"{stem}_class001.mrc", work / f"{stem}_data.star"
    begun = timed(initial_model(images, work, share, threads), folder, first)
    told = poses_told(in_order(first, folder), true)
    print(f"RELION initial model    {told}, {begun}", flush=True)
    last = work / "refined_data.star"
    then = begun + timed(refinement(images, work, model, threads, order), folder, last)
    ordered = in_order(last, folder)
    print(f"RELION refinement       {poses_told(ordered, true)}, {then}", flush=True)
    for name, refine in (("… then solvar run", False), ("… with --refine-pose", True)):
        run = reached(folder, ordered.name, 0, threads, rank=RANK, refine_pose=refine)
        longer = (then + run.took).cpu / ours.took.cpu
        print(f"{name:23} {run}, with what came before {longer:.1f} times as long", flush=True)


if __name__ == "__main__":
    main()
