"""Images of tilt series are whitened by the noise of their own exposure."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from solvar.estimation import corners
from solvar.estimation.noise import NoiseModel, estimate_noise
from solvar.evaluation import Truth
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.particles import Exposures, ImageStack, ParticleSet, read_particles
from solvar.particles.exposure_order import NoiseGroups, exposure_numbers

BOX, PARTICLES, EACH = 32, 100, 4
COUNT = PARTICLES * EACH
EXPOSURE = np.arange(COUNT) % EACH


@pytest.fixture
def tilts(simulated: Callable[..., Path], tmp_path: Path) -> Callable[..., ParticleSet]:
    """Particles of four exposures each, whose noise has so many times its standard deviation."""
    plain = simulated(particles=COUNT, heterogeneity="rigid", snr=0.05)

    def make(factor: np.ndarray) -> ParticleSet:
        folder = tmp_path / "noisy"
        shutil.copytree(plain, folder)
        rng = np.random.default_rng(1)
        with mrcfile.open(folder / "particles.mrcs", "r+") as stack:
            level = stack.data[:, :4].std()
            more = level * np.sqrt(factor[EXPOSURE] ** 2 - 1)
            stack.data[:] += more[:, None, None] * rng.standard_normal(stack.data.shape)
        single = read_particles(folder / "particles.star")
        rotation, owner = single.poses.rotation, np.repeat(np.arange(PARTICLES), EACH)
        tilt = rotation[::EACH][owner].transpose(0, 2, 1) @ rotation
        ctf = replace(single.exposures.ctf, dose_per_angstrom2=1e-3 * EXPOSURE)
        series = replace(single.exposures, particle=owner, tilt=tilt, ctf=ctf)
        return replace(single.select(np.arange(0, COUNT, EACH)), exposures=series)

    return make


def _noise(particles: ParticleSet) -> NoiseModel:
    return estimate_noise(particles, ImageStack(particles), 0.75 * BOX, BOX // 2 + 1, 0)


def _one_group(exposures: Exposures, optics: object) -> NoiseGroups:
    return NoiseGroups(np.zeros_like(exposures.particle), np.zeros(1, int), np.zeros(1, int))


def test_exposures_have_their_own_noise_and_their_strength_stays(tilts, monkeypatch) -> None:
    factor = np.array([1.0, 1.0, 3.0, 5.0])
    particles = tilts(factor)
    found = _noise(particles)
    level = found.power[:, 4:].mean(axis=1)
    np.testing.assert_allclose(level / level[0], factor**2, rtol=0.05)
    assert found.normalisation is not None
    assert not found.normalisation.changes_strengths
    own = fit(particles, FitSettings(rank=1))
    assert len(own.noise_power) == EACH
    monkeypatch.setattr(NoiseGroups, "of", _one_group)
    alike = replace(particles)
    assert _noise(alike).normalisation.changes_strengths
    shared = fit(alike, FitSettings(rank=1))
    truth = Truth.load(particles.source.parent).mean
    fsc = [
        fourier_shell_correlation(each.model.mean, truth * each.model.mask, BOX // 2)[4:].mean()
        for each in (own, shared)
    ]
    assert fsc[0] > fsc[1] + 0.02


def test_an_exposure_of_few_images_borrows_from_the_others(tilts) -> None:
    particles = tilts(np.ones(EACH))
    # three particles alone were exposed to the end
    kept = np.flatnonzero((EXPOSURE < EACH - 1) | (np.arange(COUNT) < 3 * EACH))
    particles = replace(particles, exposures=particles.exposures.rows(kept))
    power = _noise(particles).power[:, 2:]
    np.testing.assert_allclose(power[-1] / power[:-1].mean(axis=0), 1, atol=0.12)


def test_images_of_exposures_are_looked_at_in_one_pass(tilts) -> None:
    particles, seen = tilts(np.ones(EACH)), []
    stack = ImageStack(particles)

    class Recorded:
        box_size = BOX

        def read(self, index: np.ndarray) -> np.ndarray:
            seen.extend(index)
            return stack.read(index)

    alone = np.flatnonzero(EXPOSURE == 1)
    estimate_noise(particles, Recorded(), 0.75 * BOX, BOX // 2 + 1, 0)
    assert seen == sorted(set(seen)) and len(np.intersect1d(seen, alone)) == PARTICLES


def test_strengths_within_exposures_are_told_by_all_of_them(tilts, monkeypatch) -> None:
    """Of 25 images each, whose levels differ: no exposure alone would tell."""
    monkeypatch.setattr(corners, "_SAMPLE_OF_ALL", 100)
    monkeypatch.setattr(corners, "_SAMPLE_OF_EXPOSURE", 25)
    particles = tilts(np.array([1.0, 1.0, 3.0, 5.0]))
    assert not _noise(particles).normalisation.changes_strengths
    strength = np.exp(0.3 * np.random.default_rng(2).standard_normal(COUNT))
    with mrcfile.open(particles.stacks[0], "r+") as stack:
        stack.data[:] *= strength[:, None, None]
    found = _noise(particles).normalisation
    assert {each.trust for each in found.strength} != {0.0}
    assert [each.spread for each in found.strength] == pytest.approx([0.3] * EACH, rel=0.3)
    level = np.array([each.level for each in found.strength])
    np.testing.assert_allclose(level / level[0], [1, 1, 3, 5], rtol=0.25)


def test_exposures_are_numbered_by_dose_in_their_series() -> None:
    dose = np.array([6.0, 2.0, 4.0, 8.0, 5.0, 3.0])
    found = exposure_numbers(np.array([0, 0, 0, 1, 1, 2]), dose, None)
    assert found is not None and found.tolist() == [2, 0, 1, 1, 0, 0]
    assert exposure_numbers(np.array([0, 1]), None, None) is None
    # particle 1 is hidden in the first exposure of the tomogram that it shares with particle 0
    dose, image = np.array([2.0, 4.0, 6.0, 4.0, 6.0, 9.0]), np.array([7, 3, 5, 3, 5, 1])
    found = exposure_numbers(np.array([0, 0, 0, 1, 1, 2]), dose, image)
    assert found is not None and found.tolist() == [0, 1, 2, 1, 2, 0]


def test_optics_groups_of_equal_constants_share_their_noise(tilts) -> None:
    particles = tilts(np.ones(EACH))
    two = particles.optics.take(np.array([0, 0, 0]))
    two = replace(two, pixel_size_angstrom=two.pixel_size_angstrom * [1, 1, 2])
    groups = replace(particles.exposures, optics_group=np.arange(COUNT) // EACH % 3)
    found = NoiseGroups.of(groups, two)
    assert len(found) == 2 * EACH and found.optics.tolist() == [0, 2] * EACH
    np.testing.assert_array_equal(found.exposure[found.of_image], EXPOSURE)
    np.testing.assert_array_equal(found.optics[found.of_image] == 2, groups.optics_group == 2)
    # single particles keep their optics groups
    alone = replace(groups, tilt=None)
    assert NoiseGroups.of(alone, two).of_image is alone.optics_group
