"""The published way: Adam, and least squares of the covariance."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from solvar.estimation.level import Level
from solvar.estimation.objectives import OBJECTIVES
from solvar.estimation.settings import FitSettings
from toy_level import COUNT, all_images, make_level, true_columns


@pytest.fixture(scope="module")
def level() -> Level:
    return make_level()


def _least_squares(level: Level, columns: np.ndarray) -> float:
    """¼ Σ ‖(y - s)(y - s)ᵀ - E Eᵀ - I‖² without what does not depend on E, from slices."""
    images = all_images(level)
    prepared = level.projector.prepare(columns)
    slices = level.projector.project(prepared, images.rotation, images.ctf)
    e = slices[:, 1:].view(np.float32).astype(np.float64)
    y = (images.data - slices[:, 0]).view(np.float32).astype(np.float64)
    gram = e @ e.transpose(0, 2, 1)
    score = np.einsum("brn,bn->br", e, y)
    fit = np.einsum("brs,brs->", gram, gram) + 2 * np.einsum("brr->", gram)
    return float(fit - 2 * np.sum(score**2)) / 4


def test_least_squares_gradient_is_its_derivative(level: Level) -> None:
    columns = true_columns(level) * 1.5
    gradient = OBJECTIVES["ls"].gradient(level, columns, np.arange(COUNT), 0.0, None).columns
    assert np.abs(gradient[0]).max() < 1e-6 * np.abs(gradient[1:]).max()
    rng = np.random.default_rng(3)
    for _ in range(3):
        direction = np.zeros_like(columns)
        direction[1:] = rng.normal(size=columns[1:].shape) * level.mask * 1e-3
        change = [_least_squares(level, columns + sign * direction) for sign in (1, -1)]
        expected = float(np.vdot(gradient, direction.astype(np.float64)))
        assert (change[0] - change[1]) / 2 == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("objective", ["ml", "ls"])
def test_adam_finds_the_subspace(simulated, objective: str) -> None:
    from solvar.estimation.fit import fit
    from solvar.evaluation import Truth, evaluate
    from solvar.particles import read_particles

    folder = simulated(heterogeneity="gaussian", rank=2, snr=0.3)
    settings = FitSettings(rank=2, mask=folder / "mask.mrc", solver="adam", objective=objective)
    found = fit(read_particles(folder / "particles.star"), settings)
    assert evaluate(found, Truth.load(folder))["covariance"]["captured_variance"] > 0.8


@pytest.mark.parametrize("wrong", [{"objective": "ls"}, {"solver": "adam", "refine_pose": True}])
def test_settings_that_do_not_fit_together_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"solver (adam|em)"):
        FitSettings(**wrong)
