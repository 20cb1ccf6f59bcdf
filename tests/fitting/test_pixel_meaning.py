"""Stacks whose pixels mean something else, and whose file says so, give what the ordinary stack gives."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from export.runs import make_run
from solvar.errors import InputError
from solvar.estimation.images import WhitenedImages
from solvar.estimation.noise import NoiseModel, estimate_noise
from solvar.estimation.pixels import MemoryPixels
from solvar.estimation.whitening import whiten
from solvar.export import export
from solvar.imaging.fourier import HalfDisc
from solvar.particles import ImageStack, ParticleSet, read_particles
from solvar.progress import SilentProgress
from solvar.simulation import SimulationSettings, simulate
from solvar.threads import ThreadTeam

BOX, COUNT = 32, 400
SIMULATED = {
    "particles": COUNT, "box_size": BOX, "pixel_size": 4.0, "snr": 0.1,
    "heterogeneity": "gaussian", "rank": 2, "seed": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    simulate(SimulationSettings(**SIMULATED)).write(folder)
    return folder


def _images(particles: ParticleSet, noise: NoiseModel | None = None) -> WhitenedImages:
    stack, disc = ImageStack(particles), HalfDisc.of_radius(BOX // 2 - 1)
    noise = noise or _noise(particles)
    with ThreadTeam(1) as team:
        return whiten(
            particles, stack, noise, disc, SilentProgress(), team,
            lambda own, pixels: MemoryPixels.empty(len(own), pixels),
        )  # fmt: skip


def _noise(particles: ParticleSet) -> NoiseModel:
    return estimate_noise(particles, ImageStack(particles), 0.5 * BOX, BOX // 2 + 1, 0)


def _cs(plain: Path, folder: Path) -> tuple[Path, np.ndarray]:
    """The ordinary set as a .cs with a copy of its stack, a tenth of it negated; which rows are."""
    particles = read_particles(plain / "particles.star")
    (path,) = export(make_run(folder / "made", particles), "cryosparc", folder / "cs").files
    table = np.load(path)
    negated = np.arange(COUNT) % 10 == 3
    with mrcfile.open(plain / "particles.mrcs") as stack, mrcfile.new(folder / "s.mrcs") as mixed:
        mixed.set_data(np.where(negated[:, None, None], -stack.data, stack.data))
        mixed.set_image_stack()
    sign = np.where(negated, -1, 1).astype(np.float32)
    path = folder / "particles.cs"
    values = {name: table[name] for name in table.dtype.names}
    values |= {"blob/path": np.array([str(folder / "s.mrcs").encode()] * COUNT), "blob/sign": sign}
    _save(path, values)
    return path, negated


def _save(path: Path, values: dict[str, np.ndarray]) -> None:
    table = np.empty(COUNT, [(n, v.dtype, v.shape[1:]) for n, v in values.items()])
    for name, column in values.items():
        table[name] = column
    with path.open("wb") as file:
        np.save(file, table)


def _with_signs(path: Path, signs: np.ndarray) -> Path:
    table = np.load(path)
    values = {name: table[name] for name in table.dtype.names} | {"blob/sign": signs}
    _save(path.with_name("other.cs"), values)
    return path.with_name("other.cs")


def test_images_of_both_signs_are_brought_to_one(plain, tmp_path):
    expected = _images(read_particles(plain / "particles.star")).store.pixels
    path, negated = _cs(plain, tmp_path)
    found = _images(read_particles(path)).store.pixels
    np.testing.assert_allclose(found.data, expected.data, atol=2e-4)
    alike = _with_signs(path, np.full(COUNT, -1, np.float32))
    ignored = _images(read_particles(alike)).store.pixels
    np.testing.assert_array_equal(ignored.data[negated], -found.data[negated])
    np.testing.assert_array_equal(ignored.data[~negated], found.data[~negated])


def test_one_sign_of_all_images_says_nothing(plain, tmp_path):
    path, _ = _cs(plain, tmp_path)
    digests = {
        read_particles(_with_signs(path, np.full(COUNT, sign, np.float32))).digest()
        for sign in (1, -1)
    }
    assert len(digests) == 1 and read_particles(path).digest() not in digests


def test_a_sign_that_is_none_is_refused(plain, tmp_path):
    path, _ = _cs(plain, tmp_path)
    with pytest.raises(InputError, match="row 8, column blob/sign: is 0, neither 1 nor -1"):
        read_particles(_with_signs(path, (np.arange(COUNT) != 7).astype(np.float32)))


def test_signs_survive_selections_run_folders_and_exports(plain, tmp_path):
    path, negated = _cs(plain, tmp_path)
    particles = read_particles(path)
    sign = np.where(negated, -1, 1)
    some = np.array([13, 0, 3])
    assert particles.select(some).exposures.sign.tolist() == [-1, 1, -1]
    assert read_particles(path, ind=some).exposures.sign.tolist() == [-1, 1, -1]
    run = make_run(tmp_path / "made2", particles)
    star = read_particles(tmp_path / "made2" / "run" / "particles.star")
    np.testing.assert_array_equal(star.exposures.sign, sign)
    (written,) = export(run, "cryosparc", tmp_path / "again").files
    np.testing.assert_array_equal(read_particles(written).exposures.sign, sign)
    (written,) = export(make_run(tmp_path / "made3", star), "cryosparc", tmp_path / "third").files
    np.testing.assert_array_equal(read_particles(written).exposures.sign, sign)
    for target, words in (("relion", "RELION cannot tell apart"), ("cryodrgn", "both signs")):
        with pytest.raises(InputError, match=words):
            export(run, target, tmp_path / target)
