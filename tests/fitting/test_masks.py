"""Where volumes of a fit live: a mask of its own, and focus masks."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

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


@pytest.fixture(scope="module")
def halves_of_a_ring(simulated, tmp_path_factory):
    """A ring of two subunits, each open or closed for itself, and masks of its two sides."""
    folder = simulated(
        symmetry="C2", heterogeneity="subunits", particles=800, box_size=24, pixel_size=8, snr=0.3
    )
    true = np.load(folder / "gt.npz")["state_coord"]
    axis = np.arange(BOX) - BOX // 2
    side = gaussian_filter(np.broadcast_to(axis > 0, (BOX,) * 3).astype(np.float32), 1)
    made = tmp_path_factory.mktemp("sides")
    for name, mask in (("right", side), ("left", 1 - side)):
        write_volume(made / f"{name}.mrc", mask, PIXEL)
    return folder, made, true


def test_components_of_each_focus_mask_tell_of_their_own_place(halves_of_a_ring, tmp_path):
    folder, made, true = halves_of_a_ring
    settings = FitSettings(focus_mask=[f"{made / 'right'}.mrc:1", f"{made / 'left'}.mrc:1"])
    assert settings.rank == 2
    run_job(read_particles(folder / "particles.star"), settings, tmp_path / "run")
    run = Run(tmp_path / "run")
    assert sorted(run.component_masks) == ["left", "right"]
    for j, name in enumerate(run.component_masks):
        outside = read_volume(made / f"{name}.mrc")[0] == 0
        assert np.abs(run.model.eigenvolumes[j][outside]).max() == 0
    told = abs(spearmanr(run.posterior.z, true).statistic[:2, 2:])
    own, other = told.max(axis=1), told.min(axis=1)
    assert sorted(told.argmax(axis=1)) == [0, 1]
    assert own.min() > 0.7
    assert other.max() < 0.12
    html = (run.folder / "report.html").read_text()
    assert f"Component 1, {run.component_masks[0]}" in html


@pytest.mark.parametrize("seed", [2, 5, 6, 7])
def test_no_component_is_given_up_while_it_grows(halves_of_a_ring, seed: int) -> None:
    """From these seeds held-out particles gained nothing in the second sweep, and one mask had nothing."""
    folder, made, true = halves_of_a_ring
    masks = [f"{made / 'right'}.mrc:1", f"{made / 'left'}.mrc:1"]
    found = fit(read_particles(folder / "particles.star"), FitSettings(focus_mask=masks, seed=seed))
    told = abs(spearmanr(found.posterior.z, true).statistic[:2, 2:])
    assert told.max(axis=1).min() > 0.7


def test_what_is_outside_the_focus_has_components_if_asked(halves_of_a_ring):
    folder, made, true = halves_of_a_ring
    particles = read_particles(folder / "particles.star")
    settings = FitSettings(rank=2, rest_rank=1, focus_mask=[made / "right.mrc"])
    found = fit(particles, settings)
    assert settings.block_names == ["right", "rest"]
    assert sorted(found.block) == [0, 1]
    side = read_volume(made / "right.mrc")[0]
    np.testing.assert_allclose(found.focus, side, atol=1e-5)
    rest = found.model.eigenvolumes[found.block.tolist().index(1)]
    assert np.abs(rest[side == 1]).max() < 1e-6
    told = abs(spearmanr(found.posterior.z, true).statistic[:2, 2:])
    assert sorted(told.argmax(axis=1)) == [0, 1]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"focus_mask": ["a.mrc:2", "b.mrc"]}, "every --focus-mask"),
        ({"focus_mask": ["a.mrc:0"]}, "one component or more"),
        ({"focus_mask": ["a.mrc"], "rank": 3, "rest_rank": 3}, "one component or more"),
        ({"focus_mask": ["a.mrc:2"], "rank": "auto"}, "--rank auto"),
        ({"rest_rank": 2}, "give --focus-mask"),
    ],
)
def test_numbers_of_components_that_do_not_fit_are_refused(given, complaint):
    with pytest.raises(ValueError, match=complaint):
        FitSettings(**given)


def test_settings_with_blocks_come_back_from_a_record():
    settings = FitSettings(focus_mask=["a/head.mrc:2", "stalk.mrc:1"], rest_rank=3)
    again = FitSettings.model_validate(settings.model_dump(mode="json"))
    assert again == settings
    assert again.rank == 6
    assert again.block_columns == (2, 1, 3)
    assert again.block_names == ["head", "stalk", "rest"]


def test_masks_of_the_same_name_are_told_apart():
    settings = FitSettings(focus_mask=["a/mask.mrc:1", "b/mask.mrc:1"])
    assert settings.block_names == ["a/mask.mrc", "b/mask.mrc"]


@pytest.mark.parametrize("paths", [True, 3, [3], {"a": 1}, "a.mrc:2"])
def test_what_is_no_list_of_masks_is_refused_in_words(paths):
    with pytest.raises(ValueError, match="focus_mask"):
        FitSettings(focus_mask=paths)


def test_a_number_too_long_to_count_components_belongs_to_the_name():
    (mask,) = FitSettings(focus_mask=["a.mrc:" + 5000 * "9"]).focus
    assert mask.columns is None
    with pytest.raises(ValueError, match="rank"):
        FitSettings(focus_mask=["a.mrc:999999"])
