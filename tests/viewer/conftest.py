"""A made-up run folder with a made-up analysis."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from solvar.results.run import Run
from synthetic import make_fit
from written import written

COUNT = 500


def pytest_collection_modifyitems(items):
    """The viewer is an extra: without it there is nothing to test here."""
    try:
        import dash  # noqa: F401
        import skimage  # noqa: F401
    except ImportError:
        for item in items:
            if "tests/viewer" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="solvar[view] is not installed"))


@pytest.fixture
def run(tmp_path) -> Run:
    """500 particles, rank 3, box 16; three clusters and a UMAP."""
    fit = make_fit(tmp_path, rank=3, count=COUNT)
    folder = tmp_path / "run"
    written(folder, fit)
    (folder / "analysis").mkdir()
    rng = np.random.default_rng(1)
    with h5py.File(folder / "analysis" / "particles.h5", "w") as file:
        file.attrs["run_id"] = Run(folder).run_id
        file["cluster"] = rng.integers(1, 4, COUNT)
        file["umap"] = rng.normal(size=(COUNT, 2))
        file["outlier"] = rng.random(COUNT) < 0.1
    return Run(folder)
