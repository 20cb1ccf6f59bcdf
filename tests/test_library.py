"""The parts of the program by themselves: no run folder, no command."""

from __future__ import annotations

import numpy as np
import pytest

import solvar
from toy_band import K_C, make_band, true_columns


@pytest.fixture(scope="module")
def particles(tiny_stack):
    return solvar.read_particles(tiny_stack / "particles.star")


def test_a_fit_without_a_folder_writes_nothing_and_finds_the_same(particles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = solvar.FitSettings(rank=2, resolution=30, seed=3)
    found = solvar.fit(particles, settings)
    assert list(tmp_path.iterdir()) == []
    run = solvar.fit(particles, settings, "run")
    np.testing.assert_array_equal(found.model.eigenvolumes, run.model.eigenvolumes)
    np.testing.assert_array_equal(found.posterior.z, run.posterior.z)
    assert found.warnings == run.warnings


@pytest.mark.parametrize("wish", ["overwrite", "resume"])
def test_what_only_a_folder_can_have_is_refused_without_one(particles, wish):
    with pytest.raises(ValueError, match="need an output folder"):
        solvar.fit(particles, **{wish: True})


def test_read_images_are_white_where_there_is_next_to_no_signal(simulated):
    folder = simulated(particles=300, box_size=24, pixel_size=8.0, snr=0.01)
    particles = solvar.read_particles(folder / "particles.star")
    images = solvar.read_images(particles)
    assert images.disc.k_c == 11 and len(images) == 300
    batch = images.batch(np.arange(300), images.disc)
    for shell in range(2, 12):  # two real numbers of variance 1
        power = np.mean(np.abs(batch.data[:, images.disc.shell == shell]) ** 2)
        assert power == pytest.approx(2, rel=0.1)
    dark = solvar.read_images(particles, solvar.FitSettings(density="dark"))
    np.testing.assert_array_equal(dark.batch(batch.index, images.disc).data, -batch.data)


def test_a_band_of_images_alone_has_them_all_at_every_frequency(particles):
    images = solvar.read_images(particles, solvar.FitSettings(resolution=30))
    band = solvar.Band(images)
    assert band.k_c == images.disc.k_c == 6
    assert [len(batch) for batch in band.batches(size=300)] == [300, 100]


def test_log_likelihood_tells_the_model_that_drew_the_images():
    band = make_band()
    columns = true_columns(band)
    right = solvar.log_likelihood(band, solvar.ColumnModel(columns, 0.0))
    nothing = solvar.log_likelihood(band, solvar.ColumnModel(0 * columns, 0.0))
    wrong = solvar.log_likelihood(band, solvar.ColumnModel(columns[[1, 0, 2]], 0.0))
    np.testing.assert_allclose(nothing, 0, atol=1e-12)
    assert right.mean() > 0 and right.mean() > wrong.mean()
    some = np.array([5, 3, 100])
    np.testing.assert_allclose(
        solvar.log_likelihood(band, solvar.ColumnModel(columns, 0.0), some), right[some], rtol=1e-6
    )


def test_a_fitted_model_keeps_its_transform_on_the_grid_of_a_band():
    rng = np.random.default_rng(0)
    volumes = rng.normal(size=(3, 32, 32, 32)).astype(np.float32)
    eigenvalues = np.array([9.0, 4.0])
    model = solvar.LowRankModel(volumes[0], volumes[1:], eigenvalues, np.ones((32,) * 3), 1.0)
    columns = solvar.ColumnModel.of(model, 20).columns
    rotation = np.eye(3)[None]
    disc = solvar.HalfDisc.of_radius(K_C)
    wanted = solvar.project(volumes, rotation, K_C)[0].numpy() * np.array([[1], [3], [2]])
    found = solvar.project(columns, rotation, K_C)[0].numpy()
    # each is read off a lattice of its own
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    assert columns.shape == (3, 20, 20, 20) and len(disc) == found.shape[1] and error < 0.1
