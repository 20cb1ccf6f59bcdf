"""What refining poses costs: one Gauss-Newton pass beside the E-step that every sweep does anyway.

A pass is an E-step, the rotation derivatives, a Gram matrix of 6 + r rows and an E-step at the trial
pose; it should cost no more than three E-steps. Medians of the turns, milliseconds for a batch. Then both
solvers race from poses that are off by 3° and 1 pixel to the error at which Gauss-Newton ends.

Last, a search: 4,000 images at shell 16 compared with 500 rotations of a bank of slices.

    python benchmarks/pose_cost.py [--turns 7]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, e_step
from solvar.estimation.image_batch import frames_of
from solvar.estimation.pixels import MemoryPixels
from solvar.estimation.poses import SOLVERS, PoseState, refine_poses
from solvar.estimation.poses.bank import Pictures, best_rotations
from solvar.estimation.poses.newton import GaussNewton
from solvar.estimation.poses.objective import PoseObjective
from solvar.estimation.whitening import in_memory_images
from solvar.fitting.settings import FitSettings
from solvar.imaging import rotations
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.masks import soft_sphere
from solvar.progress import SilentProgress
from solvar.threads import ThreadTeam, available_cores

BOX, K_C, BATCH = 64, 31, 500
RANKS = (4, 10)
CONTRAST_SD = 0.15
BUDGET = 3.0
SEARCHED, HYPOTHESES, SEARCH_SHELL = 4000, 500, 16


def problem(rank: int, team: ThreadTeam) -> tuple[Band, np.ndarray]:
    """A band of BATCH images drawn from a random smooth model, and the columns of the model."""
    rng = np.random.default_rng(rank)
    disc = HalfDisc.of_radius(K_C)
    rotation = rotations.random(BATCH, rng)
    ctf = (np.sqrt(disc.weight) * rng.uniform(0.2, 1, (BATCH, len(disc)))).astype(np.float32)
    power = (ctf**2 @ (disc.shell[:, None] == np.arange(K_C + 1))).astype(np.float32)
    noise = rng.standard_normal((2, BATCH, len(disc)))
    data = (noise[0] + 1j * noise[1]).astype(np.complex64)
    pixels = MemoryPixels(data, ctf)
    images = in_memory_images(pixels, rotation, disc, BOX, 4.0, power)
    mask = soft_sphere(BOX, 0.8 * BOX)
    band = Band(images, np.arange(BATCH), K_C, mask, FitSettings(rank=rank).projection, team)
    volumes = rng.standard_normal((1 + rank, BOX, BOX, BOX)) * mask
    columns = (0.02 * volumes).astype(np.float32)
    slices = band.projector.project(band.projector.prepare(columns), frames_of(rotation), ctf)
    z = rng.standard_normal((BATCH, rank)).astype(np.float32)
    pixels.data[:] += slices[:, 0] + np.einsum("br,brn->bn", z, slices[:, 1:])
    return band, columns


def measure(rank: int, team: ThreadTeam, turns: int) -> dict[str, float]:
    """Median milliseconds of each part."""
    band, columns = problem(rank, team)
    projector, model = band.projector, ColumnModel(columns, CONTRAST_SD)
    prepared = BandModel(band, model)
    batch = band.images.batch(band.index, band.disc)
    frame = batch.frame
    found, plane = e_step(prepared, batch)
    solver = SOLVERS["newton"]

    def refine() -> None:
        with SilentProgress().step("", BATCH) as step:
            refine_poses(band, model, state, solver, step)

    def differentiate() -> None:
        projector.differentiate(prepared.prepared, frame, batch.ctf, found.first, plane.slices)

    parts: dict[str, Callable[[], object]] = {
        "prepare": lambda: projector.prepare(columns),
        "project": lambda: projector.project(prepared.prepared, frame, batch.ctf),
        "E-step": lambda: e_step(prepared, batch),
        "differentiate": differentiate,
        "pass": refine,
    }
    times: dict[str, list[float]] = {part: [] for part in parts}
    for _ in range(turns + 1):
        for part, run in parts.items():
            state = PoseState.of(band.images.rotation, memory=solver.start(BATCH))
            start = time.perf_counter()
            run()
            times[part].append(1e3 * (time.perf_counter() - start))
    # the first turn compiles
    return {part: float(np.median(seen[1:])) for part, seen in times.items()}


def race(rank: int, team: ThreadTeam) -> dict[str, tuple[float, int, float]]:
    """Seconds and steps of each solver to 1.05 times the error where Gauss-Newton ends, and that error."""
    band, columns = problem(rank, team)
    rng = np.random.default_rng(7)
    true = band.images.rotation
    off = rotations.from_rotation_vector(rng.normal(0, np.deg2rad(3.0), (BATCH, 3))) @ true
    away = rng.normal(0, 1 / BOX, (BATCH, 2))
    model = BandModel(band, ColumnModel(columns, CONTRAST_SD))

    def run(name: str, goal: float, most: int) -> tuple[float, int, float]:
        solver = type(SOLVERS[name])()
        solver.steps = 1
        state = PoseState.of(off, memory=solver.start(BATCH))
        spent, error, count = 0.0, np.inf, 0
        while error > goal and count < most:
            count += 1
            posed = band.images.posed(state.rotation, away + state.shift)
            images = posed.batch(band.index, band.disc)
            start = time.perf_counter()
            objective = PoseObjective(model, images, state)
            improved = solver.improve(objective, state.memory)
            spent += time.perf_counter() - start
            state.move(band.index, improved.rotation, improved.shift)
            left = rotations.to_rotation_vector(state.rotation @ true.transpose(0, 2, 1))
            error = float(np.rad2deg(np.sqrt(np.mean(left**2))))
        return spent, count, error

    goal = 1.05 * run("newton", 0.0, 12)[2]
    return {name: run(name, goal, 200) for name in ("newton", "adam")}


def search_pass(turns: int) -> tuple[float, float]:
    """CPU seconds of SEARCHED images against HYPOTHESES rotations on one core, and the product's alone."""
    rng = np.random.default_rng(0)
    disc = HalfDisc.of_radius(SEARCH_SHELL)
    rotation = rotations.random(HYPOTHESES, rng)
    images = rng.standard_normal((SEARCHED, 1, len(disc), 2)).astype(np.float32)
    moved = images.view(np.complex64)[..., 0]
    power = rng.uniform(1, 2, (SEARCHED, SEARCH_SHELL + 1)).astype(np.float32)
    box = 2 * SEARCH_SHELL + 4
    mean = rng.standard_normal((box,) * 3).astype(np.float32)
    with ThreadTeam(1) as team, threadpool_limits(1):
        pixels = MemoryPixels(moved[:1, 0].copy(), np.ones((1, len(disc)), np.float32))
        few = in_memory_images(pixels, rotation[:1], disc, box, 4.0, power[:1])
        projection = FitSettings(rank=1).projection
        band = Band(few, np.arange(1), SEARCH_SHELL, soft_sphere(box, 0.8 * box), projection, team)
        pictures, prepared = Pictures(moved, power), band.projector.prepare(mean[None])
        flat = images.reshape(SEARCHED, -1)
        slices = rng.standard_normal((HYPOTHESES, flat.shape[1])).astype(np.float32)
        seconds = [
            (
                _cpu(lambda: best_rotations(band, prepared, pictures, rotation, 64)),
                _cpu(lambda: flat @ slices.T),
            )
            for _ in range(turns + 1)
        ]
    whole, product = np.median(seconds[1:], axis=0)
    return float(whole), float(product)


def _cpu(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=7)
    turns = parser.parse_args().turns
    print(f"box {BOX}, k_c {K_C}, {BATCH} images; ms; ratios to project and to the E-step")
    for threads in sorted({1, available_cores()}):
        with ThreadTeam(threads) as team:
            for rank in RANKS:
                ms = measure(rank, team, turns)
                # the transform of the columns is done once for any number of images
                ms["pass"] = (ms["pass"] - ms["prepare"]) / GaussNewton.steps
                ratio = ms["pass"] / ms["E-step"]
                print(
                    f"rank {rank:2}, {threads} thread(s): project {ms['project']:6.1f}   "
                    f"E-step {ms['E-step']:6.1f}   "
                    f"differentiate {ms['differentiate']:6.1f} "
                    f"({ms['differentiate'] / ms['project']:.2f})   "
                    f"pass {ms['pass']:6.1f} ({ratio:.2f}, "
                    f"{'within' if ratio <= BUDGET else 'over'} the budget of {BUDGET:g})"
                )
    with ThreadTeam() as team:
        for rank in RANKS:
            times = race(rank, team)
            told = "   ".join(
                f"{name}: {spent:.2f} s, {count} steps, {error:.2f}° an axis"
                for name, (spent, count, error) in times.items()
            )
            print(
                f"rank {rank:2}, race: {told}   ratio {times['adam'][0] / times['newton'][0]:.1f}"
            )
    whole, product = search_pass(turns)
    print(
        f"{SEARCHED:,} images x {HYPOTHESES} rotations at shell {SEARCH_SHELL}: {whole:.2f} s of CPU on "
        f"one core, {100 * product / whole:.0f} % of the speed of the matrix product alone"
    )


if __name__ == "__main__":
    main()
