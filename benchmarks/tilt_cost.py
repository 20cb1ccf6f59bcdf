"""What an exposure of a tilt series costs beside a single particle: the same images, in the same band.

Images of a simulated stack are fitted as particles of their own, and, a number of neighbours at a time, as
exposures of one particle. Printed are CPU seconds for a thousand images in passes that a run is made of, the
best of several turns side by side, and of whole runs (which need not take as many sweeps).

    python benchmarks/tilt_cost.py [--particles 100] [--tilts 41] [--box 64] [--rank 4] [--turns 5]
                                   [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, gram_matrices
from solvar.estimation.images import WhitenedImages
from solvar.estimation.information import sampling_information
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.poses.objective import derivatives_of
from solvar.fitting.fit import fit
from solvar.fitting.images import read_images
from solvar.fitting.settings import FitSettings
from solvar.particles import ParticleSet, read_particles
from solvar.simulation import SimulationSettings, simulate
from solvar.threads import ThreadTeam

# turns of what takes longer
_FEW = 2


def together(particles: ParticleSet, each: int) -> ParticleSet:
    """So many neighbours at a time as exposures of one particle; all keep their poses, centres and CTFs."""
    first = np.arange(0, len(particles), each)
    owner = np.arange(len(particles)) // each
    rotation, shift = particles.poses.rotation, particles.poses.shift_angstrom
    images = particles.exposures
    tilts = replace(
        images,
        particle=owner,
        tilt=rotation[first][owner].transpose(0, 2, 1) @ rotation,
        shift_angstrom=shift - shift[first][owner],
        ctf=replace(images.ctf, dose_per_angstrom2=1e-3 * (np.arange(len(particles)) % each)),
    )
    chosen = particles.select(first)
    # 2-D shifts of a particle are along its own frame: all of them are the images'
    poses = replace(chosen.poses, shift_angstrom=np.zeros_like(chosen.poses.shift_angstrom))
    return replace(chosen, poses=poses, exposures=replace(tilts, shift_angstrom=shift))


def passes(images: WhitenedImages, rank: int, team: ThreadTeam) -> dict[str, Callable[[], object]]:
    """What a run is made of, over all images."""
    band = Band(images, team=team)
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((1 + rank, *(band.box,) * 3)).astype(np.float32)
    model = ColumnModel(columns * band.support.mean, 0.1)
    index = np.arange(len(images))

    def read() -> None:
        for _ in images.batches(index, band.disc):
            pass

    def turn() -> None:
        prepared = BandModel(band, model)
        for batch in band.batches(size=64):
            derivatives_of(prepared, batch)

    return {
        "batches of pixels and frames": read,
        "Gram matrices": lambda: gram_matrices(BandModel(band, model), index),
        "E-step and gradient": lambda: MaximumLikelihood().gradient(band, model, index),
        "pose derivatives": turn,
        "sampling information": lambda: sampling_information(images, index, band.k_c, team),
    }


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def compare(name: str, pair: list[Callable[[], object]], images: int, turns: int) -> None:
    """One line: both, and their ratio."""
    taken = np.array([[seconds(work) for work in pair] for _ in range(turns)])
    single, tilts = taken.min(axis=0) * 1000 / images
    ratio = tilts / single
    print(f"{name:32} {single:8.3f} {tilts:8.3f} {ratio:6.2f}", flush=True)


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=100)
    parser.add_argument("--tilts", type=int, default=41)
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    count = options.particles * options.tilts
    settings = FitSettings(rank=options.rank, threads=1)
    with tempfile.TemporaryDirectory() as place, ThreadTeam(1) as team:
        folder = Path(place) / "set"
        simulate(SimulationSettings(particles=count, box_size=options.box)).write(folder)
        alone = read_particles(folder / "particles.star")
        both = [alone, together(alone, options.tilts)]
        print(f"{count} images, box {options.box}, rank {options.rank}, a thread")
        print(f"{'CPU seconds of 1,000 images':32} {'single':>8} {'tilts':>8} {'ratio':>6}")
        compare(
            "reading and whitening",
            [lambda p=p: read_images(p, settings) for p in both],
            count,
            _FEW,
        )
        works = [passes(read_images(p, settings), options.rank, team) for p in both]
        for name in works[0]:
            compare(name, [each[name] for each in works], count, options.turns)
        compare("whole fit", [lambda p=p: fit(p, settings) for p in both], count, 1)
        if options.profile:
            for work in works:
                profile = cProfile.Profile()
                profile.runcall(work["E-step and gradient"])
                pstats.Stats(profile).sort_stats("tottime").print_stats(14)


if __name__ == "__main__":
    main()
