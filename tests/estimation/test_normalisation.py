"""Images are freed from what they differ in outside the particle, and from nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from solvar.estimation.noise import NoiseModel, estimate_noise
from solvar.estimation.normalisation import Normalisation
from solvar.parallel import OneProcess
from solvar.particles import ImageStack, ParticleSet, read_particles

BOX, COUNT = 32, 400
Y, X = (np.mgrid[:BOX, :BOX] - BOX // 2) / (BOX / 2)


def _random(scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((COUNT, 1, 1))


def _few(value: float, usual: float) -> np.ndarray:
    return np.where(np.arange(COUNT) % 50 == 7, value, usual)[:, None, None]


@pytest.fixture(scope="module")
def plain(simulated: Callable[..., Path]) -> Path:
    return simulated(particles=COUNT, heterogeneity="rigid", snr=0.05)


@pytest.fixture
def changed(plain: Path, tmp_path: Path) -> Callable[[Callable], ParticleSet]:
    """A function that changes the images (N, L, L) of the plain set and reads it again."""

    def change(function: Callable[[np.ndarray], np.ndarray]) -> ParticleSet:
        folder = tmp_path / "changed"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(plain, folder)
        with mrcfile.open(folder / "particles.mrcs", "r+") as stack:
            stack.data[:] = function(stack.data.astype(np.float64))
        return read_particles(folder / "particles.star")

    return change


def _noise(particles: ParticleSet, processes: OneProcess | None = None) -> NoiseModel:
    stack = ImageStack(particles)
    return estimate_noise(particles, stack, 0.75 * BOX, BOX // 2 + 1, 0, processes)


def _freed(particles: ParticleSet) -> tuple[np.ndarray, Normalisation]:
    found = _noise(particles).normalisation
    assert found is not None
    images = ImageStack(particles).read(np.arange(COUNT))
    found.apply(images, particles.exposures.optics_group)
    return images, found


def test_not_a_pixel_of_normalised_images_changes(plain: Path) -> None:
    particles = read_particles(plain / "particles.star")
    images, found = _freed(particles)
    np.testing.assert_array_equal(images, ImageStack(particles).read(np.arange(COUNT)))
    assert found.is_nothing() and found.sentence() is None


RAW = {
    "offset of all": lambda im: im + 10,
    "offset": lambda im: im + _random(0.5),
    "slopes": lambda im: im + _random(0.7) * X + _random(0.7, 1) * Y,
    "vignette": lambda im: im - 1.5 * np.abs(_random()) * (X**2 + Y**2),
    "counts": lambda im: 30 * im + 1000 + _random(50),
}


@pytest.mark.parametrize("name", RAW)
def test_backgrounds_are_taken_out_to_within_the_error_that_noise_gives_them(
    plain: Path, changed: Callable, name: str
) -> None:
    whole = ImageStack(read_particles(plain / "particles.star")).read(np.arange(COUNT))
    images, found = _freed(changed(RAW[name]))
    scale = 30 if name == "counts" else 1
    left = (images / scale - whole).reshape(COUNT, -1).std(axis=0, mean=0)
    error = np.einsum(
        "iyx,ij,jyx->yx", found.background.modes, found.slow[0].error, found.background.modes
    )
    assert np.all(left.reshape(BOX, BOX) < 1.25 * np.sqrt(error) / scale)
    assert "background" in found.sentence()


@pytest.mark.parametrize("name", RAW)
def test_the_noise_of_raw_images_is_that_of_normalised_ones(
    plain: Path, changed: Callable, name: str
) -> None:
    usual = _noise(read_particles(plain / "particles.star")).power[0]
    raw = _noise(changed(RAW[name])).power[0] / (900 if name == "counts" else 1)
    np.testing.assert_allclose(raw[3:], usual[3:], rtol=0.02)
    np.testing.assert_allclose(raw[:3], usual[:3], rtol=0.15)


@pytest.mark.parametrize(
    "strength",
    [
        np.where(np.arange(COUNT) % 2, 5.0, 1.0)[:, None, None],
        _few(0.1, 1.0),
        np.exp(_random(0.3)),
    ],
    ids=["half five times", "a few a tenth", "log-normal"],
)
def test_strengths_are_brought_to_one(plain: Path, changed: Callable, strength) -> None:
    whole = ImageStack(read_particles(plain / "particles.star")).read(np.arange(COUNT))
    images, _ = _freed(changed(lambda im: strength * im))
    ratio = (images * whole).sum(axis=(1, 2)) / (whole**2).sum(axis=(1, 2))
    # chance alone is 1/√(2 · pixels outside)
    assert np.std(ratio) / np.mean(ratio) < 0.05


@pytest.mark.parametrize("monstrous", [1000.0, 1e6])
def test_a_few_monstrous_images_change_no_other(
    plain: Path, changed: Callable, monstrous: float
) -> None:
    whole = ImageStack(read_particles(plain / "particles.star")).read(np.arange(COUNT))
    images, found = _freed(changed(lambda im: im * _few(monstrous, 1.0) + _few(monstrous, 0.0)))
    far = np.arange(COUNT) % 50 == 7
    np.testing.assert_array_equal(found.far, far)
    np.testing.assert_array_equal(images[~far], whole[~far])
    assert np.abs(images[far].std(axis=(1, 2)) / whole[far].std(axis=(1, 2)) - 1).max() < 0.2


def _grouped(particles: ParticleSet, group: np.ndarray) -> ParticleSet:
    count = int(group.max()) + 1
    optics = particles.optics
    values = {
        name: np.repeat(value, count, axis=0)
        for name, value in vars(optics).items()
        if isinstance(value, np.ndarray)
    }
    several = replace(optics, name=tuple(f"g{g}" for g in range(count)), **values)
    exposures = replace(particles.exposures, optics_group=group.astype(np.int64))
    return replace(particles, optics=several, exposures=exposures)


def test_groups_of_two_images_have_the_noise_of_all(plain: Path) -> None:
    particles = read_particles(plain / "particles.star")
    whole = _noise(particles).power[0]
    found = _noise(_grouped(particles, np.arange(COUNT) // 2))
    assert np.abs(found.power[:, 3:] / whole[3:] - 1).max() < 0.05


def test_groups_of_many_images_keep_their_own_noise_to_the_last_bit(plain: Path) -> None:
    particles = read_particles(plain / "particles.star")
    group = np.arange(COUNT) % 3
    found = _noise(_grouped(particles, group)).power
    # the sample of a group is drawn after those of the groups before it
    assert found.shape[0] == 3 and len(np.unique(found, axis=0)) == 3
    alone = _noise(particles.select(np.flatnonzero(group == 0))).power[0]
    np.testing.assert_array_equal(found[0], alone)


def test_an_offset_of_one_optics_group_leaves_the_others_alone(
    plain: Path, changed: Callable
) -> None:
    group = np.arange(COUNT) % 2
    particles = _grouped(changed(lambda im: im + 2 * group[:, None, None]), group)
    images, _ = _freed(particles)
    whole = ImageStack(read_particles(plain / "particles.star")).read(np.arange(COUNT))
    np.testing.assert_array_equal(images[::2], whole[::2])
    assert abs(np.mean(images[1::2] - whole[1::2])) < 0.02


def test_processes_that_share_the_reading_find_the_same(changed: Callable) -> None:
    particles = changed(lambda im: (im + _random(0.5)) * np.exp(_random(0.2, 1)))

    class Recorder(OneProcess):
        """One of two processes; the sums are those that the two made together."""

        def __init__(self, rank: int, sums: list[np.ndarray] | None = None) -> None:
            self.rank, self.size, self.own, self._sums = rank, 2, [], sums

        def sum(self, values: np.ndarray) -> np.ndarray:
            self.own.append(values.copy())
            return values if self._sums is None else self._sums[len(self.own) - 1]

    # the first of the sums that both take part in is known once both have made their shares
    known: list[np.ndarray] = []
    while True:
        shares = []
        for rank in (0, 1):
            one = Recorder(rank, known)
            try:
                result = _noise(particles, one)
            except IndexError:
                result = None
            shares.append(one.own)
        if result is not None:
            break
        known = [a + b for a, b in zip(*shares, strict=True)]
    np.testing.assert_allclose(result.power, _noise(particles).power, rtol=1e-6)
