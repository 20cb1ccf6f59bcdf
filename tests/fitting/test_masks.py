"""Where volumes of a fit live: a mask of its own, and focus masks."""

import numpy as np
import pytest

from solvar.fitting.fit import fit
from solvar.fitting.own_mask import mask_words
from solvar.fitting.settings import FitSettings
from solvar.fitting.start import load_mask
from solvar.imaging.masks import default_mask, soft_sphere
from solvar.job import run_job
from solvar.particles import ImageStack, read_particles
from solvar.results.run import Run
from solvar.volume_file import read_volume, write_volume

BOX, PIXEL = 24, 8.0


@pytest.fixture(scope="module")
def particles(tiny_stack):
    return read_particles(tiny_stack / "particles.star")


def test_without_a_mask_a_fit_makes_one_that_holds_the_molecule(particles, tiny_stack):
    found = fit(particles, FitSettings(rank=1))
    true = read_volume(tiny_stack / "gt_mean.mrc")[0]
    mask = found.model.mask
    assert np.sum(mask * true**2) > 0.98 * np.sum(true**2)
    assert mask.sum() < 0.8 * default_mask(BOX, PIXEL).sum()
    assert "made from the half-maps" in mask_words(found.settings, mask, PIXEL)
    assert np.abs(found.model.eigenvolumes[:, mask == 0]).max() == 0


def test_a_sphere_is_taken_on_request(particles):
    found = fit(particles, FitSettings(rank=1, mask_diameter=120.0))
    np.testing.assert_array_equal(found.model.mask, default_mask(BOX, PIXEL, 120.0))
    told = mask_words(found.settings, found.model.mask, PIXEL)
    assert "a sphere of" in told and "stands out" not in told


def test_a_sphere_is_taken_where_nothing_stands_out(particles, monkeypatch):
    monkeypatch.setattr("solvar.fitting.own_mask.density_mask", lambda *_: None)
    found = fit(particles, FitSettings(rank=1))
    np.testing.assert_array_equal(found.model.mask, default_mask(BOX, PIXEL))
    assert "nothing stands out" in mask_words(found.settings, found.model.mask, PIXEL)


def test_components_live_in_the_focus_and_the_mean_in_the_whole(particles, tmp_path):
    whole, focus = soft_sphere(BOX, 18), np.roll(soft_sphere(BOX, 8), 5, axis=2)
    paths = []
    for name, mask in (("focus", focus), ("other", np.roll(focus, -10, axis=2))):
        paths.append(tmp_path / f"{name}.mrc")
        write_volume(paths[-1], mask, PIXEL)
    write_volume(tmp_path / "mask.mrc", whole, PIXEL)
    settings = FitSettings(rank=1, mask=tmp_path / "mask.mrc", focus_mask=paths)
    run_job(particles, settings, tmp_path / "run")
    run = Run(tmp_path / "run")
    both = read_volume(run.folder / "focus_mask.mrc")[0]
    assert both[12, 12, 17] == both[12, 12, 7] == pytest.approx(1, abs=0.01)
    assert np.abs(run.model.eigenvolumes[0][both == 0]).max() == 0
    assert np.abs(run.model.mean[both == 0]).max() > 0
    # what the focus adds belongs to the whole
    np.testing.assert_allclose(run.model.mask, np.maximum(whole, both), atol=1e-5)
    # noise is measured outside of both, by whoever reads the images again
    stack = ImageStack(particles)
    np.testing.assert_allclose(load_mask(settings, stack), run.model.mask, atol=1e-5)
    wider = FitSettings(rank=1, mask_diameter=60.0, focus_mask=paths)
    assert "a sphere of" in mask_words(wider, load_mask(wider, stack), PIXEL)
    named = [entry["path"] for entry in run.record["inputs"]]
    assert all(str(path) in named for path in paths)
