"""What a GPU does for the parts of a step, beside all cores of the CPU.

First table: a batch of images at rank 10, medians of the turns, with waiting for the device at both ends.

    E-step      project the columns, inner products of slices and data
    gradient    residuals from slices and data, and their adjoint, added to a lattice
    poses       derivatives of slices, their products
    columns     once a step: volumes to the lattice, and a lattice back to volumes

Data and CTFs come from host memory and products go there, as in a fit; how long the copies of the E-step
alone take is a column of its own. Bytes are those that the device's memory must move at least, every array
read or written once: with V values of a lattice, n pixels, C channels, B images

    E-step      4 V + B n (4 CTF + 8 data + 16 C slices written and read)
    gradient    8 V + B n (4 + 8 + 24 C slices read, residuals written and read)
    poses       4 V + B n (4 + 8 + 8 C residuals + 8 C slices + 48 tangent written and read)

over the time, as a share of what a copy within the device moves. The E-step and the gradient also read, or
add to, 27 · 8 C bytes a pixel of windows, which overlap and come from caches at best.

Copies are made as the program makes them: by way of page-locked buffers (`staging.py`).

Second table: how the size of the pieces matters that a batch is cut into (`pieces.py`). Whole fits are in
`gpu_jobs.py`.

    python benchmarks/gpu.py [--turns 5] [--tables parts pieces] [--quick]

`--quick` is a try of everything in small, on a machine without a GPU with the CPU alone.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from projector import processor

from solvar.estimation import kernels
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import make_projector, runs_here
from solvar.imaging.projector.pieces import Pieces
from solvar.imaging.projector.staging import to_device
from solvar.imaging.rotations import random as random_rotations
from solvar.threads import ThreadTeam, available_cores

RANK = 10
SHAPES = ((64, 31), (128, 63))
BATCHES = (256, 1024)
PIECES = {"torch": (26, 28, 30, 32), "numba-cuda": (22, 24, 26, 28)}
# name in the tables: backend, device
CONTESTANTS = {
    "CPU": ("numba", "cpu"),
    "torch": ("torch", "cuda"),
    "numba-cuda": ("numba-cuda", "cuda"),
}
PARTS = ("E-step", "gradient", "poses")
TABLES = ("parts", "pieces")


class Problem:
    """A batch as a step of the fit has it."""

    def __init__(self, box: int, k_c: int, batch: int) -> None:
        rng = np.random.default_rng(batch)
        self.box, self.disc, self.batch, self.channels = (
            box,
            HalfDisc.of_radius(k_c),
            batch,
            1 + RANK,
        )
        n, shape = len(self.disc), (batch, self.channels)
        self.volumes = rng.standard_normal((self.channels, *[box] * 3), dtype=np.float32)
        self.frame = random_rotations(batch, rng)[:, :, :2].astype(np.float32)
        self.ctf = rng.uniform(0.5, 1, (batch, n)).astype(np.float32)
        self.data = rng.standard_normal((batch, 2 * n), dtype=np.float32).view(np.complex64)
        self.first = rng.standard_normal(shape)
        self.second = self.first[:, :, None] * self.first[:, None] + np.eye(self.channels)
        self.wave = (2 * np.pi * np.stack([self.disc.kx, self.disc.ky])).astype(np.float32)

    def least_bytes(self, values: int) -> dict[str, int]:
        """What memory must move at least, with `values` float32 of a lattice."""
        pixels, c = self.batch * len(self.disc), self.channels
        return {
            "E-step": 4 * values + pixels * (12 + 16 * c),
            "gradient": 8 * values + pixels * (12 + 24 * c),
            "poses": 4 * values + pixels * (12 + 16 * c + 48),
        }


@dataclass
class Measured:
    """Seconds of the parts of a step, and what they gave."""

    seconds: dict[str, float]
    results: dict[str, np.ndarray]
    values: int


class Step:
    """The parts of a step by one projector."""

    def __init__(self, problem: Problem, backend: str, device: str, team: ThreadTeam) -> None:
        self.problem, self.team = problem, team
        self.projector = make_projector(
            problem.box, problem.disc, backend=backend, device=device, team=team
        )
        shape = problem.batch, problem.channels, len(problem.disc)
        self.slices, self.residuals = (
            self.projector.empty(int(np.prod(shape))).reshape(shape) for _ in range(2)
        )
        self.lattice = self.projector.prepare(problem.volumes)
        self.sums = self.projector.zeros(problem.channels)
        self.results: dict[str, np.ndarray] = {}
        self.parts: dict[str, Callable[[], object]] = {
            "E-step": self.e_step,
            "gradient": self.gradient,
            "poses": self.poses,
            "columns": self.columns,
        }

    def e_step(self) -> None:
        problem = self.problem
        self.projector.project(self.lattice, problem.frame, problem.ctf, self.slices)
        self.results["E-step"] = kernels.gram(self.slices, problem.data, self.team)

    def gradient(self) -> None:
        problem = self.problem
        moments = problem.second, problem.first
        kernels.residual(self.slices, problem.data, *moments, self.team, self.residuals)
        self.projector.scatter(self.residuals, problem.frame, problem.ctf, self.sums)

    def poses(self) -> None:
        problem = self.problem
        tangent, torque = self.projector.differentiate(
            self.lattice, problem.frame, problem.ctf, problem.first, self.residuals
        )
        arrays = problem.data, problem.first, problem.wave
        self.results["poses"] = kernels.pose_products(self.slices, tangent, *arrays, self.team)
        self.results["torque"] = torque

    def columns(self) -> None:
        self.projector.prepare(self.problem.volumes)
        self.results["gradient"] = self.projector.collect(self.sums)

    def measure(self, turns: int) -> Measured:
        """Medians of the turns; one more before, which compiles, is the one whose results count."""
        for part in self.parts.values():
            part()
        results = dict(self.results)
        seen = [{name: seconds(part) for name, part in self.parts.items()} for _ in range(turns)]
        medians = {name: float(np.median([each[name] for each in seen])) for name in self.parts}
        return Measured(medians, results, int(np.prod(self.lattice.shape)))


def seconds(run: Callable[[], object]) -> float:
    wait()
    start = time.perf_counter()
    run()
    wait()
    return time.perf_counter() - start


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@cache
def contestants() -> dict[str, tuple[str, str]]:
    """Those that compute here; one that should and does not says why, and the others go on."""
    able = {}
    for name, where in CONTESTANTS.items():
        if not runs_here(*where):
            print(f"{name} cannot be had here")
            continue
        try:
            with ThreadTeam() as team:
                Step(Problem(16, 7, 2), *where, team).measure(1)
            able[name] = where
        except Exception as error:
            print(f"{name} fails: {type(error).__name__}: {str(error)[:400]}")
    return able


def rates(size: int) -> dict[str, float]:
    """GB/s of copies of `size` bytes; within the device, what is read and written counts."""
    source = torch.ones(size // 4, device="cuda")
    target, paged = torch.empty_like(source), torch.ones(size // 4)
    pinned, back = paged.pin_memory(), torch.empty(size // 4)
    found = {}
    for name, copied, run in (
        ("within the device", 2, lambda: target.copy_(source)),
        ("to the device", 1, lambda: target.copy_(paged)),
        ("to it from pinned memory", 1, lambda: target.copy_(pinned)),
        ("to it as the program does", 1, lambda: to_device(paged, target.device)),
        ("from the device", 1, lambda: back.copy_(source)),
    ):
        run()
        found[name] = copied * size / float(np.median([seconds(run) for _ in range(9)])) / 1e9
    return found


def copies(problem: Problem) -> float:
    """Seconds that it takes to send what an E-step sends up, and to fetch what it brings down."""
    products = torch.zeros(problem.batch, *[1 + problem.channels] * 2, dtype=torch.float64)
    products = products.to("cuda")

    def run() -> None:
        for array in (problem.frame, problem.ctf, problem.data.view(np.float32)):
            to_device(torch.as_tensor(array), products.device)
        products.cpu()

    run()
    return float(np.median([seconds(run) for _ in range(9)]))


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative, in the norm."""
    off = found.astype(np.float64) - expected
    return float(np.linalg.norm(off) / np.linalg.norm(expected.astype(np.float64)))


def parts_table(shapes: Any, batches: Any, turns: int, copy_rate: float | None) -> None:
    """Print the first table."""
    print(
        f"\n## A batch at rank {RANK}: ms, and GB that must move over time as a share of a copy\n"
    )
    print("| box | k_c | images | on | E-step | gradient | poses | columns | copies | off by |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for box, k_c in shapes:
        for batch in batches:
            problem = Problem(box, k_c, batch)
            expected: dict[str, np.ndarray] = {}
            for name, (backend, device) in contestants().items():
                with ThreadTeam() as team:
                    measured = Step(problem, backend, device, team).measure(turns)
                expected = expected or measured.results
                row = [cell(problem, measured, part, device, copy_rate) for part in PARTS]
                row.append(f"{1e3 * measured.seconds['columns']:.2f}")
                row.append("" if device == "cpu" else f"{1e3 * copies(problem):.2f}")
                worst = max(difference(measured.results[k], v) for k, v in expected.items())
                row.append("" if device == "cpu" else f"{worst:.0e}")
                print(f"| {box} | {k_c} | {batch} | {name} | " + " | ".join(row) + " |", flush=True)
            release()


def cell(
    problem: Problem, measured: Measured, part: str, device: str, copy_rate: float | None
) -> str:
    """Milliseconds of a part; on a device also the least bytes and their share of the copy rate."""
    spent = measured.seconds[part]
    if device == "cpu" or copy_rate is None:
        return f"{1e3 * spent:.2f}"
    gigabytes = problem.least_bytes(measured.values)[part] / 1e9
    return f"{1e3 * spent:.2f} ({gigabytes:.2f} GB, {gigabytes / spent / copy_rate:.0%})"


def release() -> None:
    gc.collect()  # a `Step` refers to itself
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def pieces_table(shape: tuple[int, int], batch: int, turns: int) -> None:
    """Print the second table."""
    print(f"\n## Values of a piece: box {shape[0]}, k_c {shape[1]}, {batch} images, ms\n")
    print("| on | values | images a piece | E-step | gradient | poses | peak MB |")
    print("|---|---|---|---|---|---|---|")
    problem = Problem(*shape, batch)
    for name, (backend, device) in contestants().items():
        for power in PIECES[backend] if device != "cpu" else ():
            with ThreadTeam() as team:
                step = Step(problem, backend, device, team)
                projector: Any = step.projector
                projector._pieces = Pieces(1 << power)
                images = (1 << power) // projector._kernels.values(problem.channels)
                torch.cuda.reset_peak_memory_stats()
                spent = step.measure(turns).seconds
            peak = torch.cuda.max_memory_allocated() / 1e6
            del step, projector
            release()
            row = [f"{1e3 * spent[part]:.2f}" for part in PARTS]
            count = max(1, min(images, batch))
            print(
                f"| {name} | 2^{power} | {count} | " + " | ".join(row) + f" | {peak:.0f} |",
                flush=True,
            )


def heading() -> bool:
    """Print what this is measured on; whether there is a GPU."""
    print(f"{processor()}, {available_cores()} cores ({os.cpu_count()} in all)")
    packages = []
    for name in ("numpy", "numba", "numba-cuda", "torch"):
        try:
            packages.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            packages.append(f"no {name}")
    print(", ".join(packages))
    contestants()
    if not torch.cuda.is_available():
        print("no GPU: the CPU alone")
        return False
    print(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    return True


def chosen(parser: argparse.ArgumentParser, tables: tuple[str, ...]) -> argparse.Namespace | None:
    """What was asked for of these tables; None where there is no GPU and no quick try is wanted."""
    parser.add_argument("--tables", nargs="+", choices=tables, default=tables)
    parser.add_argument("--quick", action="store_true", help="a try of everything in small")
    arguments = parser.parse_args()
    if arguments.quick or torch.cuda.is_available():
        return arguments
    print("torch finds no GPU here; --quick tries the CPU alone")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    arguments = chosen(parser, TABLES)
    if arguments is None:
        return
    copy_rate = None
    if heading():
        found = rates(1 << 30)
        print("copies, GB/s: " + ", ".join(f"{name} {rate:.1f}" for name, rate in found.items()))
        copy_rate = found["within the device"]
    quick = arguments.quick
    turns = 1 if quick else arguments.turns
    shapes, batches = (((32, 15),), (64,)) if quick else (SHAPES, BATCHES)
    if "parts" in arguments.tables:
        parts_table(shapes, batches, turns, copy_rate)
    if "pieces" in arguments.tables and copy_rate is not None:
        pieces_table(shapes[-1], batches[-1], min(turns, 3))


if __name__ == "__main__":
    main()
