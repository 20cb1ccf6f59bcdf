"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Shared test data: $SOLVAR_SHARED/data, or ../shared/data beside the repository."""
    root = os.environ.get("SOLVAR_SHARED", str(Path(__file__).parents[2] / "shared"))
    folder = Path(root) / "data"
    if not folder.is_dir():
        pytest.skip(f"shared test data is not at {folder} (set SOLVAR_SHARED)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def small_movies() -> Iterator[None]:
    """Movies of fewer pixels and views, in this process: what they show is looked at in one place."""
    from solvar.report import movie

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(movie, "_SIZE", 80)
        patch.setattr(movie, "_VIEWS", 8)
        yield


@pytest.fixture(scope="session")
def tiny_stack(tmp_path_factory) -> Path:
    """A simulated stack on which the whole program runs in seconds: 400 particles, box 24."""
    from solvar.simulation import SimulationSettings, simulate

    settings = SimulationSettings(
        particles=400, box_size=24, pixel_size=8.0, snr=0.5, shift_sd=1.0, seed=2
    )
    folder = tmp_path_factory.mktemp("tiny")
    simulate(settings).write(folder)
    return folder


@pytest.fixture(scope="session")
def soiled_stack(tiny_stack, tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A copy of the tiny stack, of whose images 30 % are noise alone, and which these are (400,)."""
    import mrcfile

    folder = tmp_path_factory.mktemp("soiled") / "set"
    shutil.copytree(tiny_stack, folder)
    rng = np.random.default_rng(0)
    with mrcfile.open(folder / "particles.mrcs", "r+") as stack:
        junk = rng.permutation(len(stack.data)) < 0.3 * len(stack.data)
        stack.data[junk] = rng.standard_normal(stack.data[junk].shape)
    return folder, junk


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
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
def fitted(simulated: Callable[..., Path]) -> Callable[..., Fit]:
    """A function that fits a simulated set; `order` permutes its particles, `star` names another file."""
    from solvar.fitting.fit import fit
    from solvar.particles import read_particles

    def run(
        folder: Path,
        order: np.ndarray | None = None,
        star: str = "particles.star",
        **settings: object,
    ) -> Fit:
        particles = read_particles(folder / star)
        if order is not None:
            particles = particles.select(order)
        return fit(particles, FitSettings(mask=folder / "mask.mrc", **settings))

    return run
