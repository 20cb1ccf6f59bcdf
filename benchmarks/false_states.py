"""How often states are named where there are none, and found where there are some, by latents alone.

No images: latents on a shape, seen through errors that differ between particles and grow from component to
component. So hundreds of sets take minutes.

    python benchmarks/false_states.py [--only arc] [--seeds 20] [--particles 300] [--error 0.3]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.mixture import Likelihoods
from solvar.analysis.states import deconvolved, find_states

Float64 = NDArray[np.float64]
Shape = Callable[[int, np.random.Generator], Float64]


def line(count: int, rng: np.random.Generator) -> Float64:
    return rng.uniform(-1.7, 1.7, (count, 1))


def square(count: int, rng: np.random.Generator) -> Float64:
    return rng.uniform(-1.7, 1.7, (count, 2))


def arc(count: int, rng: np.random.Generator) -> Float64:
    angle = rng.uniform(0, 1.5 * np.pi, count)
    return 1.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def bent_arc(count: int, rng: np.random.Generator) -> Float64:
    angle = rng.uniform(0, 1.2 * np.pi, count)
    return np.stack([1.5 * np.cos(angle), 1.5 * np.sin(angle), np.cos(2 * angle)], axis=1)


def sheet(count: int, rng: np.random.Generator) -> Float64:
    """Two arcs at once, as the motions of two parts of a molecule are, in six components."""
    first, second = rng.uniform(0, np.pi, (2, count))
    waves = [(np.cos(first), np.cos(second)), (np.cos(2 * first), np.cos(2 * second))]
    both = np.cos(first) * np.cos(second), np.sin(first) * np.sin(second)
    weight = np.array([1.9, 1.7, 1.3, 1.1, 1.3, 1.3])
    return weight * np.stack([*waves[0], *waves[1], *both], axis=1)


def states(share: list[float], apart: float) -> Shape:
    """Narrow states on a ring, neighbours so far apart (two: on a line)."""

    def drawn(count: int, rng: np.random.Generator) -> Float64:
        angle = 2 * np.pi * np.arange(len(share)) / len(share)
        radius = 0.5 * apart / np.sin(np.pi / len(share))
        corner = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        state = rng.choice(len(share), count, p=share)
        return corner[state] + rng.normal(0, 0.25, (count, 2))

    return drawn


SHAPES: dict[str, tuple[Shape, int]] = {
    "line": (line, 1),
    "square": (square, 1),
    "arc": (arc, 1),
    "bent arc": (bent_arc, 1),
    "sheet": (sheet, 1),
    "two states": (states([0.5, 0.5], 2.0), 2),
    "two, 80 and 20 %": (states([0.8, 0.2], 2.0), 2),
    "three states": (states([1 / 3, 1 / 3, 1 / 3], 2.25), 3),
}


def measured(truth: Float64, error: float, rng: np.random.Generator) -> Likelihoods:
    """Seen through errors of this standard deviation, by a quarter more or less."""
    count, components = truth.shape
    spread = np.exp(0.25 * rng.standard_normal((count, 1))) * np.linspace(1, 1.5, components)
    sd = error * spread
    seen = truth + sd * rng.standard_normal(truth.shape)
    return Likelihoods(np.eye(components) / sd[:, :, None] ** 2, seen / sd**2, np.ones(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="shapes whose name holds this")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--particles", type=int, default=300)
    parser.add_argument("--error", type=float, default=0.3, help="of the first component")
    given = parser.parse_args()
    for name, (shape, there) in SHAPES.items():
        if given.only not in name:
            continue
        found = []
        for seed in range(given.seeds):
            rng = np.random.default_rng(seed)
            seen = measured(shape(given.particles, rng), given.error, rng)
            found.append(len(find_states(deconvolved(seen, seed), seen, seed)))
        counts = ", ".join(f"{n}: {found.count(n)}" for n in sorted(set(found)))
        print(
            f"{name:18} {there} there; found in so many of {given.seeds} sets  {counts}", flush=True
        )


if __name__ == "__main__":
    main()
