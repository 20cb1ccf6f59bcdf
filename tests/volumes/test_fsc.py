"""Half-map FSC: corrected for the mask, and not misled by the choice of particles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from solvar.fitting.settings import FitSettings
from solvar.imaging.fsc import (
    fourier_shell_correlation,
    half_map_fsc,
    shared_detail,
    shell_freedom,
    with_random_phases,
)
from solvar.imaging.masks import soft_sphere
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate
from solvar.volumes import VolumeSettings, along_component, reconstruct

BOX = 48


def noise(seed: int, box: int = BOX) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((box,) * 3).astype(np.float32)


def blob_halves(level: float) -> np.ndarray:
    """Two halves of a molecule without detail beyond shell 8, with independent white noise."""
    molecule = gaussian_filter(noise(0), 2.5) * soft_sphere(BOX, 24)
    molecule /= molecule.std()
    return np.stack([molecule + level * noise(seed) for seed in (1, 2)])


def test_random_phases_keep_amplitudes_and_the_shells_below() -> None:
    volume = noise(3)
    random = with_random_phases(volume, 10, np.random.default_rng(0))
    np.testing.assert_allclose(
        np.abs(np.fft.rfftn(random)), np.abs(np.fft.rfftn(volume)), rtol=1e-3, atol=0.05
    )
    agreement = fourier_shell_correlation(volume, random, BOX // 2 + 1)
    np.testing.assert_allclose(agreement[:10], 1, atol=1e-5)
    assert np.abs(agreement[11:]).max() < 0.15


def test_a_sharp_mask_does_not_make_resolution() -> None:
    # a hard edge that both halves share puts agreement into all shells; the molecule has none there
    halves = blob_halves(1.0) + 4.0
    hard = (soft_sphere(BOX, 24) > 0.5).astype(np.float32)
    found = half_map_fsc(halves, hard, BOX // 2 + 1)
    assert found.first_random is not None
    beyond = slice(found.first_random + 4, None)
    assert found.masked[beyond].mean() > found.unmasked[beyond].mean() + 0.1
    assert found.corrected[beyond].mean() < 0.5 * found.masked[beyond].mean()


def test_a_soft_mask_needs_hardly_any_correction() -> None:
    found = half_map_fsc(blob_halves(2.0), soft_sphere(BOX, 30), BOX // 2 + 1)
    assert found.first_random is not None
    np.testing.assert_allclose(found.corrected, found.masked, atol=0.1)
    assert 40 / 16 < found.resolution(40.0) < 40 / 10


def test_halves_that_always_agree_are_not_corrected() -> None:
    found = half_map_fsc(np.stack([noise(1), noise(1)]), soft_sphere(BOX, 30), BOX // 2)
    assert found.first_random is None
    np.testing.assert_array_equal(found.corrected, found.masked)
    assert found.resolution(BOX) == pytest.approx(BOX / (BOX // 2 - 1))


@pytest.mark.parametrize("seed", range(4))
def test_agreement_by_chance_in_a_tight_mask_is_no_resolution(seed: int) -> None:
    halves = np.stack([noise(10 + seed), noise(20 + seed)])
    assert half_map_fsc(halves, soft_sphere(BOX, 16), BOX // 2).resolution(BOX) == np.inf


@pytest.fixture(scope="module")
def run_on_noise(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("noise")
    settings = SimulationSettings(
        heterogeneity="rigid", box_size=32, pixel_size=5.0, particles=1200, snr=1e-9, seed=3
    )
    simulate(settings).write(folder)
    particles = read_particles(folder / "particles.star")
    # without a particle the run would stop at once
    settings = FitSettings(rank=2, mask=folder / "mask.mrc", force=True)
    run_job(particles, settings, folder / "run")
    return Run(folder / "run")


@pytest.mark.parametrize("method", ["kernel", "subset"])
def test_particles_of_pure_noise_have_no_resolution(
    run_on_noise: Run, tmp_path: Path, method: str
) -> None:
    targets = along_component(run_on_noise, 1, 3)
    records = reconstruct(run_on_noise, targets, tmp_path, VolumeSettings(method=method))
    freedom = shell_freedom(run_on_noise.model.mask, len(records[0]["fsc"]["corrected"]))[3:]
    for record in records:
        assert record["resolution_angstrom"] is None
        # a shell's correlation has the variance 1/freedom by chance
        agreement = freedom @ record["fsc"]["corrected"][3:] / np.sqrt(freedom.sum())
        assert agreement < 3
    # those chosen at either end agree without any signal: they were chosen for what both halves show
    for end in (records[0], records[-1]):
        assert np.mean(end["fsc"]["half_maps"][3:]) > 0.1


def test_detail_is_read_where_agreement_ends_wherever_it_begins() -> None:
    freedom = 4.0 * np.arange(21.0) ** 2 + 1
    curve = np.where(np.arange(21) < 3, -0.2, np.where(np.arange(21) < 12, 0.8, 0.0))
    found = shared_detail(curve, freedom, 200.0)
    assert 200 / 12 < found.resolution < 200 / 11
    assert found.finest <= found.resolution <= found.coarsest


def test_a_weak_first_shell_does_not_widen_the_error_of_a_resolution() -> None:
    freedom = np.arange(24.0) ** 2 / 2 + 0.5
    curve = np.concatenate([[1.0, 0.6], np.full(10, 0.9), np.linspace(0.8, 0.0, 12)])
    found = shared_detail(curve, freedom, 200.0)
    assert found.finest < found.resolution < found.coarsest < 1.1 * found.resolution


def test_agreement_by_chance_is_no_detail() -> None:
    freedom = np.arange(21.0) + 1
    rng = np.random.default_rng(0)
    curves = rng.standard_normal((300, 21)) / np.sqrt(freedom)
    found = [shared_detail(curve, freedom, 200.0).resolution for curve in np.clip(curves, -1, 1)]
    assert np.isfinite(found).mean() < 0.05
