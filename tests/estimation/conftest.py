"""Small simulated particle sets on disk, and whitened images of one in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from solvar.estimation.model import Fit
from solvar.estimation.settings import FitSettings

Simulated = Callable[..., Path]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """A function that simulates a set once per combination of settings and returns its folder."""
    from solvar.simulation import SimulationSettings, simulate

    made: dict[str, Path] = {}

    def make(**settings: object) -> Path:
        defaults = {"box_size": 32, "pixel_size": 5.0, "particles": 1200, "snr": 0.2, "seed": 3}
        wanted = SimulationSettings(**{**defaults, **settings})
        key = wanted.model_dump_json()
        if key not in made:
            made[key] = tmp_path_factory.mktemp("simulated")
            simulate(wanted).write(made[key])
        return made[key]

    return make


@pytest.fixture(scope="session")
def fitted(simulated: Simulated) -> Callable[..., Fit]:
    """A function that fits a simulated set; `order` permutes its particles."""
    from solvar.estimation.fit import fit
    from solvar.particles import read_particles

    def run(folder: Path, order: np.ndarray | None = None, **settings: object) -> Fit:
        particles = read_particles(folder / "particles.star")
        if order is not None:
            particles = particles.select(order)
        return fit(particles, FitSettings(mask=folder / "mask.mrc", **settings))

    return run
