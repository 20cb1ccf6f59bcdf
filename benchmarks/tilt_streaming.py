"""Memory of tilt series that do not fit into it: a set is written, read, planned, whitened and swept.

Images have 8 bits, box 64, 41 a particle, a stack and a star row for each as Warp 1 writes them,
whitened ones on disk; each number of particles in a process of its own. Printed are seconds and peak
resident memory after reading, after whitening and after a sweep at the finest band, what the plan had
said, and bytes that an image more takes.

    python benchmarks/tilt_streaming.py FOLDER [--particles 1000 4000 20000] [--resolution 6.2]

FOLDER is made if it is not there: 3.4 GB for 20,000 particles, and 14 GB more while it runs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mrcfile
import numpy as np

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.prior import Prior
from solvar.estimation.solvers import make_column_solver
from solvar.fitting.fit import fit
from solvar.fitting.schedule import split_batches
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import load_mask, whitened_images
from solvar.particles import ImageStack, assign_halfsets, read_particles
from solvar.preflight.cost import expected
from solvar.progress import SilentProgress
from solvar.simulation import SimulationSettings, simulate
from solvar.threads import ThreadTeam

TILTS, A_STACK, POOL, BOX, RANK = 41, 500, 41 * 50, 64, 2
LEVEL = 20.0
HEADER = (
    *("rlnImageName", "rlnMicrographName", "rlnGroupName", "rlnDetectorPixelSize", "rlnVoltage"),
    *("rlnSphericalAberration", "rlnAmplitudeContrast", "rlnDefocusU", "rlnDefocusV"),
    *("rlnDefocusAngle", "rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginX", "rlnOriginY"),
    *("rlnCtfBfactor", "rlnCtfScalefactor"),
)


def write(folder: Path, particles: int) -> None:
    """Images of a pool of simulated ones under new noise, and a star file for each multiple of a stack."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        made = Path(place) / "pool"
        simulate(SimulationSettings(particles=POOL, box_size=BOX)).write(made)
        pool = read_particles(made / "particles.star")
        images = ImageStack(pool).read(np.arange(POOL))
    images *= LEVEL / images[:, 0].std()
    ctf, angstrom = pool.exposures.ctf, pool.pixel_size_angstrom
    angles = Rotation.from_matrix(pool.poses.rotation).as_euler("ZYZ", degrees=True)
    place = pool.poses.shift_angstrom / angstrom
    numbers = np.column_stack(
        [
            ctf.defocus_u_angstrom,
            ctf.defocus_v_angstrom,
            np.rad2deg(ctf.defocus_angle_radian),
            angles,
            place,
        ]
    )
    constants = f"{angstrom:g} {pool.optics.voltage_kv[0]:g} 2.7 0.1"
    words = [" ".join(f"{v:.4f}" for v in row) for row in numbers]
    noise = rng.normal(0, LEVEL, (POOL + 97, BOX, BOX)).astype(np.float32)
    folder.mkdir(parents=True)
    with (folder / "all.star").open("w") as star:
        star.write("\ndata_\n\nloop_\n" + "".join(f"_{c} #{i}\n" for i, c in enumerate(HEADER, 1)))
        for number in range(-(-particles // A_STACK)):
            each = min(A_STACK, particles - number * A_STACK)
            with mrcfile.new_mmap(
                folder / f"{number:03d}.mrcs", (each * TILTS, BOX, BOX), mrc_mode=0
            ) as stack:
                for first in range(0, each * TILTS, POOL):
                    there = stack.data[first : first + POOL]
                    more = noise[rng.integers(97) :][: len(there)] * rng.choice([-1, 1])
                    there[:] = np.clip(images[: len(there)] + more, -127, 127).astype(np.int8)
                stack.voxel_size = angstrom
            for row in range(each * TILTS):
                particle, tilt = divmod(row, TILTS)
                dose, scale = -12 * tilt, np.cos(np.deg2rad(1.5 * tilt))
                exposure, group = f"{number:03d}_{tilt:02d}.mrc", f"{number:03d}_{particle:06d}"
                star.write(
                    f"{row + 1:06d}@{number:03d}.mrcs {exposure} {group} "
                    f"{constants} {words[row % POOL]} {dose} {scale:.4f}\n"
                )


def peak() -> float:
    """GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(folder: Path, particles: int, resolution: float) -> dict[str, float]:
    """Reading, plan, whitening and a sweep of the first particles."""
    settings = FitSettings(rank=RANK, lazy=True, scratch=folder, resolution=resolution, threads=1)
    begun, found = time.perf_counter(), {"particles": float(particles)}
    table = read_particles(folder / f"{particles}.star")
    found["read s"], found["read GiB"] = time.perf_counter() - begun, peak()
    halved = assign_halfsets(table, 0)
    with ThreadTeam(1) as team:
        found["planned GiB"] = expected(halved, settings, team).memory / 2**30
        begun = time.perf_counter()
        stack = ImageStack(halved).brought_near_one()
        mask = load_mask(settings, stack)
        images = whitened_images(halved, stack, mask, settings, SilentProgress(), team)
        found["whiten s"], found["whiten GiB"] = time.perf_counter() - begun, peak()
        begun = time.perf_counter()
        band = Band(images, support=mask, team=team)
        rng = np.random.default_rng(0)
        columns = 1e-3 * rng.standard_normal((1 + RANK, *[band.box] * 3)) * band.support.mean
        flat = np.full(band.k_c + 1, float(band.shell_information.mean()))
        batches = split_batches(band.index, settings.batch_size, rng)
        model = ColumnModel(columns.astype(np.float32), 0.1)
        solver = make_column_solver("em", "ml", band, model, Prior(flat, flat), batches)
        with SilentProgress().step("", 1) as step:
            solver.sweep(np.arange(len(batches)), step)
        found["sweep s"], found["GiB"] = time.perf_counter() - begun, peak()
    return found


def fitted(folder: Path, particles: int, resolution: float) -> dict[str, float]:
    """A whole fit of the first particles."""
    settings = FitSettings(rank=RANK, lazy=True, scratch=folder, resolution=resolution, threads=1)
    begun = time.perf_counter()
    fit(read_particles(folder / f"{particles}.star"), settings)
    return {"particles": float(particles), "fit s": time.perf_counter() - begun, "GiB": peak()}


def main() -> None:
    """Parse the command line, measure each size in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--particles", type=int, nargs="+", default=[1000, 4000, 20000])
    parser.add_argument("--resolution", type=float, default=6.2)
    parser.add_argument("--fit", action="store_true", help="whole fits, not one sweep")
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    if options.one:
        look = fitted if options.fit else measure
        print(json.dumps(look(options.folder, options.one, options.resolution)))
        return
    if not options.folder.exists():
        write(options.folder, max(options.particles))
    found = []
    for count in options.particles:
        with (options.folder / "all.star").open() as whole:
            lines = 4 + len(HEADER) + count * TILTS
            text = "".join(itertools.islice(whole, lines))
        (options.folder / f"{count}.star").write_text(text)
        command = [sys.executable, __file__, str(options.folder), "--one", str(count)]
        command += ["--resolution", str(options.resolution), *["--fit"] * options.fit]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{name} {value:.2f}" for name, value in found[-1].items()), flush=True)
    if len(found) > 1:
        images = np.array([each["particles"] * TILTS for each in found])
        memory = np.array([each["GiB"] for each in found])
        slope = np.polyfit(images, memory, 1)[0] * 2**30
        print(f"{slope:.0f} bytes an image")


if __name__ == "__main__":
    main()
