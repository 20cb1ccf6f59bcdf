"""Contrasts of exposures of tilt series, where their file says them wrong, and where it says them right."""

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
from solvar.results.tilts import OwnTilts
from solvar.simulation import SimulationSettings, simulate
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


@pytest.fixture(scope="module", params=[1, 2, 3])
def wrong(request, tmp_path_factory) -> tuple[TiltSet, Fit]:
    """Particles whose file says contrasts wrong, and a fit that estimates them."""
    made = _series(tmp_path_factory.mktemp("wrong"), request.param, SD)
    return made, fit(made.given, ESTIMATED)


def test_contrasts_that_a_file_says_wrong_are_found_within_their_error(
    wrong: tuple[TiltSet, Fit],
) -> None:
    made, found = wrong
    contrasts = found.tilt_contrasts
    off = contrasts.value - made.contrast
    assert np.std(off) < 0.3 * np.std(made.contrast)
    assert 0.5 < np.mean((off / contrasts.error) ** 2) < 1.7
    assert contrasts.value.mean() == pytest.approx(1) and 0.2 < contrasts.spread < 0.4
    # what wrong contrasts do to error bars of latents: 2.5 and more
    assert _told(found, made)[1] < 1.6


def test_what_wrong_contrasts_cost_comes_back(tmp_path: Path) -> None:
    made = _series(tmp_path, 2, SD)
    lost, found = (_told(fit(made.given, settings), made) for settings in (KEPT, ESTIMATED))
    assert found[0] - lost[0] > 3e-3
    assert lost[1] > 1.5 * found[1]


def test_contrasts_that_a_file_says_right_stay_and_change_nothing(tmp_path: Path) -> None:
    made = _series(tmp_path, 1, 0.0)
    kept, found = fit(made.given, KEPT), fit(made.given, ESTIMATED)
    contrasts = found.tilt_contrasts
    assert np.abs(contrasts.value - 1).max() < 0.07 and contrasts.spread < 0.06
    assert np.mean(((contrasts.value - 1) / contrasts.error) ** 2) < 1
    # χ²/r of so few particles is known to 5 %
    np.testing.assert_allclose(_told(found, made), _told(kept, made), atol=0.02)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> ParticleSet:
    """Sixty particles of two tomograms, five tilts each, a row a tilt."""
    simulation = SimulationSettings(
        particles=60, box_size=16, pixel_size=12.0, snr=0.2, heterogeneity="discrete", states=2, seed=1,
        tilts=5, tilt_format="warp1",
    )  # fmt: skip
    return read_particles(simulate(simulation).write(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def found(small: ParticleSet) -> Fit:
    return fit(small, FitSettings(rank=1, tilt_contrast=True, halfsets=False))


def test_a_run_keeps_contrasts_and_reads_images_with_them(
    small: ParticleSet, found: Fit, tmp_path: Path
) -> None:
    run = written(tmp_path / "run", found)
    contrast = found.particles.exposures.contrast
    assert contrast.std() > 0
    np.testing.assert_array_equal(particles_of(run).exposures.contrast, contrast)
    told = run.record["result"]["tilt_contrast"]
    assert told["sd"] == pytest.approx(found.tilt_contrasts.value.std())
    assert ("contrast of exposures, sd", f"{told['sd']:.2f}") in facts(run)
    with h5py.File(run.folder / "particles.h5") as file:
        error = file["image_contrast_error"][:]
    np.testing.assert_array_equal(error, found.tilt_contrasts.error[small.exposures.tilt_image])
    # other programs get the scales of the file
    back = read_particles(run.folder / "particles.star").exposures
    np.testing.assert_array_equal(back.ctf.scale, small.exposures.ctf.scale)
    # images that a run left out keep what their file says
    own = OwnTilts(np.array([1, 2]), contrast=np.array([0.5, 0.7, 0.9]))
    images = small.exposures.of(np.array([0, 1]))
    used = np.isin(np.arange(len(images)), [0, 5, 6])
    given = own.of(np.array([0, 1])).given_to(images, used).contrast
    np.testing.assert_array_equal(given[used], [0.5, 0.7, 0.9])
    assert (given[~used] == 1).all()


@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_contrasts_that_are_none_are_refused(found: Fit, tmp_path: Path, wrong: float) -> None:
    run = written(tmp_path / "run", found)
    with h5py.File(run.folder / "particles.h5", "r+") as file:
        file["image_contrast"][7] = wrong
    with pytest.raises(InputError, match="image_contrast"):
        particles_of(Run(run.folder))


@pytest.mark.parametrize("premultiplied", [False, True])
def test_contrast_is_of_the_molecule_and_not_of_the_noise(
    small: ParticleSet, premultiplied: bool
) -> None:
    """Also of images that were multiplied by the CTF of their file, which did not know it."""
    optics = replace(small.optics, premultiplied=np.array([premultiplied]))
    particles = replace(small, optics=optics)
    contrast = np.random.default_rng(0).uniform(0.5, 1.5, len(small.exposures))
    stronger = replace(particles, exposures=replace(particles.exposures, contrast=contrast))
    plain, strong = (
        images.batch(np.arange(len(small)), images.disc)
        for images in (read_images(particles), read_images(stronger))
    )
    factor = contrast.astype(np.float32)[plain.row, None]
    np.testing.assert_array_equal(strong.data, plain.data)
    np.testing.assert_allclose(strong.ctf, factor * plain.ctf, rtol=1e-6)


def test_what_particles_of_a_tilt_series_have_in_common_is_that_of_its_exposures() -> None:
    """Two series of two exposures and one that nobody saw."""
    series, particles = np.array([0, 0, 1, 1, 2]), np.array([10.0, 10, 10, 10, 0])
    true = np.array([1.0, 2.0, 3.0, 4.0, 1.0])
    power = 1e4 * (particles > 0)
    # the particles of the second series have taken a half of its strength for theirs
    mean = np.array([1.0, 1.0, 1.5, 1.5, 0.0])
    told = ToldOfContrasts(
        power * true / mean.clip(1),
        power,
        particles,
        particles * mean,
        particles * (mean**2 + 0.04),
    )
    found = TiltContrasts.none(5).renewed(told, series)
    np.testing.assert_allclose(found.value[:4] / found.value[0], true[:4], rtol=0.02)
    assert found.value[:4].mean() == pytest.approx(1)
    error = found.value[:2] * np.hypot(0.2 / np.sqrt(10), 0.01 / true[:2])
    np.testing.assert_allclose(found.error[:2], error, rtol=0.05)
    assert found.error[4] == pytest.approx(found.spread)


def test_exposures_that_tell_little_are_drawn_to_the_others() -> None:
    power = np.array([1e4, 1e4, 1e4, 1.0])
    told = ToldOfContrasts(power * [1.0, 1.1, 0.9, 3.0], power, *np.full((3, 4), 50.0))
    found = TiltContrasts.none(4).renewed(told, np.zeros(4, np.int64))
    assert abs(found.value[3] - 1) < 0.2
    assert found.error[3] > 5 * found.error[0]


def test_images_whose_exposures_nobody_tells_are_refused(tiny_stack, small: ParticleSet) -> None:
    unknown = replace(small, exposures=replace(small.exposures, tilt_image=None))
    for particles in (read_particles(tiny_stack / "particles.star"), unknown):
        with pytest.raises(
            InputError, match="does not say which images were cut from one exposure"
        ):
            fit(particles, ESTIMATED)
