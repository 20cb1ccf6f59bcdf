"""Error bars of latents against the truth, with the model's error in them and without, over sets and seeds.

    python benchmarks/calibration.py [--seeds 2] [--only 1000]

Particles of a Gaussian model of rank 4 whose latents are known. χ²/r is 1 where error bars are honest.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.evaluation import Truth, evaluate
from solvar.fitting import final
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate

RANK = 4
BOX = {"box_size": 32, "pixel_size": 6.0}
SETS: dict[str, dict[str, Any]] = {
    "300 particles, SNR 0.5": {"particles": 300, "snr": 0.5},
    "1000 particles, SNR 0.5": {"particles": 1000, "snr": 0.5},
    "1000 particles, SNR 0.1": {"particles": 1000, "snr": 0.1},
    "3000 particles, SNR 0.1": {"particles": 3000, "snr": 0.1},
    "200 particles of 9 tilts, SNR 0.05": {"particles": 200, "snr": 0.05, "tilts": 9},
    "1000 particles of 41 tilts, SNR 0.02": {
        "particles": 1000, "snr": 0.02, "tilts": 41, "dose_per_tilt": 120 / 41,
        "box_size": 48, "pixel_size": 4.0,
    },
}  # fmt: skip


def _without(*_: object) -> NDArray[np.float64]:
    """No error of the model."""
    return np.zeros((RANK, RANK))


def _calibration(folder: Path) -> float:
    found = fit(read_particles(folder / "particles.star"), FitSettings(rank=RANK))
    return float(evaluate(found, Truth.load(folder))["latents"]["calibration_chi2"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="sets whose name has this in it")
    given = parser.parse_args()
    told = final.latent_error
    for name, some in SETS.items():
        if given.only not in name:
            continue
        found = []
        for seed in range(given.seeds):
            settings = SimulationSettings(heterogeneity="gaussian", seed=seed, **{**BOX, **some})
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "set"
                simulate(settings).write(folder)
                pair = []
                for error in (_without, told):
                    final.latent_error = error  # type: ignore[assignment]
                    pair.append(_calibration(folder))
            found.append(pair)
        without, with_error = zip(*found, strict=True)
        told_of = ("without", without), ("with", with_error)
        print(
            f"{name:36s}",
            *(f"{word} {', '.join(f'{v:.2f}' for v in values)}" for word, values in told_of),
            sep="  ",
            flush=True,
        )


if __name__ == "__main__":
    main()
