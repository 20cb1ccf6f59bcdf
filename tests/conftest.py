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
