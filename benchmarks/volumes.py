"""How true the volumes of each method are, and what many targets in one pass save.

AUC-FSC (FSC clipped to 0…1, trapezoid over k/L to Nyquist, at most 0.5) of the volumes at the states whose
truth is stored, in the mask of the truth. Targets are the mean latents of the particles of a state. Where
RELION is installed, relion_reconstruct makes a map of the very particles of `subset`, masked alike.

    solvar run ../shared/data/adk_64/particles.star -o run --rank 4 --mask ../shared/data/adk_64/mask.mrc
    python benchmarks/volumes.py run ../shared/data/adk_64
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from solvar.estimation.posterior import squared_differences
from solvar.evaluation import Truth, fsc_auc, masked_fsc
from solvar.particles import read_particles, write_star
from solvar.progress import SilentProgress
from solvar.results.run import Run
from solvar.threads import ThreadTeam
from solvar.volume_file import read_volume
from solvar.volumes import VolumeSettings
from solvar.volumes.methods import volume_maker
from solvar.volumes.neighbours import nested_balls
from solvar.volumes.targets import Targets

MANY = 20


def state_latents(run: Run, truth: Truth) -> dict[str, np.ndarray]:
    """Mean latents of the particles of each state that has a volume."""
    assert truth.state is not None
    z, state = run.posterior.z, truth.state[run.particles["row"]]
    return {name: z[state == int(name)].mean(axis=0) for name in sorted(truth.volumes)}


def relion(run: Run, target: np.ndarray, fraction: float, box: int) -> np.ndarray | None:
    """relion_reconstruct from the particles that `subset` takes, or None without RELION."""
    if shutil.which("relion_reconstruct") is None:
        return None
    distance = squared_differences(run.posterior.z, target)
    halves = [np.flatnonzero(run.particles["halfset"] == h) for h in (1, 2)]
    chosen = np.concatenate([nested_balls(distance, h, (fraction,))[0] for h in halves])
    particles = read_particles(Path(run.record["particles"]["source"]))
    some = particles.select(run.particles["row"][np.sort(chosen)])
    with tempfile.TemporaryDirectory() as folder:
        star, out = Path(folder) / "some.star", Path(folder) / "out.mrc"
        write_star(star, some, {})
        command = ["relion_reconstruct", "--i", str(star), "--o", str(out), "--ctf"]
        subprocess.run(command, check=True, capture_output=True, cwd=some.stacks[0].parent)
        return read_volume(out)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("truth", type=Path)
    given = parser.parse_args()
    run, truth = Run(given.run), Truth.load(given.truth)
    targets = state_latents(run, truth)
    true = {name: read_volume(truth.volumes[name])[0] for name in targets}
    mask = truth.mask
    with ThreadTeam() as team:
        for method in ("reproject", "kernel", "subset"):
            settings = VolumeSettings(method=method)
            scratch = Path(tempfile.gettempdir())
            points = Targets(np.stack(list(targets.values())), tuple(targets))
            make, _ = volume_maker(run, points, settings, None, scratch, SilentProgress(), team)
            found = {name: make(k) for k, name in enumerate(targets)}
            area = [fsc_auc(masked_fsc(found[name].volume, true[name], mask)) for name in targets]
            told = f"{method:10} AUC-FSC {np.mean(area):.4f}, worst {min(area):.4f}"
            if found[next(iter(found))].halves is not None:
                halves = [fsc_auc(masked_fsc(*found[name].halves.plain, mask)) for name in targets]
                told += f"; of the half-maps with each other {np.mean(halves):.4f}"
            print(told, flush=True)
        fraction = VolumeSettings().subset_fraction
        maps = {name: relion(run, z, fraction, run.model.box_size) for name, z in targets.items()}
        if all(volume is not None for volume in maps.values()):
            area = [fsc_auc(masked_fsc(maps[name], true[name], mask)) for name in targets]
            print(
                f"relion     AUC-FSC {np.mean(area):.4f}, worst {min(area):.4f} (same particles as subset)"
            )
    together, apart = command_seconds(given.run, MANY), command_seconds(given.run, 1)
    told = (
        f"{MANY} volumes: {together:.1f} s by one command, {MANY * apart:.1f} s by {MANY} commands"
    )
    print(f"{told} ({MANY * apart / together:.1f}x)")


def command_seconds(run: Path, count: int) -> float:
    """Wall seconds of `solvar volume` for so many targets, the best of three."""
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3):
            start = time.perf_counter()
            command = [sys.executable, "-m", "solvar", "volume", str(run), "--clusters", str(count)]
            command += ["-o", folder, "--overwrite"]
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
