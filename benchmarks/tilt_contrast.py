"""Contrasts of the exposures of tilt series that their file says wrong, or right: what is found and worth.

Particles of a Gaussian model in tomograms of 50, tilts to ±60°. A row a seed: by how much found contrasts
are off (rms), and χ² of that against their error bars; then captured variance and χ² a latent with the true
contrasts, with what the file says, and with `--tilt-contrast`. The last row has the means.

    python benchmarks/tilt_contrast.py [--sd 0.2] [--seeds 5] [--snr 0.05] [--particles 200] [--tilts 9]

Of a file of tilt series without truth: what contrasts gain of log-likelihood, how they spread beyond their
errors, and their means over each fifth of the exposures, in the order of dose.

    python benchmarks/tilt_contrast.py --file optimisation_set.star
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from tilt_noise import log_likelihood

from solvar.evaluation import evaluate
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings
from tilt_set import Errors, TiltSet, tilt_set

RANK = 4


def numbers(made: TiltSet) -> list[float]:
    """What a row of the table says."""
    kept, estimated = FitSettings(rank=RANK), FitSettings(rank=RANK, tilt_contrast=True)
    fits = [fit(made.right, kept), fit(made.given, kept), fit(made.given, estimated)]
    found = fits[-1].tilt_contrasts
    assert found is not None
    off = found.value - made.contrast
    told = [evaluate(each, made.truth) for each in fits]
    return [
        float(np.sqrt(np.mean(off**2))),
        float(np.mean((off / found.error) ** 2)),
        *(each["covariance"]["captured_variance"] for each in told),
        *(each["latents"]["calibration_chi2"] for each in told),
    ]


def tell_of(path: Path) -> None:
    """What is found of a file."""
    particles = read_particles(path)
    fits = [fit(particles, FitSettings(rank=1, tilt_contrast=told)) for told in (False, True)]
    found, images = fits[1].tilt_contrasts, particles.exposures
    assert found is not None and images.tilt_image is not None and images.number is not None
    gain = log_likelihood(fits[1]) - log_likelihood(fits[0])
    error = float(np.sqrt(np.mean(found.error**2)))
    print(f"{len(particles)} particles, {len(found.value)} exposures: log-likelihood {gain:+.1f}")
    print(f"contrasts spread by {found.spread:.2f}, known to {error:.2f}; in the order of dose")
    parts = np.array_split(np.arange(images.number.max() + 1), 5)
    means = [found.value[images.tilt_image[np.isin(images.number, part)]].mean() for part in parts]
    print("   ", *(f"{mean:.2f}" for mean in means))


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, kind, default in (
        ("sd", float, 0.2), ("seeds", int, 5), ("snr", float, 0.05), ("particles", int, 200),
        ("tilts", int, 9), ("box", int, 32),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    if given.file is not None:
        tell_of(given.file)
        return
    print("seed    off    χ²   captured: right  said   found   χ² a latent: right  said   found")
    rows = []
    for seed in range(1, 1 + given.seeds):
        simulation = SimulationSettings(
            particles=given.particles, box_size=given.box, pixel_size=192 / given.box, snr=given.snr,
            heterogeneity="gaussian", rank=RANK, seed=seed, tilts=given.tilts,
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            rows.append(numbers(tilt_set(Path(folder), simulation, Errors(contrast_sd=given.sd))))
        print(_line(str(seed), rows[-1]), flush=True)
    print(_line("mean", np.mean(rows, axis=0)))


def _line(name: str, row: list[float] | np.ndarray) -> str:
    off, square, *rest = row
    return f"{name:4} {off:7.4f} {square:5.2f} " + " ".join(f"{value:10.4f}" for value in rest)


if __name__ == "__main__":
    main()
