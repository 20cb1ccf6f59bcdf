"""How often states are named where there are none, and found where there are some, by latents alone.

No images: latents on a shape, seen through errors that differ between particles and grow from component to
component. So hundreds of sets take minutes. `--unlike` is how much errors differ between particles.

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


def bell(count: int, rng: np.random.Generator) -> Float64:
    return rng.normal(0, 1, (count, 2))


def strip(count: int, rng: np.random.Generator) -> Float64:
    return rng.uniform([-2.2, -0.7], [2.2, 0.7], (count, 2))


def ball(count: int, rng: np.random.Generator) -> Float64:
    place = rng.normal(0, 1, (count, 3))
    return (
        2.2
        * place
        / np.linalg.norm(place, axis=1, keepdims=True)
        * rng.random((count, 1)) ** (1 / 3)
    )


def heavy_tails(count: int, rng: np.random.Generator) -> Float64:
    return np.clip(rng.standard_t(3, (count, 2)) / 1.5, -5, 5)


def one_end_denser(count: int, rng: np.random.Generator) -> Float64:
    """Five times as dense at one end of a line as at the other."""
    return (3.6 * (np.sqrt(1 + 24 * rng.random((count, 1))) - 1) / 4) - 1.8


def ring(count: int, rng: np.random.Generator) -> Float64:
    angle = rng.uniform(0, 2 * np.pi, count)
    return 1.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def arc(count: int, rng: np.random.Generator) -> Float64:
    angle = rng.uniform(0, 1.5 * np.pi, count)
    return 1.4 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def bent_arc(count: int, rng: np.random.Generator) -> Float64:
    angle = rng.uniform(0, 1.2 * np.pi, count)
    return np.stack([1.5 * np.cos(angle), 1.5 * np.sin(angle), np.cos(2 * angle)], axis=1)


def roll(count: int, rng: np.random.Generator) -> Float64:
    """An evenly filled sheet that is bent one way."""
    angle = rng.uniform(0, 1.2 * np.pi, count)
    across = rng.uniform(-1.7, 1.7, count)
    return np.stack([1.5 * np.cos(angle), 1.5 * np.sin(angle), across], axis=1)


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


def states_in_motion(count: int, rng: np.random.Generator) -> Float64:
    """Two states, across the same motion."""
    side = rng.choice([-1.1, 1.1], count, p=[0.3, 0.7])
    angle = rng.uniform(0, np.pi, count)
    across = side + rng.normal(0, 0.2, count)
    return np.stack([1.4 * np.cos(angle), 1.4 * np.sin(angle), across], axis=1)


def moons(count: int, rng: np.random.Generator) -> Float64:
    """Two states that bend around each other: no plane is between them."""
    angle = rng.uniform(0, np.pi, count)
    side = rng.choice([-1.0, 1.0], count)
    place = np.stack([np.cos(angle) + 0.5, np.sin(angle) - 0.15], axis=1)
    return 2.2 * side[:, None] * (place - [1.0, 0.0]) + rng.normal(0, 0.07, (count, 2))


SHAPES: dict[str, tuple[Shape, int]] = {
    "line": (line, 1),
    "square": (square, 1),
    "bell": (bell, 1),
    "strip": (strip, 1),
    "ball": (ball, 1),
    "heavy tails": (heavy_tails, 1),
    "one end denser": (one_end_denser, 1),
    "ring": (ring, 1),
    "arc": (arc, 1),
    "bent arc": (bent_arc, 1),
    "roll": (roll, 1),
    "sheet": (sheet, 1),
    "two states": (states([0.5, 0.5], 2.0), 2),
    "two, near": (states([0.5, 0.5], 1.6), 2),
    "two, 80 and 20 %": (states([0.8, 0.2], 2.0), 2),
    "two, 95 and 5 %": (states([0.95, 0.05], 2.0), 2),
    "three states": (states([1 / 3, 1 / 3, 1 / 3], 2.25), 3),
    "two, in motion": (states_in_motion, 2),
    "two moons": (moons, 2),
}


def measured(truth: Float64, error: float, unlike: float, rng: np.random.Generator) -> Likelihoods:
    """Seen through errors of this standard deviation, by a factor exp(± unlike) more or less."""
    count, components = truth.shape
    spread = np.exp(unlike * rng.standard_normal((count, 1))) * np.linspace(1, 1.5, components)
    sd = error * spread
    seen = truth + sd * rng.standard_normal(truth.shape)
    return Likelihoods(np.eye(components) / sd[:, :, None] ** 2, seen / sd**2, np.ones(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="shapes whose name holds this")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--particles", type=int, default=300)
    parser.add_argument("--error", type=float, default=0.3, help="of the first component")
    parser.add_argument(
        "--unlike", type=float, default=0.25, help="spread of the log of the errors"
    )
    given = parser.parse_args()
    for name, (shape, there) in SHAPES.items():
        if given.only not in name:
            continue
        found = []
        for seed in range(given.seeds):
            rng = np.random.default_rng(seed)
            seen = measured(shape(given.particles, rng), given.error, given.unlike, rng)
            found.append(len(find_states(deconvolved(seen, seed), seen, seed)))
        counts = ", ".join(f"{n}: {found.count(n)}" for n in sorted(set(found)))
        print(
            f"{name:18} {there} there; found in so many of {given.seeds} sets  {counts}", flush=True
        )


if __name__ == "__main__":
    main()
