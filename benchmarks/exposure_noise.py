"""How well the noise of exposures is known by so many images of each: made-up noise, exposures alike or not.

Printed is the rms error of the logarithm of spectra of 41 exposures of 100 particles, in shells 2–4, 5–11
and up to half the box. Exposures are alike, or grow by 10 % in power and by 30 % more in the lowest shells.

    python benchmarks/exposure_noise.py [--each 100 50 25] [--tilts 41] [--box 64] [--draws 3]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from tilt_cost import together

from solvar.estimation import corners
from solvar.estimation.noise import estimate_noise
from solvar.imaging.noise import frequency_shells, ring_means
from solvar.particles import ImageStack, ParticleSet, read_particles
from solvar.simulation import SimulationSettings, simulate

PARTICLES, RANGES = 100, ((2, 5), (5, 12), (12, None))


class _Noise(ImageStack):
    """Images of noise in place of those of a stack."""

    def draw(self, power: np.ndarray, seed: int) -> None:
        """One image of each spectrum (E, L, L) after the other, for all particles."""
        shape = len(self), self.box_size, self.box_size
        white = np.fft.fft2(np.random.default_rng(seed).standard_normal(shape))
        each = power[np.arange(len(self)) % len(power)]
        self.images = np.fft.ifft2(white * np.sqrt(each)).real.astype(np.float32)

    def read(self, index: np.ndarray) -> np.ndarray:
        return self.images[index].copy()


def errors(particles: ParticleSet, power: np.ndarray, draws: int) -> list[float]:
    """Of all exposures and draws, in each range of shells."""
    stack, box = _Noise(particles), power.shape[-1]
    truth = box**2 * np.array([ring_means(each) for each in power])[:, : box // 2 + 1]
    found = []
    for seed in range(draws):
        stack.draw(power, seed)
        noise = estimate_noise(particles, stack, 0.625 * box, box // 2 + 1, seed)
        found.append(np.log(noise.power / truth) ** 2)
    return [float(np.sqrt(np.mean(np.stack(found)[..., a:b]))) for a, b in RANGES]


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, nargs="+", default=[100, 50, 25])
    parser.add_argument("--tilts", type=int, default=41)
    parser.add_argument("--box", type=int, default=64)
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    late = np.arange(options.tilts)[:, None, None] / options.tilts
    low = 2 * np.exp(-frequency_shells(options.box) / 8)
    cases = {
        "alike": 1 + low + 0 * late,
        "growing": (1 + 0.1 * late) * (1 + low * (1 + 0.3 * late)),
    }
    with tempfile.TemporaryDirectory() as place:
        count = PARTICLES * options.tilts
        simulate(SimulationSettings(particles=count, box_size=options.box)).write(
            Path(place) / "set"
        )
        given = together(read_particles(Path(place) / "set" / "particles.star"), options.tilts)
        for name, power in cases.items():
            for each in options.each:
                corners._SAMPLE_OF_EXPOSURE, corners._SAMPLE_OF_ALL = each, each * options.tilts
                found = errors(given, power, options.draws)
                print(f"{name:8} {each:4}", *(f"{value:.4f}" for value in found), flush=True)


if __name__ == "__main__":
    main()
