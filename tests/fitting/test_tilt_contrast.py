"""The contrast of each exposure of a tilt series, where the file says it wrong, and where it says it right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.estimation.tilt_contrast import TiltContrasts, ToldOfContrasts
from solvar.evaluation import evaluate
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.job import run_job
from solvar.particles import ParticleSet, read_particles
from solvar.results import checkpoint
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate
from solvar.volumes.source import particles_of
from tilt_set import Tilting, tilt_set
from written import written

OPTION = FitSettings(rank=1, tilt_contrast=True)


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """Two hundred particles of four tomograms, nine tilts each."""
    folder = tmp_path_factory.mktemp("contrast") / "series"
    settings = SimulationSettings(
        particles=200, box_size=32, pixel_size=6.0, snr=0.05, tilts=9, tilt_format="relion5",
        heterogeneity="hinge-loop", seed=1,
    )  # fmt: skip
    simulate(settings).write(folder)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> ParticleSet:
    """Sixty particles, five tilts each."""
    settings = SimulationSettings(
        particles=60, box_size=16, pixel_size=12.0, snr=0.2, heterogeneity="discrete", states=2, seed=1
    )  # fmt: skip
    return tilt_set(tmp_path_factory.mktemp("small"), settings, Tilting(tilts=5, tomograms=2)).right


def _misjudged(particles: ParticleSet, number: np.ndarray) -> tuple[ParticleSet, np.ndarray]:
    """Particles whose exposures are said to have other strengths than they have, and by what (M,)."""
    factor = np.random.default_rng(0).uniform(0.7, 1.3, number.max() + 1)[number]
    exposures = particles.exposures.strengthened(1 / factor)
    return replace(particles, exposures=exposures), factor / factor.mean()


@pytest.mark.slow
def test_contrasts_that_a_file_says_wrong_are_found_and_their_loss_made_good(series: Path) -> None:
    right = read_particles(series / "optimisation_set.star")
    wrong, factor = _misjudged(right, right.exposures.tilt_image)
    plain, option = FitSettings(rank=2), FitSettings(rank=2, tilt_contrast=True)
    best, lost, found = (fit(*each) for each in ((right, plain), (wrong, plain), (wrong, option)))
    seen = found.tilt_contrast.factor
    assert np.corrcoef(seen, factor)[0, 1] > 0.95
    assert np.sqrt(np.mean((seen / factor - 1) ** 2)) < 0.05
    assert 0.12 < found.tilt_contrast.prior_sd < 0.25
    captured = [
        evaluate(each, series)["covariance"]["captured_variance"] for each in (best, lost, found)
    ]
    assert captured[0] - captured[1] > 1e-3
    assert captured[2] - captured[1] > 0.6 * (captured[0] - captured[1])


def test_contrasts_that_a_file_says_right_stay(series: Path) -> None:
    particles = read_particles(series / "optimisation_set.star")
    found = fit(particles, OPTION).tilt_contrast
    assert np.abs(found.factor - 1).max() < 0.03
    assert found.prior_sd < 0.02


def test_exposures_that_no_file_names_share_contrasts_by_the_order_of_dose(
    small: ParticleSet,
) -> None:
    order = small.exposures.ctf.dose_per_angstrom2.argsort(kind="stable").argsort() // 60
    unnamed = replace(
        small, exposures=replace(small.exposures, tilt_image=None, number=order.astype(np.int64))
    )
    wrong, factor = _misjudged(unnamed, order)
    seen = fit(wrong, OPTION).tilt_contrast.factor
    assert len(np.unique(seen)) == 5
    assert np.corrcoef(seen, factor)[0, 1] > 0.9


def test_a_run_keeps_contrasts_and_reads_images_with_them(
    small: ParticleSet, tmp_path: Path
) -> None:
    particles = read_particles(small.source)
    found = fit(particles, OPTION)
    run = written(tmp_path / "run", found)
    factor = found.tilt_contrast.factor
    assert factor.mean() == pytest.approx(1) and factor.std() > 0
    assert run.record["result"]["tilt_contrast"]["sd"] == pytest.approx(factor.std())
    scale = particles_of(run).exposures.ctf.scale
    np.testing.assert_allclose(scale, particles.exposures.ctf.scale * factor, rtol=1e-12)
    np.testing.assert_array_equal(scale, found.particles.exposures.ctf.scale)


class _Cut(Exception):
    """The lights go out."""


@pytest.mark.parametrize("poses", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_that_is_cut_again_and_again_ends_the_same(
    small: ParticleSet, tmp_path: Path, monkeypatch, poses: bool
) -> None:
    particles = read_particles(small.source)
    settings = OPTION.model_copy(update={"refine_pose": poses})
    monkeypatch.setattr("solvar.job.draw_figures", lambda run, own, progress: None)
    monkeypatch.setattr(checkpoint, "_SHARE", 1e9)  # keep every sweep
    whole = run_job(particles, settings, tmp_path / "whole")
    write, files = checkpoint.write_tree, 0

    def cut_after_two(path: Path, content: object, run_id: str) -> None:
        nonlocal files
        write(path, content, run_id)
        files += 1
        if files % 2 == 0:
            raise _Cut

    monkeypatch.setattr(checkpoint, "write_tree", cut_after_two)
    cuts, again = 0, None
    while again is None:
        try:
            again = run_job(particles, settings, tmp_path / "cut", resume=True)
        except _Cut:
            cuts += 1
    assert cuts >= 3
    for name in ("mean", "eigenvolumes", "eigenvalues"):
        np.testing.assert_array_equal(getattr(whole.model, name), getattr(again.model, name))
    np.testing.assert_array_equal(whole.posterior.z, again.posterior.z)
    np.testing.assert_array_equal(_contrasts(whole, particles), _contrasts(again, particles))


def _contrasts(run: Run, particles: ParticleSet) -> np.ndarray:
    found = run.with_own_contrasts(particles, np.arange(len(particles)))
    return found.exposures.ctf.scale


def test_a_common_factor_is_left_to_the_volumes_and_little_told_is_little_believed() -> None:
    power = np.array([1e4, 1e4, 1e4, 1.0, 0.0])
    told = ToldOfContrasts(power * np.array([1.0, 2.0, 3.0, 30.0, 0.0]), power)
    found, scale = TiltContrasts(np.ones(5)).renewed(told, np.full(5, 10))
    assert found.factor.mean() == pytest.approx(1)
    np.testing.assert_allclose(scale * found.factor[:3], [1, 2, 3], rtol=0.02)
    assert scale * found.factor[3] < 20
    # what was found once is found again from there
    told = ToldOfContrasts(
        found.factor * told.overlap * scale, (scale * found.factor) ** 2 * told.power
    )
    same, still = found.renewed(told, np.full(5, 10))
    assert still == pytest.approx(scale, rel=0.05)
    np.testing.assert_allclose(same.factor, found.factor, rtol=0.05)


def test_single_particles_and_exposures_that_nobody_tells_apart_are_refused(
    tiny_stack, small: ParticleSet
) -> None:
    unknown = replace(small, exposures=replace(small.exposures, tilt_image=None, number=None))
    for particles in (read_particles(tiny_stack / "particles.star"), unknown):
        with pytest.raises(InputError, match="is no tilt series, or does not say"):
            fit(particles, OPTION)
