"""How often a rigid molecule is said to move, with images as they should be and with eight kinds of fault.

Sets of a rigid molecule (another one each, boxes 24 to 64, 1,000 to 20,000 particles, signal-to-noise
0.01 to 0.1) are fitted with two components, and every verdict is counted: none of them should be
"resolved" or "real". Each set has one fault; `--power` draws sets of the moving molecule, to count what the
verdict still sees.

    python benchmarks/false_verdicts.py [--sets 216] [--first 0] [--faults none pose8 …] [--power]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import mrcfile
import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter

import solvar
from solvar.imaging.rotations import from_rotation_vector
from solvar.particles import Poses
from solvar.progress import SilentProgress
from solvar.simulation.dataset import simulate
from solvar.simulation.images import noise_images
from solvar.simulation.settings import SimulationSettings
from solvar.simulation.simulated_set import SimulatedSet

RANK = 2
PIXEL = 3.0
# box, particles, signal-to-noise: one after the other
SIZES = (
    (32, 2000, 0.05),
    (24, 5000, 0.02),
    (48, 1000, 0.1),
    (32, 5000, 0.1),
    (24, 10_000, 0.01),
    (40, 2000, 0.03),
    (24, 20_000, 0.05),
    (64, 1500, 0.05),
)


@dataclass
class Drawn:
    """A simulated set whose images and files may be spoilt."""

    truth: SimulatedSet
    images: np.ndarray
    poses: Poses
    defocus: np.ndarray
    mask: np.ndarray
    rng: np.random.Generator


def disc(box: int, radius: float = 0.42) -> np.ndarray:
    y, x = np.mgrid[:box, :box] - box // 2
    return x * x + y * y <= (radius * box) ** 2


def inside(factor: float) -> Callable[[Drawn], None]:
    """Noise in the particle's disc `factor` times that of the corners."""

    def spoil(d: Drawn) -> None:
        truth, index = d.truth, np.arange(len(d.truth))
        noise = noise_images(truth.noise_power[truth.optics_group], index, truth.settings.seed)
        d.images += noise * (factor - 1) * disc(truth.settings.box_size)

    return spoil


def turned(degrees: float) -> Callable[[Drawn], None]:
    """Rotations off by this much in total (rms), shifts by a pixel for 8°."""

    def spoil(d: Drawn) -> None:
        n = len(d.truth)
        turn = d.rng.normal(0, np.deg2rad(degrees) / np.sqrt(3), (n, 3))
        moved = d.rng.normal(0, degrees / 8 * PIXEL, (n, 2))
        rotation = d.poses.rotation @ from_rotation_vector(turn)
        d.poses = Poses(rotation, d.poses.shift_angstrom + moved)

    return spoil


def defocus(d: Drawn) -> None:
    d.defocus = d.rng.normal(0, 500, len(d.truth))


def tight(d: Drawn) -> None:
    core = binary_erosion(d.mask > 0.5, iterations=max(1, len(d.mask) // 16))
    d.mask = np.clip(gaussian_filter(core.astype(np.float32), 1.0), 0, 1)


def offset(d: Drawn) -> None:
    d.images += 0.3 * d.rng.standard_normal((len(d.images), 1, 1)).astype(np.float32)


def gain(d: Drawn) -> None:
    d.images *= np.exp(0.3 * d.rng.standard_normal((len(d.images), 1, 1))).astype(np.float32)


def junk(d: Drawn) -> None:
    truth = d.truth
    rows = np.flatnonzero(d.rng.random(len(truth)) < 0.2)
    d.images[rows] = noise_images(
        truth.noise_power[truth.optics_group[rows]], rows, truth.settings.seed
    )


FAULTS: dict[str, Callable[[Drawn], None]] = {
    "none": lambda d: None,
    "noise+10%": inside(1.1),
    "noise-10%": inside(0.9),
    "pose3": turned(3),
    "pose8": turned(8),
    "defocus": defocus,
    "tight mask": tight,
    "offset": offset,
    "gain": gain,
    "junk20%": junk,
}


def draw(
    number: int, fault: str, moving: bool, size: tuple[int, int, float] | None = None
) -> Drawn:
    """Set `number`, spoilt."""
    box, count, snr = size or SIZES[number % len(SIZES)]
    settings = SimulationSettings(
        particles=count,
        box_size=box,
        pixel_size=PIXEL * 64 / box / 1.5,
        snr=snr,
        heterogeneity="hinge-loop" if moving else "rigid",
        defocus_min=10000,
        pose_error=0,
        shift_error=0,
        seed=1000 + number,
    )
    truth = simulate(settings, SilentProgress())
    index = np.arange(count)
    images = np.concatenate(
        [truth.images(index[a : a + truth.chunk]) for a in range(0, count, truth.chunk)]
    )
    mask = truth.truth_volumes(1).mask
    rng = np.random.default_rng([number, 77])
    drawn = Drawn(truth, images, truth.poses, np.zeros(count), mask, rng)
    FAULTS[fault](drawn)
    return drawn


def write(d: Drawn, folder: Path) -> Path:
    """The files of a spoilt set; returns the star file."""
    pixel = d.truth.settings.pixel_size
    ctf = replace(
        d.truth.ctf,
        defocus_u_angstrom=d.truth.ctf.defocus_u_angstrom + d.defocus,
        defocus_v_angstrom=d.truth.ctf.defocus_v_angstrom + d.defocus,
    )
    star = replace(d.truth, poses=d.poses, ctf=ctf).write(folder)
    with mrcfile.new(folder / "particles.mrcs", overwrite=True) as file:
        file.set_data(d.images)
        file.set_image_stack()
        file.voxel_size = pixel
    with mrcfile.new(folder / "mask.mrc", overwrite=True) as file:
        file.set_data(d.mask.astype(np.float32))
        file.voxel_size = pixel
    return star


def judged(number: int, fault: str, moving: bool, folder: Path) -> dict[str, object]:
    """What a fit says of one set, which is drawn if it is not there yet."""
    kind = "moving" if moving else "rigid"
    here = folder / f"{kind}-{number}-{fault.replace(' ', '-')}"
    if not (here / "particles.star").exists():
        write(draw(number, fault, moving), here)
    # sets that a run would stop at are judged, too
    settings = solvar.FitSettings(rank=RANK, mask=here / "mask.mrc", threads=1, seed=0, force=True)
    start = time.process_time()
    found = solvar.fit(solvar.read_particles(here / "particles.star"), settings).validation
    assert found is not None
    box, count, snr = SIZES[number % len(SIZES)]
    old = getattr(found, "verdict", None)
    told = [old(j) if old else ("real" if found.reliable[j] else "noise") for j in range(RANK)]
    causes = [found.could_be(j) if old else None for j in range(RANK)]
    return {
        "number": number,
        "fault": fault,
        "box": box,
        "particles": count,
        "snr": snr,
        "verdict": told,
        "could_be": causes,
        "seconds": round(time.process_time() - start, 1),
    }


def table(results: list[dict[str, object]]) -> None:
    """Verdicts by fault, and what artefacts were said to be."""
    print(f"{'fault':12} {'sets':>5} {'components':>10} {'resolved':>9} {'real':>6}   named")
    for fault in [*dict.fromkeys(r["fault"] for r in results), "all"]:
        some = [r for r in results if fault in ("all", r["fault"])]
        told = Counter(v for r in some for v in r["verdict"])
        named = Counter(c for r in some for c in r["could_be"] if c)
        words = ", ".join(f"{cause} {count}" for cause, count in named.most_common())
        line = f"{fault:12} {len(some):5} {sum(told.values()):10} {told['resolved']:9} {told['real']:6}"
        print(f"{line}   {words}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=240)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS))
    parser.add_argument("--power", action="store_true", help="sets of the moving molecule")
    parser.add_argument("--keep", type=Path, help="where sets are kept, to be used again")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(args.first, args.first + args.sets):
            fault = args.faults[number // len(SIZES) % len(args.faults)]
            results.append(judged(number, fault, args.power, args.keep or Path(name)))
            print(json.dumps(results[-1]), flush=True)
    table(results)


if __name__ == "__main__":
    main()
