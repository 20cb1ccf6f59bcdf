"""What components of focus masks tell of their own place, and of the other: `pol2_64`, clamp and stalk.

Masks are drawn around what differs between the stored true volumes: between angles of the clamp, and with
the stalk and without; each voxel in the one that it differs more by. The clamp's angle and the stalk are told
from latents by their 30 nearest neighbours among other particles; in brackets the angle of those without a
stalk, which rides on the clamp and tells its angle where it is there.

    python benchmarks/focus.py [--data ../shared/data/pol2_64] [--own-mask] [--clamp 3 --stalk 2 --rest 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.stats import rankdata, spearmanr

from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.volume_file import read_volume, write_volume

Float64 = NDArray[np.float64]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "pol2_64"
ANGLES = 40
NEIGHBOURS = 30
# of the largest difference: where a mask is drawn
THRESHOLD = 0.1


def masks(data: Path) -> tuple[Float64, Float64]:
    """Of the clamp and of the stalk (L, L, L), soft, from the true volumes that are stored."""
    files = sorted((data / "vols").glob("*.mrc"))
    volumes = {int(each.stem): read_volume(each)[0].astype(np.float64) for each in files}
    angles = sorted(state for state in volumes if state + ANGLES in volumes)
    clamp = np.ptp([volumes[state] for state in volumes if state < ANGLES], axis=0)
    stalk = np.max([abs(volumes[state + ANGLES] - volumes[state]) for state in angles], axis=0)
    clamp, stalk = (gaussian_filter(each, 1.0) for each in (clamp, stalk))
    clamp, stalk = clamp / clamp.max(), stalk / stalk.max()
    hard = (clamp > THRESHOLD) & (clamp >= stalk), (stalk > THRESHOLD) & (stalk > clamp)
    return tuple(np.clip(gaussian_filter(each.astype(float), 1.0), 0, 1) for each in hard)


def nearest_mean(latents: Float64, values: Float64) -> Float64:
    """Mean of the values (N,) of other particles that are nearest in latents (N, m), by their spread."""
    scaled = latents / latents.std(axis=0)
    _, near = cKDTree(scaled).query(scaled, NEIGHBOURS + 1)
    return values[near[:, 1:]].mean(axis=1)


def area_under_curve(score: Float64, positive: NDArray[np.bool_]) -> float:
    """How often one of the positives has a higher score than one of the others."""
    ranks, count = rankdata(score), positive.sum()
    rest = len(positive) - count
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * rest))


def told(latents: Float64, angle: Float64, stalk: NDArray[np.bool_]) -> str:
    """What latents say of both."""
    of_angle = spearmanr(nearest_mean(latents, angle), angle).statistic
    of_stalk = area_under_curve(nearest_mean(latents, stalk.astype(float)), stalk)
    alone = spearmanr(nearest_mean(latents[~stalk], angle[~stalk]), angle[~stalk]).statistic
    return f"clamp {of_angle:.3f} ({alone:.3f})  stalk {of_stalk:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--file", default="particles.star")
    parser.add_argument("--own-mask", action="store_true", help="instead of the set's mask")
    for name, count in (("clamp", 3), ("stalk", 2), ("rest", 2)):
        parser.add_argument(f"--{name}", type=int, default=count, help="components")
    given = parser.parse_args()
    truth = np.load(given.data / "gt.npz")
    angle, stalk = truth["state_coord"], truth["state"] >= ANGLES
    print(f"true states of each other:   {told_by_truth(angle, stalk)}", flush=True)

    particles = read_particles(given.data / given.file)
    common: dict[str, Any] = {} if given.own_mask else {"mask": given.data / "mask.mrc"}

    def run(label: str, **settings: Any) -> Fit:
        begun = time.process_time()
        found = fit(particles, FitSettings(**common, **settings))
        print(f"{label} ({time.process_time() - begun:.0f} s of CPU)", flush=True)
        return found

    whole = run("no focus, rank 6", rank=6).posterior.z
    print(f"    all components:          {told(whole, angle, stalk)}")
    for j in range(whole.shape[1]):
        print(f"    component {j + 1}:             {told(whole[:, j : j + 1], angle, stalk)}")
    with tempfile.TemporaryDirectory() as scratch:
        drawn = masks(given.data)
        files = [Path(scratch) / f"{name}.mrc" for name in ("clamp", "stalk")]
        for file, mask in zip(files, drawn, strict=True):
            write_volume(file, mask.astype(np.float32), float(truth["apix"]))
        counts = given.clamp, given.stalk
        for file, count in zip(files, counts, strict=True):
            for rest in dict.fromkeys((0, given.rest)):
                settings = {"focus_mask": [Path(f"{file}:{count}")], "rest_rank": rest}
                found = run(f"focus on the {file.stem} alone, rest {rest}", **settings)
                own = found.posterior.z[:, found.block == 0]
                print(f"    its components:          {told(own, angle, stalk)}")
        named = [Path(f"{file}:{count}") for file, count in zip(files, counts, strict=True)]
        for rest in dict.fromkeys((0, given.rest)):
            found = run(f"both, rest {rest}", focus_mask=named, rest_rank=rest)
            for label, name in enumerate(("clamp", "stalk", "rest")[: 2 + bool(rest)]):
                own = found.posterior.z[:, found.block == label]
                print(f"    components of the {name}:  {told(own, angle, stalk)}")


def told_by_truth(angle: Float64, stalk: NDArray[np.bool_]) -> str:
    """What the true angle says of the stalk, and a stalk, at its true angle or absent, of the angle."""
    seen = np.where(stalk, angle, angle[~stalk].mean())
    of_angle = spearmanr(seen, angle).statistic
    return f"clamp {of_angle:.3f} (0)  stalk {area_under_curve(-angle, stalk):.3f}"


if __name__ == "__main__":
    main()
