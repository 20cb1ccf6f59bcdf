"""The error of mean and eigenvolumes in the error bars of the latents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from solvar.evaluation import Truth, calibration_chi2, evaluate, latents_in_basis
from solvar.fitting import final
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate

RANK = 3


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Few particles that are seen well: what is wrong with the model shows."""
    folder = tmp_path_factory.mktemp("few") / "set"
    settings = SimulationSettings(
        particles=250, snr=0.5, box_size=24, pixel_size=8.0, heterogeneity="gaussian", seed=5
    )
    simulate(settings).write(folder)
    yield folder


def test_error_of_the_model_makes_error_bars_honest(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[np.ndarray] = []
    original = final.latent_error

    def heard(*given: Any) -> np.ndarray:
        told.append(original(*given))
        return told[-1]

    monkeypatch.setattr(final, "latent_error", heard)
    found = fit(read_particles(few / "particles.star"), FitSettings(rank=RANK))
    (error,) = told
    # symmetric, and of every direction
    np.testing.assert_allclose(error, error.T, rtol=1e-9)
    assert (np.linalg.eigvalsh(error) > 0).all()
    honest = _calibration(found, few)
    covariance = np.linalg.inv(found.posterior.precision)
    without = covariance - error
    assert (np.linalg.eigvalsh(without) > 0).all()
    z = found.posterior.z
    true_z = _true_latents(found, few)
    narrow = calibration_chi2(z, true_z, np.linalg.inv(without))
    assert narrow > 1.15
    assert abs(honest - 1) < 0.6 * (narrow - 1)


def test_without_half_sets_nothing_is_told_of_the_model(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> np.ndarray:
        raise AssertionError("there are no two models")

    monkeypatch.setattr(final, "latent_error", refused)
    settings = FitSettings(rank=RANK, halfsets=False)
    found = fit(read_particles(few / "particles.star"), settings)
    assert np.isfinite(found.posterior.precision).all()


def _calibration(found: Fit, folder: Path) -> float:
    return float(evaluate(found, Truth.load(folder))["latents"]["calibration_chi2"])


def _true_latents(found: Fit, folder: Path) -> np.ndarray:
    truth, model = Truth.load(folder), found.model
    assert truth.latent is not None and truth.eigenvolumes is not None and truth.mean is not None
    return latents_in_basis(
        truth.latent[:, : len(truth.eigenvolumes)],
        truth.eigenvolumes,
        model.eigenvolumes,
        truth.mean - model.mean,
    )
