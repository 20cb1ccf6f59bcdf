"""The published way: Adam, and least squares of the covariance."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.objectives import OBJECTIVES
from solvar.fitting.settings import FitSettings
from toy_band import COUNT, all_images, make_band, true_columns


@pytest.fixture(scope="module")
def band() -> Band:
    return make_band()


def _least_squares(band: Band, columns: np.ndarray) -> float:
    """¼ Σ ‖(y - s)(y - s)ᵀ - E Eᵀ - I‖² without what does not depend on E, from slices."""
    images = all_images(band)
    prepared = band.projector.prepare(columns)
    slices = band.projector.project(prepared, images.frame, images.ctf)
    e = slices[:, 1:].view(np.float32).astype(np.float64)
    y = (images.data - slices[:, 0]).view(np.float32).astype(np.float64)
    gram = e @ e.transpose(0, 2, 1)
    score = np.einsum("brn,bn->br", e, y)
    fit = np.einsum("brs,brs->", gram, gram) + 2 * np.einsum("brr->", gram)
    return float(fit - 2 * np.sum(score**2)) / 4


def test_least_squares_gradient_is_its_derivative(band: Band) -> None:
    columns = true_columns(band) * 1.5
    gradient = OBJECTIVES["ls"].gradient(band, ColumnModel(columns, 0.0), np.arange(COUNT)).columns
    assert np.abs(gradient[0]).max() < 1e-6 * np.abs(gradient[1:]).max()
    rng = np.random.default_rng(3)
    for _ in range(3):
        direction = np.zeros_like(columns)
        direction[1:] = rng.normal(size=columns[1:].shape) * band.support.mean * 1e-3
        change = [_least_squares(band, columns + sign * direction) for sign in (1, -1)]
        expected = float(np.vdot(gradient, direction.astype(np.float64)))
        assert (change[0] - change[1]) / 2 == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["ml", "ls"])
def test_adam_finds_the_subspace(simulated, objective: str) -> None:
    from solvar.evaluation import Truth, evaluate
    from solvar.fitting.fit import fit
    from solvar.particles import read_particles

    folder = simulated(heterogeneity="gaussian", rank=2, snr=0.3)
    settings = FitSettings(rank=2, mask=folder / "mask.mrc", solver="adam", objective=objective)
    found = fit(read_particles(folder / "particles.star"), settings)
    assert evaluate(found, Truth.load(folder))["covariance"]["captured_variance"] > 0.8


@pytest.mark.parametrize("wrong", [{"objective": "ls"}, {"solver": "adam", "refine_pose": True}])
def test_settings_that_do_not_fit_together_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"solver (adam|em)"):
        FitSettings(**wrong)
