"""What the main job recovers of a set with known truth, and how much each choice matters.

    python benchmarks/accuracy.py [FOLDER] [--rank 4]

FOLDER holds particles.star and the truth as `solvar simulate` writes it; default: a simulated set. Prints
one line a variant: captured variance (relative to the best subspace of that rank, masked, to half
Nyquist), kNN Spearman of the true state, correlation of the contrast, eigenvalues against the true
variance along the same volumes, wall seconds of the fit.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from solvar.estimation.held_out import HeldOutScale
from solvar.estimation.metric import Metric
from solvar.estimation.posterior_variance import PosteriorVariance
from solvar.evaluation import Truth, evaluate
from solvar.fitting import final, marching
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles

Change = Callable[[], AbstractContextManager[None]]


@contextmanager
def without_posterior_variance() -> Iterator[None]:
    """Particles may believe the share of their own noise that the model holds."""
    honest = Metric.variance

    def nothing(self: Metric, second: Any) -> PosteriorVariance:
        found = honest(self, second)
        return replace(found, mean=0 * found.mean, columns=0 * found.columns)

    with mock.patch.object(Metric, "variance", nothing):
        yield


@contextmanager
def without_held_out_scale() -> Iterator[None]:
    """Amplitudes and contrast spread are those of the training particles."""

    def unscaled(products: Any, contrast_sd: float, steps: int, free: Any) -> HeldOutScale:
        return HeldOutScale(np.eye(products.shape[1] - 2), contrast_sd)

    with mock.patch.object(marching, "held_out_scale", unscaled):
        yield


@contextmanager
def without_spare_columns() -> Iterator[None]:
    """The final model starts from r merged columns."""
    with mock.patch.object(final, "_MOST_SPARE_COLUMNS", 0):
        yield


VARIANTS: list[tuple[str, dict[str, Any], Change]] = [
    ("default", {}, nullcontext),
    ("seed 1", {"seed": 1}, nullcontext),
    ("seed 2", {"seed": 2}, nullcontext),
    ("rows permuted", {"permute": True}, nullcontext),
    ("batch 250", {"batch_size": 250}, nullcontext),
    ("batch 1500", {"batch_size": 1500}, nullcontext),
    ("1 thread", {"threads": 1}, nullcontext),
    ("trilinear", {"interpolation": "trilinear"}, nullcontext),
    ("nearest", {"interpolation": "nearest"}, nullcontext),
    ("kaiser, upsampling 2", {"upsampling": 2.0}, nullcontext),
    ("nufft", {"interpolation": "nufft"}, nullcontext),
    ("contrast fixed", {"refine_contrast": False}, nullcontext),
    ("no spatial prior", {"spatial_prior": False}, nullcontext),
    ("no half-sets", {"halfsets": False}, nullcontext),
    ("no spatial prior", {"spatial_prior": False}, nullcontext),
    ("no posterior variance", {}, without_posterior_variance),
    ("no held-out scale", {}, without_held_out_scale),
    ("no spare columns", {"seed": 3}, without_spare_columns),
]


def main() -> None:
    """Run every variant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rank", type=int, default=4)
    options = parser.parse_args()
    if options.folder is not None:
        table(options.folder, options.rank)
        return
    from solvar.simulation import SimulationSettings, simulate

    with tempfile.TemporaryDirectory() as scratch:
        simulate(SimulationSettings(particles=3000, box_size=64, snr=0.05)).write(Path(scratch))
        table(Path(scratch), options.rank)


def table(folder: Path, rank: int) -> None:
    """One line a variant."""
    particles, truth = read_particles(folder / "particles.star"), Truth.load(folder)
    columns = f"{'captured':>9} {'Spearman':>9} {'contrast':>9} {'seconds':>8}"
    print(f"{'':24}{columns}  eigenvalue / true variance along it")
    for name, settings, change in VARIANTS:
        settings = dict(settings)
        order = np.arange(len(particles))
        if settings.pop("permute", False):
            order = np.random.default_rng(0).permutation(order)
        chosen = FitSettings(rank=rank, mask=folder / "mask.mrc", **settings)
        start = time.perf_counter()
        with change():
            found = fit(particles.select(order), chosen)
        print_line(name, found, truth, time.perf_counter() - start)


def print_line(name: str, found: Fit, truth: Truth, seconds: float) -> None:
    """Metrics of one fit."""
    report = evaluate(found, truth)
    eigenvolumes = found.model.eigenvolumes.reshape(found.model.rank, -1)
    true = truth.eigenvolumes.reshape(len(truth.eigenvolumes), -1)
    along = np.sum((eigenvolumes @ true.T) ** 2, axis=1)
    ratios = " ".join(
        f"{a:.2f}/{b:.2f}" for a, b in zip(found.model.eigenvalues, along, strict=True)
    )
    spearman = np.mean(report["latents"]["knn_spearman"])
    print(
        f"{name:24}{report['covariance']['captured_variance']:9.4f} {spearman:9.4f} "
        f"{report['contrast']['correlation']:9.3f} {seconds:8.1f}  {ratios}",
        flush=True,
    )


if __name__ == "__main__":
    main()
