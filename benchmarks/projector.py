"""Slices and their adjoint: our projectors beside the libraries a user might take instead.

All contestants take turns in one process, so that what else the machine does hits all alike; medians
of the turns are printed, in microseconds an image and volume. Transforms of whole volumes (`prepare`,
`collect`, the FFT of padded volumes) are done once a batch of any size and are not part of the first
table; finufft, which has no other way, includes its own. The second table is a whole EM step.

    python benchmarks/projector.py [--turns 5] [--json]
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from solvar.estimation.kernels import gram, residual
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import make_projector
from solvar.imaging.rotations import random as random_rotations
from solvar.threads import ThreadTeam, available_cores

BOX, K_C, BATCH, STEP_BATCH = 64, 31, 64, 500
RANKS = (4, 10)
BASELINE = "torch grid_sample, full plane"
PACKAGES = ("numpy", "numba", "torch", "finufft", "torch-fourier-slice", "torch-projectors")

# A contestant is a pair of functions: forward alone, forward and adjoint
Contestant = tuple[Callable[[], Any], Callable[[], Any]]


class Problem:
    """Volumes, views and pixel factors that every contestant is given."""

    def __init__(self, rank: int, team: ThreadTeam) -> None:
        rng = np.random.default_rng(rank)
        self.channels, self.team = rank + 1, team
        self.disc = HalfDisc.of_radius(K_C)
        self.volumes = rng.normal(size=(self.channels, BOX, BOX, BOX)).astype(np.float32)
        self.rotation = random_rotations(BATCH, rng).astype(np.float32)
        self.scale = rng.uniform(0.5, 1, (BATCH, len(self.disc))).astype(np.float32)

    def padded_spectrum(self) -> torch.Tensor:
        """Centred transform of the volumes padded to twice the box, (C, 128, 128, 128) complex."""
        edge = BOX // 2
        padded = torch.nn.functional.pad(torch.as_tensor(self.volumes), [edge] * 6)
        axes = (1, 2, 3)
        return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(padded, axes), dim=axes), axes)


def ours(problem: Problem, interpolation: str, backend: str = "numba") -> Contestant:
    """A projector of this package."""
    projector = make_projector(
        BOX, problem.disc, interpolation=interpolation, backend=backend, team=problem.team
    )
    prepared = projector.prepare(problem.volumes)
    into = projector.zeros(problem.channels)
    slices = projector.project(prepared, problem.rotation, problem.scale)

    def forward() -> None:
        projector.project(prepared, problem.rotation, problem.scale, slices)

    def both() -> None:
        forward()
        projector.scatter(slices, problem.rotation, problem.scale, into)

    return forward, both


def grid_sample(problem: Problem) -> Contestant:
    """All BOX² pixels, re and im as channels, autograd: what published code does."""
    spectrum = torch.view_as_real(problem.padded_spectrum())
    volume = spectrum.movedim(-1, 1).reshape(1, -1, *spectrum.shape[1:4]).contiguous()
    volume.requires_grad_()
    k = torch.arange(BOX, dtype=torch.float32) - BOX // 2
    ky, kx = torch.meshgrid(k, k, indexing="ij")
    plane = torch.stack([kx, ky, torch.zeros_like(kx)], dim=-1)
    # frequency k lies at index 2 k + BOX of 2 BOX; align_corners puts index 0 at -1, the last at 1
    position = torch.einsum("bij,yxj->byxi", torch.as_tensor(problem.rotation), plane)
    grid = ((2 * position + BOX) / (2 * BOX - 1) * 2 - 1)[None]

    def sample() -> torch.Tensor:
        return torch.nn.functional.grid_sample(volume, grid, align_corners=True)

    return _autograd(sample, volume)


def torch_fourier_slice(problem: Problem) -> Contestant:
    """Teamtomo's slices of the padded rfft, up to the same frequency."""
    library = importlib.import_module("torch_fourier_slice")
    volume = problem.padded_spectrum()[..., BOX:]
    volume = torch.cat([volume, volume[..., :1]], dim=-1).contiguous().requires_grad_()
    rotation = torch.as_tensor(problem.rotation)

    def sample() -> torch.Tensor:
        return library.extract_central_slices_rfft_3d_multichannel(
            volume, rotation, fftfreq_max=K_C / BOX
        )

    return _autograd(sample, volume)


def torch_projectors(problem: Problem) -> Contestant:
    """Tegunov's C++ projectors on the padded rfft, in their own layout."""
    library = importlib.import_module("torch_projectors")
    spectrum = torch.fft.ifftshift(problem.padded_spectrum(), (1, 2, 3))[..., : BOX + 1]
    volume = spectrum.contiguous().requires_grad_()
    rotation = torch.as_tensor(problem.rotation)[None].expand(problem.channels, -1, -1, -1)

    def sample() -> torch.Tensor:
        return library.project_3d_to_2d_forw(
            volume, rotation.contiguous(), output_shape=(BOX, BOX), interpolation="linear",
            oversampling=2.0, fourier_radius_cutoff=float(K_C),
        )  # fmt: skip

    return _autograd(sample, volume)


def _autograd(sample: Callable[[], torch.Tensor], volume: torch.Tensor) -> Contestant:
    with torch.no_grad():
        cotangent = torch.ones_like(sample())

    def forward() -> None:
        with torch.no_grad():
            sample()

    def both() -> None:
        torch.autograd.grad(sample(), volume, cotangent)

    return forward, both


CONTESTANTS: dict[str, Callable[[Problem], Contestant]] = {
    "solvar numba kaiser": lambda p: ours(p, "kaiser"),
    "solvar numba trilinear": lambda p: ours(p, "trilinear"),
    "solvar numba nearest": lambda p: ours(p, "nearest"),
    "solvar torch kaiser": lambda p: ours(p, "kaiser", "torch"),
    "solvar torch trilinear": lambda p: ours(p, "trilinear", "torch"),
    BASELINE: grid_sample,
    "torch-fourier-slice": torch_fourier_slice,
    "torch-projectors": torch_projectors,
    "finufft, eps 1e-6": lambda p: ours(p, "nufft"),
}


def race(rank: int, threads: int, turns: int) -> list[dict[str, Any]]:
    """Every contestant's times at one rank and number of threads."""
    torch.set_num_threads(threads)
    problem = Problem(rank, ThreadTeam(threads))
    runs: dict[str, Contestant] = {}
    rows = []
    for name, build in CONTESTANTS.items():
        try:
            runs[name] = build(problem)
            for run in runs[name]:
                run()
        except ImportError:
            rows.append({"name": name, "note": "not installed"})
        except Exception as error:  # a library of another version must not end the race
            runs.pop(name, None)
            rows.append({"name": name, "note": f"failed: {str(error).splitlines()[0][:60]}"})
    times: dict[str, list[list[float]]] = {name: [[], []] for name in runs}
    for _ in range(turns):
        for name, pair in runs.items():
            # untimed: the contestant before has emptied the caches
            pair[0]()
            for run, seen in zip(pair, times[name], strict=True):
                seen.append(_seconds(run))
    volumes = BATCH * problem.channels
    found = {
        name: [1e6 * float(np.median(seen)) / volumes for seen in pair]
        for name, pair in times.items()
    }
    base = found[BASELINE]
    ranked = [
        {"name": name, "forward": f, "both": b, "ratio": (base[0] / f, base[1] / b)}
        for name, (f, b) in found.items()
    ]
    return [{"rank": rank, "threads": threads, **row} for row in ranked + rows]


def em_step(rank: int, threads: int, turns: int) -> dict[str, Any]:
    """The parts of one EM step at a batch of STEP_BATCH images, µs an image and volume."""
    with ThreadTeam(threads) as team:
        rng = np.random.default_rng(rank)
        channels, disc = rank + 1, HalfDisc.of_radius(K_C)
        projector = make_projector(BOX, disc, interpolation="kaiser", team=team)
        volumes = rng.normal(size=(channels, BOX, BOX, BOX)).astype(np.float32)
        rotation = random_rotations(STEP_BATCH, rng).astype(np.float32)
        ctf = rng.uniform(0.5, 1, (STEP_BATCH, len(disc))).astype(np.float32)
        data = projector.project(projector.prepare(volumes[:1]), rotation, ctf)[:, 0].copy()
        out = np.empty((STEP_BATCH, channels, len(disc)), np.complex64)
        second = np.broadcast_to(np.eye(channels), (STEP_BATCH, channels, channels))
        first = np.zeros((STEP_BATCH, channels))
        parts = ("prepare", "project", "gram", "residual", "scatter", "collect")
        times: dict[str, list[float]] = {part: [] for part in parts}
        for _ in range(turns + 1):
            marks = [time.perf_counter()]

            def mark(marks: list[float] = marks) -> None:
                marks.append(time.perf_counter())

            prepared = projector.prepare(volumes)
            mark()
            slices = projector.project(prepared, rotation, ctf)
            mark()
            gram(slices, data, team)
            mark()
            residual(slices, data, second, first, team, out)
            mark()
            into = projector.zeros(channels)
            projector.scatter(out, rotation, ctf, into)
            mark()
            projector.collect(into)
            mark()
            for part, seconds in zip(parts, np.diff(marks), strict=True):
                times[part].append(1e6 * seconds / STEP_BATCH / channels)
    # the first turn compiles
    step = {part: float(np.median(seen[1:])) for part, seen in times.items()}
    return {"rank": rank, "threads": threads, **step, "total": sum(step.values())}


def bandwidth(threads: int) -> float:
    """Bytes read and written per second by copying arrays far larger than any cache."""
    source = np.ones((threads, 1 << 25), dtype=np.float32)
    target = np.empty_like(source)
    team = ThreadTeam(threads)

    def copy() -> None:
        team.over_ranges(threads, 1, lambda t, _: np.copyto(target[t], source[t]))

    copy()
    return 2 * source.nbytes / float(np.median([_seconds(copy) for _ in range(5)]))


def traffic(width: int, upsampling: float, channels: int) -> tuple[float, float]:
    """Bytes a slice of one volume must read: window by window, and each lattice value once."""
    disc = HalfDisc.of_radius(K_C)
    projector = make_projector(
        BOX, disc, interpolation={1: "nearest", 2: "trilinear", 3: "kaiser"}[width],
        upsampling=upsampling,
    )  # fmt: skip
    lattice = 4 * projector.lattice.size(channels) / channels / BATCH  # type: ignore[attr-defined]
    return 8.0 * len(disc) * width**3, lattice + 8.0 * len(disc)


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{report['machine']}, {report['cores']} cores")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    print(f"L = {BOX}, k_c = {K_C}, half disc of {len(HalfDisc.of_radius(K_C))} pixels")
    for group in report["races"]:
        head = group[0]
        print(f"\nrank {head['rank']}, {head['threads']} thread(s), batch {BATCH}", end="")
        print(", µs an image and volume (and how many times faster than grid_sample)")
        print(f"{'':32}{'forward':>18}{'forward + adjoint':>22}")
        for row in group:
            if "note" in row:
                print(f"{row['name']:32}  {row['note']}")
                continue
            f, b = row["ratio"]
            print(
                f"{row['name']:32}{row['forward']:9.1f} ({f:5.1f}×){row['both']:13.1f} ({b:5.1f}×)"
            )
    print(f"\nWhole EM step, kaiser, batch {STEP_BATCH}, µs an image and volume")
    for step in report["steps"]:
        parts = "  ".join(f"{k} {v:.1f}" for k, v in step.items() if k not in ("rank", "threads"))
        print(f"rank {step['rank']:2}, {step['threads']} thread(s):  {parts}")
    print("\nMemory traffic of the forward slice, kaiser")
    for row in report["traffic"]:
        print(
            f"rank {row['rank']:2}, {row['threads']} thread(s): copy {row['copy']:.1f} GB/s; windows "
            f"{row['windows']:.1f} GB/s ({row['windows'] / row['copy']:.0%} of it), compulsory "
            f"{row['compulsory']:.1f} GB/s ({row['compulsory'] / row['copy']:.0%})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    threads = sorted({1, available_cores()})
    report: dict[str, Any] = {
        "machine": f"{platform.node()} ({processor()})",
        "cores": available_cores(),
        "versions": _versions(),
        "races": [race(r, t, arguments.turns) for t in threads for r in RANKS],
        "steps": [em_step(r, t, arguments.turns) for t in threads for r in RANKS],
        "traffic": [],
    }
    copies = {t: bandwidth(t) / 1e9 for t in threads}
    for group in report["races"]:
        rank, count = group[0]["rank"], group[0]["threads"]
        kaiser = next(row for row in group if row["name"] == "solvar numba kaiser")
        windows, compulsory = traffic(3, 1.25, rank + 1)
        report["traffic"].append({
            "rank": rank, "threads": count, "copy": copies[count],
            "windows": windows / kaiser["forward"] / 1e3,
            "compulsory": compulsory / kaiser["forward"] / 1e3,
        })  # fmt: skip
    if arguments.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        show(report)


if __name__ == "__main__":
    main()
