"""The contrast of each exposure of a tilt series, where the file says it wrong, and where it says it right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from solvar.errors import InputError
from solvar.estimation.tilt_contrast import TiltContrasts, ToldOfContrasts
from solvar.evaluation import evaluate
from solvar.fitting.fit import fit
from solvar.fitting.images import read_images
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import ParticleSet, read_particles
from solvar.report.html.tables import facts
from solvar.results.run import Run
from solvar.simulation import SimulationSettings
from solvar.volumes.source import particles_of
from tilt_set import Errors, TiltSet, tilt_set
from written import written

KEPT, ESTIMATED = FitSettings(rank=2), FitSettings(rank=2, tilt_contrast=True)
SD = 0.3


def _series(folder: Path, seed: int, sd: float) -> TiltSet:
    """A hundred and twenty particles of five tomograms, seven tilts each."""
    simulation = SimulationSettings(
        particles=120, box_size=24, pixel_size=8.0, snr=0.1, heterogeneity="gaussian", rank=2, seed=seed,
        tilts=7,
    )  # fmt: skip
    return tilt_set(folder, simulation, Errors(contrast_sd=sd))


def _told(found: Fit, made: TiltSet) -> tuple[float, float]:
    """Captured variance, and χ² a latent."""
    told = evaluate(found, made.truth)
    return told["covariance"]["captured_variance"], told["latents"]["calibration_chi2"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_contrasts_that_a_file_says_wrong_are_found_within_their_error_and_cost_nothing_any_more(
    tmp_path: Path, seed: int
) -> None:
    made = _series(tmp_path, seed, SD)
    found = fit(made.given, ESTIMATED)
    contrasts = found.tilt_contrasts
    off = contrasts.value - made.contrast
    print(np.std(off) / np.std(made.contrast), np.mean((off / contrasts.error) ** 2), contrasts.spread)
    best, lost, again = (_told(each, made) for each in (fit(made.right, KEPT), fit(made.given, KEPT), found))
    print(best, lost, again)


def test_contrasts_that_a_file_says_right_stay_and_change_nothing(tmp_path: Path) -> None:
    made = _series(tmp_path, 1, 0.0)
    kept, found = fit(made.given, KEPT), fit(made.given, ESTIMATED)
    off = found.tilt_contrasts.value - 1
    print(np.abs(off).max(), found.tilt_contrasts.spread, _told(kept, made), _told(found, made))
