"""What a quick mean tells of pose errors and noise."""

from __future__ import annotations

import shutil

import mrcfile
import numpy as np
import pytest

from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.preflight.check import check_particles


def findings(folder, star: str = "particles.star") -> dict[str, tuple[str, str]]:
    settings = FitSettings(mask=folder / "mask.mrc")
    report = check_particles(read_particles(folder / star), settings)
    return {each.topic: (each.level, each.text) for each in report.findings}


@pytest.fixture
def rigid(simulated):
    return simulated(heterogeneity="rigid", pose_error=6.0, shift_error=0.5)


def test_pose_errors_are_told_with_their_size_and_good_poses_are_not_doubted(rigid) -> None:
    assert findings(rigid)["pose errors"][0] == "ok"
    level, text = findings(rigid, "particles_noisy.star")["pose errors"]
    assert level == "warning" and "--refine-pose" in text
    degree = float(text.split("about ")[1].split("°")[0])
    assert degree == pytest.approx(6.0, rel=0.3)


def test_an_offset_of_every_image_is_told(rigid, tmp_path) -> None:
    assert "chance alone" in findings(rigid)["background"][1]
    changed = tmp_path / "offset"
    shutil.copytree(rigid, changed)
    with mrcfile.open(changed / "particles.mrcs", "r+") as stack:
        offset = np.random.default_rng(0).standard_normal((len(stack.data), 1, 1))
        stack.data[:] += offset.astype(np.float32)
    level, text = findings(changed)["background"]
    assert level == "ok" and "taken out" in text


def test_noise_that_corners_do_not_know_is_told(rigid, tmp_path) -> None:
    assert findings(rigid)["noise"][0] == "ok"
    changed = tmp_path / "changed"
    shutil.copytree(rigid, changed)
    with mrcfile.open(changed / "particles.mrcs", "r+") as stack:
        box = stack.data.shape[-1]
        axis = np.arange(box) - box // 2
        inside = np.hypot(axis[:, None], axis) < 0.42 * box
        stack.data[:] *= np.where(inside, 1.5, 1.0).astype(np.float32)
    assert findings(changed)["noise"][0] == "warning"
