"""Simulated tilt series against the truth: captured variance, calibration, poses and what they cost.

    python benchmarks/tilt_series.py [--particles 1000] [--tilts 41] [--snr 0.02] [--only hinge]

A hinge and a loop (rank 10), a Gaussian model whose latents are known (rank 4), and a molecule that does not
move, 120 electrons per Å² each. Poses are true, or off by 3 degrees and a pixel and then refined; the same
particles at their true poses are what refined ones are held against. Error bars of the Gaussian set are also
asked for in its true model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.latents import place_particles
from solvar.evaluation import Truth, calibration_chi2, evaluate
from solvar.fitting.fit import fit
from solvar.fitting.images import read_images
from solvar.fitting.settings import FitSettings
from solvar.imaging.fourier import crop_volume
from solvar.imaging.projector import Projection
from solvar.particles import read_particles
from solvar.progress import SilentProgress
from solvar.simulation import SimulationSettings, simulate
from solvar.threads import ThreadTeam

DOSE, CONTRAST_SD = 120.0, 0.15
SETS: dict[str, tuple[str, int]] = {
    "hinge": ("hinge-loop", 10),
    "gaussian": ("gaussian", 4),
    "rigid": ("rigid", 1),
}
ERRORS = ("out_of_plane_degree", "in_plane_degree", "shift_angstrom")


def _row(name: str, folder: Path, file: str, rank: int, refine: bool) -> float | None:
    """Print what a run comes to; its captured variance."""
    begun, cpu = time.perf_counter(), time.process_time()
    found = fit(read_particles(folder / file), FitSettings(rank=rank, refine_pose=refine))
    seconds = time.perf_counter() - begun, time.process_time() - cpu
    told = evaluate(found, Truth.load(folder))
    parts = [f"{name:9s} {file:22s} {'refined' if refine else 'as given':8s}"]
    captured = told.get("covariance", {}).get("captured_variance")
    if captured is not None:
        parts.append(f"captured {captured:.3f}")
    chi2 = told.get("latents", {}).get("calibration_chi2")
    if chi2 is not None:
        parts.append(f"χ²/r {chi2:.3f}")
    poses = told["poses"]
    parts.append("errors " + _errors(poses))
    for bound in ("bound", "bound_unknown_shape"):
        if bound in poses:
            values = (poses[bound][key] for key in ERRORS)
            parts.append(f"{bound.replace('_', ' ')} " + " / ".join(f"{v:.3g}" for v in values))
    if "within_state" in poses:
        parts.append("within states " + _errors(poses["within_state"]))
    parts.append(f"{seconds[0]:.0f} s, {seconds[1]:.0f} s CPU")
    print("  ".join(parts), flush=True)
    return captured


def _true_model(folder: Path, rank: int) -> float:
    """χ²/r of latents in the true model of a Gaussian set, under the noise of the corners."""
    particles, truth = read_particles(folder / "particles.star"), Truth.load(folder)
    assert truth.latent is not None and truth.eigenvolumes is not None and truth.mean is not None
    true_z, columns = truth.latent[:, :rank], truth.eigenvolumes[:rank]
    eigenvalues = np.sum(columns.astype(np.float64) ** 2, axis=(1, 2, 3))
    settings = FitSettings(rank=rank, mask=folder / "mask.mrc")
    images = read_images(particles, settings)
    everywhere = np.ones((truth.box_size,) * 3, np.float32)
    with ThreadTeam(settings.threads) as team:
        everybody = np.arange(len(particles))
        band = Band(images, everybody, images.disc.k_c, everywhere, Projection(), team)
        volumes = np.concatenate([truth.mean[None], columns]).astype(np.float32)
        model = ColumnModel(crop_volume(volumes, band.box), CONTRAST_SD)
        with SilentProgress().step("", len(particles)) as step:
            found = place_particles(band, model, eigenvalues, step)
    return calibration_chi2(found.z, true_z, found.precision)


def _errors(told: dict[str, Any]) -> str:
    return " / ".join(f"{told[key]['mean']:.3g}" for key in ERRORS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--tilts", type=int, default=41)
    parser.add_argument("--snr", type=float, default=0.02)
    parser.add_argument("--box-size", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(SETS))
    given = parser.parse_args()
    print("errors: viewing direction and in-plane angle (degrees), shift (Å), means")
    for name, (kind, rank) in SETS.items():
        if given.only not in (None, name):
            continue
        settings = SimulationSettings(
            particles=given.particles, tilts=given.tilts, snr=given.snr, box_size=given.box_size,
            pixel_size=192.0 / given.box_size, dose_per_tilt=DOSE / given.tilts, heterogeneity=kind,
            contrast_sd=CONTRAST_SD, seed=given.seed,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / name
            simulate(settings).write(folder)
            if kind == "gaussian":
                print(f"{name:9s} with the true model χ²/r {_true_model(folder, rank):.3f}")
            best = _row(name, folder, "particles.star", rank, False)
            _row(name, folder, "particles_noisy.star", rank, False)
            refined = _row(name, folder, "particles_noisy.star", rank, True)
            if best and refined:
                print(f"{name:9s} refined poses capture {refined / best:.3f} of what true ones do")


if __name__ == "__main__":
    main()
