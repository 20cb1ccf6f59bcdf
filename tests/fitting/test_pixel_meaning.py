"""Stacks whose pixels mean something else, and whose file says so, give what the ordinary stack gives."""

from __future__ import annotations

from collections.abc import Callable
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
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc
from solvar.particles import ImageStack, ParticleSet, read_particles
from solvar.particles.star_blocks import read_blocks, write_blocks
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


def _told(plain: Path, folder: Path, change: Callable, column: str, rows: bool = False) -> Path:
    """The ordinary set with `change` of the CTF as a factor on its transforms, and a column of 1.

    Beside it, `ignored.star` does not say so.
    """
    particles = read_particles(plain / "particles.star")
    frequency = np.rint(np.fft.fftfreq(BOX, 1 / BOX)).astype(int)
    ky, kx = (axis.ravel() for axis in np.meshgrid(frequency, frequency, indexing="ij"))
    extent = BOX * particles.pixel_size_angstrom
    images = particles.exposures
    ctf = evaluate_ctf(kx, ky, extent, images.ctf, particles.optics, images.optics_group)
    factor = change(ctf).reshape(-1, BOX, BOX)
    with mrcfile.open(plain / "particles.mrcs") as stack:
        changed = np.fft.ifft2(np.fft.fft2(stack.data) * factor).real
    with mrcfile.new(folder / "particles.mrcs") as stack:
        stack.set_data(changed.astype(np.float32))
        stack.set_image_stack()
    blocks = read_blocks(plain / "particles.star", as_text=True)
    write_blocks(folder / "ignored.star", blocks)
    block = "particles" if rows else "optics"
    blocks[block] = blocks[block].assign(**{column: "1"})
    write_blocks(folder / "particles.star", blocks)
    return folder / "particles.star"


@pytest.mark.parametrize("rows", [False, True])
def test_flipped_phases_are_what_the_column_says(plain, tmp_path, rows):
    particles = read_particles(plain / "particles.star")
    noise = _noise(particles)
    expected = _images(particles, noise).store.pixels
    path = _told(plain, tmp_path, np.sign, "rlnCtfDataArePhaseFlipped", rows)
    found = _images(read_particles(path), noise).store.pixels
    np.testing.assert_array_equal(found.ctf, np.abs(expected.ctf))
    # the same likelihood: both sides of a residual have changed their sign
    wanted = expected.data * expected.ctf
    np.testing.assert_allclose(found.data * found.ctf, wanted, atol=1e-6)
    ignored = _images(read_particles(tmp_path / "ignored.star"), noise).store.pixels
    assert np.vdot(ignored.data * ignored.ctf, wanted).real < 0.5 * np.vdot(wanted, wanted).real
    np.testing.assert_allclose(_noise(read_particles(path)).power, noise.power, rtol=0.05)


def test_a_premultiplied_image_is_divided_and_its_noise_follows_the_ctf(plain, tmp_path):
    particles = read_particles(plain / "particles.star")
    noise = _noise(particles)
    expected = _images(particles, noise).store
    path = _told(plain, tmp_path, lambda c: c, "rlnCtfDataAreCtfPremultiplied")
    multiplied = read_particles(path)
    found = _images(multiplied, noise).store
    lost = found.pixels.ctf == 0
    assert 0.01 < lost.mean() < 0.1 and not found.pixels.data[lost].any()
    np.testing.assert_allclose(found.pixels.data[~lost], expected.pixels.data[~lost], atol=1e-3)
    np.testing.assert_allclose(found.pixels.ctf[~lost], expected.pixels.ctf[~lost], rtol=1e-6)
    np.testing.assert_allclose(found.ctf_power, expected.ctf_power, rtol=0.02, atol=1e-3)
    np.testing.assert_allclose(_noise(multiplied).power, noise.power, rtol=0.08)
    ignored = _noise(read_particles(tmp_path / "ignored.star"))
    assert np.median(ignored.power / noise.power) < 0.7


@pytest.mark.parametrize(
    ("change", "column"),
    [
        pytest.param(np.sign, "rlnCtfDataArePhaseFlipped", marks=pytest.mark.slow),
        (lambda c: c, "rlnCtfDataAreCtfPremultiplied"),
    ],
)
def test_a_fit_of_changed_images_is_that_of_the_ordinary_ones(plain, tmp_path, change, column):
    path = _told(plain, tmp_path, change, column)
    settings = FitSettings(rank=2, mask=plain / "mask.mrc")
    expected, told, ignored = (
        fit(read_particles(p), settings)
        for p in (plain / "particles.star", path, tmp_path / "ignored.star")
    )
    assert _likeness(told, expected) > 0.99
    assert _likeness(ignored, expected) < 0.9
    np.testing.assert_allclose(told.model.eigenvalues, expected.model.eigenvalues, rtol=0.1)


def _likeness(found: Fit, wanted: Fit) -> float:
    """The least of the correlation of the means and the cosines between the columns' subspaces."""
    ours, theirs = (each.model.eigenvolumes.reshape(2, -1) for each in (found, wanted))
    means = np.corrcoef(found.model.mean.ravel(), wanted.model.mean.ravel())[0, 1]
    return min(means, np.linalg.svd(ours @ theirs.T)[1].min())


def test_premultiplied_images_may_have_been_flipped_before(plain, tmp_path):
    path = _told(plain, tmp_path, lambda c: c, "rlnCtfDataAreCtfPremultiplied")
    once = _images(read_particles(path)).store.pixels
    blocks = read_blocks(path, as_text=True)
    blocks["optics"] = blocks["optics"].assign(rlnCtfDataArePhaseFlipped="1")
    write_blocks(tmp_path / "both.star", blocks)
    both = _images(read_particles(tmp_path / "both.star")).store.pixels
    np.testing.assert_array_equal(both.data * both.ctf, once.data * once.ctf)
    np.testing.assert_array_equal(both.ctf**2, once.ctf**2)


def test_one_group_may_be_multiplied_and_another_not(plain, tmp_path):
    path = _told(plain, tmp_path, lambda c: c, "rlnCtfDataAreCtfPremultiplied")
    blocks = read_blocks(path, as_text=True)
    table, optics = blocks["particles"], blocks["optics"].iloc[[0, 0]].reset_index(drop=True)
    optics = optics.assign(rlnOpticsGroup=["1", "2"], rlnOpticsGroupName=["multiplied", "plain"])
    optics["rlnCtfDataAreCtfPremultiplied"] = ["1", "0"]
    first = np.arange(COUNT) < COUNT // 2
    plainly = str(plain / "particles.mrcs")
    names = [f"{i + 1:06d}@{'particles.mrcs' if f else plainly}" for i, f in enumerate(first)]
    table = table.assign(rlnImageName=names, rlnOpticsGroup=np.where(first, "1", "2"))
    write_blocks(tmp_path / "both.star", {**blocks, "optics": optics, "particles": table})
    particles = read_particles(tmp_path / "both.star")
    power = _noise(particles).power
    np.testing.assert_allclose(power[0], power[1], rtol=0.15)
    noise = NoiseModel(np.repeat(power[1:], 2, axis=0))
    found = _images(particles, noise).store.pixels
    expected = _images(read_particles(plain / "particles.star"), NoiseModel(power[1:])).store.pixels
    np.testing.assert_array_equal(found.data[~first], expected.data[~first])
    kept = found.ctf[first] != 0
    np.testing.assert_allclose(found.data[first][kept], expected.data[first][kept], atol=1e-3)
