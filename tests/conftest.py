"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Shared test data: $SOLVAR_SHARED/data, or ../shared/data beside the repository."""
    root = os.environ.get("SOLVAR_SHARED", str(Path(__file__).parents[2] / "shared"))
    folder = Path(root) / "data"
    if not folder.is_dir():
        pytest.skip(f"shared test data is not at {folder} (set SOLVAR_SHARED)")
    return folder


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
