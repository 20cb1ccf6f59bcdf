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
from solvar.particles.star_blocks import read_blocks, write_blocks
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
        pytest.param({"magnification": _ellipse()}, 0.1, marks=pytest.mark.slow),
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


def _refined(path: Path, truth: Path) -> np.ndarray:
    """Mean errors that are left of inexact poses: out of plane, in plane (degrees) and shift (Å)."""
    poses = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]
    blocks = read_blocks(path, as_text=True)
    inexact = read_blocks(truth / "particles_noisy.star", as_text=True)["particles"]
    blocks["particles"] = blocks["particles"].assign(**inexact[poses])
    start = path.with_name(f"inexact_{path.name}")
    write_blocks(start, blocks)
    errors = evaluate(_fit(start, truth, refine_pose=True), Truth.load(truth))["poses"]
    names = ("out_of_plane_degree", "in_plane_degree", "shift_angstrom")
    assert errors["shift_angstrom"]["mean"] < 0.5 * errors["start"]["shift_angstrom"]["mean"]
    # of a Gaussian's errors 68 %; images tell less of rotations here than the input does
    assert errors["calibration"]["rotation_within_1_sd"] > 0.6
    return np.array([errors[name]["mean"] for name in names])


@pytest.mark.slow
def test_poses_are_refined_as_well_through_either_distortion(molecules, plain, tmp_path):
    expected = _refined(plain / "particles.star", plain)
    elliptic = write_distorted(molecules, tmp_path / "elliptic", magnification=_ellipse())
    two_sizes = write_two_sizes(molecules, tmp_path / "two", 46, 0.71, 1.0)
    for path in (elliptic, two_sizes):
        np.testing.assert_allclose(_refined(path, plain), expected, rtol=0.06)
    ignored = _refined(tmp_path / "elliptic" / "ignored.star", plain)
    # shifts go wrong; rotations cannot by much: images of this size tell hardly more of them than the input
    assert np.all(ignored > 1.05 * expected) and ignored[2] > 1.5 * expected[2]


@pytest.mark.slow
@pytest.mark.parametrize(("box_size", "pixel_size", "gain"), [(64, 0.5, 1.0), (46, 0.71, 3.0)])
def test_two_pixel_sizes_give_what_one_gives(
    molecules, plain, undistorted, tmp_path, box_size, pixel_size, gain
):
    path = write_two_sizes(molecules, tmp_path, box_size, pixel_size, gain)
    particles = read_particles(path)
    assert (particles.box_size, particles.pixel_size_angstrom) == (BOX, 1.0)
    np.testing.assert_allclose(_judged(path, plain), undistorted, atol=0.015)


@pytest.mark.slow
def test_wider_images_are_cropped_to_what_all_have(tmp_path):
    # little defocus: what a CTF carries out of the box is lost with what is cropped
    defocus = {"defocus_min": 500.0, "defocus_max": 1500.0, "astigmatism": 50.0}
    near_focus = simulate(SimulationSettings(**SIMULATED, **defocus))
    near_focus.write(tmp_path / "plain")
    expected = _judged(tmp_path / "plain" / "particles.star", tmp_path / "plain")
    path = write_two_sizes(near_focus, tmp_path / "wide", 40, 0.9, 0.2)
    particles = read_particles(path)
    assert particles.grid.kept.tolist() == [32, 36]
    np.testing.assert_allclose(_judged(path, tmp_path / "plain"), expected, atol=0.015)


@pytest.mark.slow
def test_cases_of_the_field_give_what_the_base_gives(shared_data, tmp_path, monkeypatch):
    cases = ("base", "identity_aberrations", "two_pixel_sizes", "phase_flipped", "premultiplied")
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
