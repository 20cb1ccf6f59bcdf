"""Images that a microscope distorts, or that have several sizes, give what undistorted ones give."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from distorted import write_distorted, write_two_sizes
from solvar.evaluation import Truth, evaluate
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate

BOX = 32
# at 1 Å a pixel one milliradian is 8 rad at Nyquist
SIMULATED = {
    "particles": 1000, "box_size": BOX, "pixel_size": 1.0, "snr": 0.3, "blob_sigma": 0.5,
    "heterogeneity": "gaussian", "rank": 2, "noise_colour": 0, "shift_sd": 1.0, "seed": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def molecules():
    return simulate(SimulationSettings(**SIMULATED))


@pytest.fixture(scope="module")
def plain(molecules, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    molecules.write(folder)
    return folder


@pytest.fixture(scope="module")
def undistorted(plain) -> tuple[float, float]:
    return _judged(plain / "particles.star", plain)


def _fit(path: Path, truth: Path, **settings) -> Fit:
    return fit(read_particles(path), FitSettings(rank=2, mask=truth / "mask.mrc", **settings))


def _judged(path: Path, truth: Path, **settings) -> tuple[float, float]:
    """Captured variance and correlation of the mean, up to Nyquist."""
    report = evaluate(_fit(path, truth, **settings), Truth.load(truth), k_c=BOX / 2 - 1)
    return report["covariance"]["captured_variance"], report["mean"]["correlation"]


def _ellipse() -> np.ndarray:
    """3 % between the axes, along 30 degrees."""
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (turn @ np.diag([1.015, 0.985]) @ turn.T)[None]


@pytest.mark.parametrize(
    ("aberration", "lost"),
    [
        ({"magnification": _ellipse()}, 0.1),
        ({"beam_tilt_mrad": np.array([[0.8, -0.6]])}, 0.05),
    ],
    ids=["magnification", "beam tilt"],
)
def test_what_the_star_file_tells_of_the_microscope_is_undone(
    molecules, undistorted, tmp_path, aberration, lost
):
    path = write_distorted(molecules, tmp_path, **aberration)
    told = _judged(path, tmp_path)
    ignored = _judged(tmp_path / "ignored.star", tmp_path)
    np.testing.assert_allclose(told, undistorted, atol=0.015)
    assert ignored[0] < undistorted[0] - lost and ignored[1] < undistorted[1] - 0.03


def test_poses_are_refined_through_an_anisotropic_magnification(molecules, tmp_path):
    path = write_distorted(molecules, tmp_path / "set", magnification=_ellipse())
    truth = Truth.load(tmp_path / "set")
    blurred = tmp_path / "set" / "blurred.star"
    blurred.write_text(_with_optics_of(path, tmp_path / "set" / "particles_noisy.star"))
    refined = _fit(blurred, tmp_path / "set", refine_pose=True)
    errors = evaluate(refined, truth)["poses"]
    for name in ("out_of_plane_degree", "shift_angstrom"):
        assert errors[name]["mean"] < 0.75 * errors["start"][name]["mean"], name


def _with_optics_of(one: Path, other: Path) -> str:
    """The particles of one star file under the optics of another."""
    optics = one.read_text().split("data_particles")[0]
    return optics + "data_particles" + other.read_text().split("data_particles")[1]


@pytest.mark.parametrize(
    ("box_size", "pixel_size", "gain"), [(64, 0.5, 1.0), (46, 0.71, 3.0), (40, 0.9, 0.2)]
)
def test_two_pixel_sizes_give_what_one_gives(
    molecules, plain, undistorted, tmp_path, box_size, pixel_size, gain
):
    path = write_two_sizes(molecules, tmp_path, box_size, pixel_size, gain)
    particles = read_particles(path)
    assert (particles.box_size, particles.pixel_size_angstrom) == (BOX, 1.0)
    np.testing.assert_allclose(_judged(path, plain), undistorted, atol=0.015)


def test_shifts_of_every_size_are_refined_in_angstrom(molecules, plain, tmp_path):
    path = write_two_sizes(molecules, tmp_path, 46, 0.71, 1.0)
    fitted = _fit(path, plain, refine_pose=True)
    errors = evaluate(fitted, Truth.load(plain))["poses"]
    assert errors["shift_angstrom"]["mean"] < 0.3


@pytest.mark.slow
def test_cases_of_the_field_give_what_the_base_gives(shared_data, tmp_path, monkeypatch):
    cases = ("base", "identity_aberrations", "two_pixel_sizes")
    make = shared_data / "field" / "make.py"
    monkeypatch.setattr(sys, "argv", [str(make), str(tmp_path), *cases])
    runpy.run_path(str(make), run_name="__main__")
    mask = tmp_path / "base" / "mask.mrc"
    fits = {}
    for case in cases:
        assert json.loads((tmp_path / case / "right.json").read_text())["expect"] == "same"
        particles = read_particles(tmp_path / case / "particles.star")
        fits[case] = fit(particles, FitSettings(rank=2, mask=mask))
    base = fits.pop("base").model
    for case, found in fits.items():
        model = found.model
        assert np.corrcoef(model.mean.ravel(), base.mean.ravel())[0, 1] > 0.99, case
        products = model.eigenvolumes.reshape(2, -1) @ base.eigenvolumes.reshape(2, -1).T
        assert np.linalg.svd(products)[1].min() > 0.98, case
    same = fits["identity_aberrations"].model
    np.testing.assert_array_equal(same.eigenvolumes, base.eigenvolumes)
