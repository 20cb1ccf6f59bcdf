"""What images without a particle, or with something else, do to a fit, and what it says of them.

    python benchmarks/junk.py [clean] [empty] [else] [--particles 4000] [--box 32]

clean   sets without any, from bad poses to little signal: how many particles are doubted (none should be)
empty   20 and 50 % of the images are noise alone: share that is found, area under the curve (AUC) of the
        probability, captured variance against the set without junk and against the particles alone
else    ice, carbon edges, hot pixels, other intensities: how many are found, captured variance

Prints one line a set, made by the simulator. All of them by default, in some minutes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from solvar.evaluation import Truth, evaluate
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.simulation import SimulatedSet, SimulationSettings, simulate

Bool = NDArray[np.bool_]
Images = NDArray[np.float32]

_RANK = 4


def main() -> None:
    """Print the tables that are asked for."""
    tables = {"clean": clean, "empty": empty, "else": something_else}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", choices=[*tables, []], default=[])
    parser.add_argument("--particles", type=int, default=4000)
    parser.add_argument("--box", type=int, default=32)
    options = parser.parse_args()
    for name in options.tables or tables:
        tables[name](options.particles, options.box)


def clean(particles: int, box: int) -> None:
    """Sets without junk: nobody should be doubted."""
    print(f"{'clean sets':44}{'doubted':>9}{'monstrous':>10}")
    for edge in (24, box):
        for snr in (0.01, 0.1):
            for kind in ("rigid", "hinge-loop"):
                for degree, pixel in ((0.0, 0.0), (3.0, 0.5), (8.0, 1.0)):
                    made = simulated(particles // 2, edge, snr, kind, (degree, pixel))
                    found = fitted(made, noisy=degree > 0)
                    doubted = int((found.particle_probability < 1).sum())
                    name = f"box {edge}, SNR {snr}, {kind}, poses {degree:g}°"
                    print(f"{name:44}{doubted:9}{found.monstrous:10}", flush=True)


def empty(particles: int, box: int) -> None:
    """Images that are noise alone."""
    print(f"{'empty images':32}{'found':>8}{'AUC':>8}{'captured':>10}{'clean':>8}{'alone':>8}")
    for edge, snr in ((24, 0.05), (box, 0.02), (box, 0.05), (box, 0.1), (48, 0.05)):
        made = simulated(particles, edge, snr)
        reference = captured(fitted(made), made)
        for share in (0.2, 0.5):
            junk = np.random.default_rng(7).permutation(particles) < share * particles
            soiled = replace(made, contrast=np.where(junk, 0.0, made.contrast))
            found = fitted(soiled)
            alone = captured(fitted(made, rows=np.flatnonzero(~junk)), made)
            name = f"box {edge}, SNR {snr}, {100 * share:.0f} % junk"
            probability = 1 - found.particle_probability
            print(
                f"{name:32}{probability.mean():8.3f}{area_under_curve(probability, junk):8.3f}"
                f"{captured(found, made):10.4f}{reference:8.4f}{alone:8.4f}",
                flush=True,
            )


def something_else(particles: int, box: int) -> None:
    """Images that hold what no particle does."""
    made = simulated(particles, box, 0.05)
    reference = captured(fitted(made), made)
    print(
        f"{'something else':32}{'images':>8}{'found':>8}{'wrong':>8}{'captured':>10}  clean {reference:.4f}"
    )
    kinds: dict[str, tuple[float, Callable[[Images, Any], Images]]] = {
        "ice, 30 sd, 1 %": (0.01, lambda images, rng: images + blobs(images, rng, 30)),
        "ice, 8 sd, 1 %": (0.01, lambda images, rng: images + blobs(images, rng, 8)),
        "ice, 30 sd, 5 %": (0.05, lambda images, rng: images + blobs(images, rng, 30)),
        "carbon edge, + 3 sd, 2 %": (0.02, lambda images, rng: images + edges(images, rng)),
        "hot pixel of 1e6, one image": (1 / particles, lambda images, rng: hot(images, 1e6)),
        "hot pixel of 100, 1 %": (0.01, lambda images, rng: hot(images, 100.0)),
        "× 1000, one image": (1 / particles, lambda images, rng: 1000 * images),
        "× 5, 1 %": (0.01, lambda images, rng: 5 * images),
    }
    for name, (share, change) in kinds.items():
        rng = np.random.default_rng(3)
        chosen = rng.permutation(particles) < max(1, round(share * particles))
        found = fitted(
            made, change=lambda images, c=change, r=rng, j=chosen: changed(images, c, r, j)
        )
        caught = found.particle_probability < 0.5
        wrong = int((caught & ~chosen).sum())
        print(
            f"{name:32}{chosen.sum():8}{(caught & chosen).sum():8}{wrong:8}{captured(found, made):10.4f}",
            flush=True,
        )


def simulated(
    particles: int,
    box: int,
    snr: float,
    kind: str = "hinge-loop",
    errors: tuple[float, float] = (0.0, 0.0),
) -> SimulatedSet:
    """A set in a box of 192 Å."""
    return simulate(
        SimulationSettings(
            particles=particles, box_size=box, pixel_size=192 / box, snr=snr, heterogeneity=kind,
            pose_error=errors[0], shift_error=errors[1], shift_sd=1.0,
        )
    )  # fmt: skip


def fitted(
    made: SimulatedSet,
    rows: NDArray[np.int64] | None = None,
    change: Callable[[Images], None] | None = None,
    noisy: bool = False,
) -> Fit:
    """The fit of a set, of some rows or with its images changed in place."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made.write(folder)
        if change is not None:
            with mrcfile.open(folder / "particles.mrcs", "r+") as stack:
                change(stack.data)
        particles = read_particles(folder / f"particles{'_noisy' if noisy else ''}.star")
        particles = particles if rows is None else particles.select(rows)
        return fit(particles, FitSettings(rank=_RANK, mask=folder / "mask.mrc", threads=1))


def captured(found: Fit, made: SimulatedSet) -> float:
    """Captured variance, masked, to half Nyquist."""
    with tempfile.TemporaryDirectory() as scratch:
        made.write(scratch)
        return float(evaluate(found, Truth.load(scratch))["covariance"]["captured_variance"])


def changed(
    images: Images, change: Callable[[Images, Any], Images], rng: np.random.Generator, which: Bool
) -> None:
    """Change some of the images (N, L, L) in place."""
    images[which] = change(images[which], rng)


def blobs(images: Images, rng: np.random.Generator, height: float) -> Images:
    """A Gaussian blob of 2.5 px anywhere in each image."""
    box = images.shape[-1]
    y, x = np.mgrid[:box, :box]
    centre = rng.uniform(0.2, 0.8, (2, len(images), 1, 1)) * box
    square = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return (height * np.exp(-square / (2 * 2.5**2))).astype(np.float32)


def edges(images: Images, rng: np.random.Generator) -> Images:
    """Half of each image brighter, across a line through its middle."""
    box = images.shape[-1]
    y, x = np.mgrid[:box, :box] - box / 2
    angle = rng.uniform(0, 2 * np.pi, (len(images), 1, 1))
    return (3.0 * (np.cos(angle) * x + np.sin(angle) * y > 0)).astype(np.float32)


def hot(images: Images, value: float) -> Images:
    """One pixel of each image replaced."""
    out = images.copy()
    out[:, images.shape[-1] // 3, images.shape[-1] // 2] = value
    return out


def area_under_curve(score: NDArray[np.float64], truth: Bool) -> float:
    """Chance that one that is true scores higher than one that is not."""
    rank, positive = rankdata(score), int(truth.sum())
    pairs = positive * (len(truth) - positive)
    return float((rank[truth].sum() - positive * (positive + 1) / 2) / pairs)


if __name__ == "__main__":
    main()
