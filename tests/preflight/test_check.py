"""What `check` must find, and what it must not cry wolf about."""

from __future__ import annotations

import shutil
from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from solvar.fitting.memory import volume_memory
from solvar.fitting.settings import FitSettings
from solvar.imaging.fourier import HalfDisc
from solvar.particles import CtfParameters, Poses, read_particles
from solvar.preflight.check import check_particles
from solvar.preflight.cost import Speed, cost_of, sweep_seconds
from solvar.preflight.table import table_findings
from solvar.threads import ThreadTeam

SETTINGS = FitSettings(rank=2)


@pytest.fixture(scope="module")
def particles(tiny_stack):
    return read_particles(tiny_stack / "particles.star")


def levels(report):
    return {finding.topic: finding.level for finding in report.findings}


def text_of(report, topic):
    return " ".join(finding.text for finding in report.findings if finding.topic == topic)


def with_poses(particles, rotation=None, shift=None):
    poses = particles.poses
    return replace(
        particles,
        poses=Poses(
            poses.rotation if rotation is None else rotation,
            poses.shift_angstrom if shift is None else shift,
        ),
    )


def test_healthy_particles_raise_nothing(particles):
    report = check_particles(particles, SETTINGS)
    assert report.ok
    assert set(levels(report).values()) == {"ok"}
    assert set(levels(report)) == {
        "files", "optics", "CTF", "shifts", "orientations", "half-sets", "row order", "images",
        "signal", "contrast sign", "mean", "poses", "mask", "alignment", "background", "noise",
        "pose errors", "cost",
    }  # fmt: skip
    assert "bright" in text_of(report, "contrast sign")


def test_transposed_rotations_are_found(particles):
    turned = with_poses(particles, np.swapaxes(particles.poses.rotation, 1, 2).copy())
    report = check_particles(turned, SETTINGS)
    assert not report.ok
    assert "with rotations transposed" in text_of(report, "poses")


def test_reversed_shifts_are_found(particles):
    report = check_particles(with_poses(particles, shift=-particles.poses.shift_angstrom), SETTINGS)
    assert not report.ok
    assert "with shifts reversed" in text_of(report, "poses")


def test_images_of_other_particles_are_found(particles):
    frame = np.random.default_rng(0).permutation(len(particles))
    other = replace(particles, exposures=replace(particles.exposures, frame=frame))
    report = check_particles(other, SETTINGS)
    assert levels(report)["mean"] == "error"


def test_particles_that_are_dark_are_said_to_be(particles, tiny_stack, tmp_path):
    dark = rewritten(particles, tiny_stack, tmp_path, lambda images: np.negative(images, images))
    report = check_particles(dark, SETTINGS)
    assert report.ok
    assert "they will be inverted" in text_of(report, "contrast sign")
    told = check_particles(dark, SETTINGS.model_copy(update={"density": "bright"}))
    assert levels(told)["contrast sign"] == "warning"


def rewritten(particles, folder, target, change):
    stack = target / "particles.mrcs"
    shutil.copy(folder / "particles.mrcs", stack)
    with mrcfile.mmap(stack, "r+") as file:
        change(file.data)
    return replace(particles, stacks=(stack,))


def test_images_of_a_copied_stack_are_found(particles, tmp_path):
    copy = shutil.copy(particles.stacks[0], tmp_path / "copy.mrcs")
    images, half = particles.exposures, len(particles) // 2
    later = np.arange(len(particles)) >= half
    exposures = replace(
        images, stack_index=later.astype(np.int64), frame=images.frame - half * later
    )
    report = check_particles(
        replace(particles, stacks=(*particles.stacks, copy), exposures=exposures), SETTINGS
    )
    (error,) = [f for f in report.findings if (f.level, f.topic) == ("error", "files")]
    assert f"row {half + 1}: is the same image as row 1: {copy} is a copy of" in error.text


def test_broken_images_are_counted_and_the_first_is_named(particles, tiny_stack, tmp_path):
    def spoil(images):
        images[[3, 77]] = np.nan
        images[200] = 1.0

    report = check_particles(rewritten(particles, tiny_stack, tmp_path, spoil), SETTINGS)
    assert not report.ok
    assert "image 4 holds NaN" in text_of(report, "images")
    assert "3 are broken" in text_of(report, "images")
    assert "mean" not in levels(report), "a mean of broken images says nothing"


def test_an_image_far_brighter_than_the_others_is_a_warning(particles, tiny_stack, tmp_path):
    def glare(images):
        images[10] *= 30

    report = check_particles(rewritten(particles, tiny_stack, tmp_path, glare), SETTINGS)
    assert "the first in row 11" in text_of(report, "images")


def test_shifts_in_the_wrong_unit_stand_out(particles):
    shift = particles.poses.shift_angstrom * 10
    report = check_particles(with_poses(particles, shift=shift), SETTINGS)
    assert levels(report)["shifts"] == "warning"


def test_unusual_defocus_stands_out(particles):
    zero = np.zeros(len(particles))
    ctf = CtfParameters(zero + 9e4, zero + 9e4, zero, zero, zero)
    report = check_particles(
        replace(particles, exposures=replace(particles.exposures, ctf=ctf)), SETTINGS
    )
    assert levels(report)["CTF"] == "warning"
    assert "outside 0.1 to 6 µm" in text_of(report, "CTF")


def test_a_preferred_view_stands_out(particles):
    top = with_poses(particles, np.tile(np.eye(3), (len(particles), 1, 1)))
    assert levels(check_particles(top, SETTINGS))["orientations"] == "warning"


def test_optics_are_told_with_what_is_done_about_them(particles):
    def told(**changes):
        lens = replace(particles.optics, **changes)
        (optics,) = (
            f for f in table_findings(replace(particles, optics=lens)) if f.topic == "optics"
        )
        return optics.text

    assert "corrected" not in told() and "brought" not in told()
    assert told(magnification=1.01 * np.eye(2)[None], beam_tilt_mrad=np.ones((1, 2))).endswith(
        "; corrected for anisotropic magnification, beam tilt"
    )
    twice = {
        name: np.repeat(values, 2)
        for name, values in vars(particles.optics).items()
        if isinstance(values, np.ndarray)
    }
    twice |= {"name": ("a", "b"), "box_size": np.array([24, 52])}
    twice |= {"pixel_size_angstrom": np.array([8.0, 4.0])}
    assert "box 24 pixels of 8 Å, to which images of 24 to 52 pixels of 4 to 8 Å" in told(**twice)


def test_settings_that_cannot_work_are_errors(particles, tmp_path):
    report = check_particles(
        particles, FitSettings(rank=2, mask=tmp_path / "none.mrc", resolution=90.0)
    )
    assert levels(report)["mask"] == levels(report)["resolution"] == "error"


def test_tilts_cost_what_their_images_cost_and_latents_what_particles_do():
    def cost(count, images=None, seconds=(3e-4, 1e-4, 0.0)):
        return cost_of(count, 64, 31, FitSettings(rank=10, lazy=True), Speed(*seconds), images)

    fixed = cost(1000, seconds=(0.0, 0.0, 0.0)).seconds
    tilts, single, few = cost(1000, 41_000), cost(41_000), cost(1000)
    assert tilts.disk == single.disk == 41 * few.disk
    assert tilts.seconds - fixed == pytest.approx(41 * (few.seconds - fixed))
    assert few.memory + 40_000 * 600 < tilts.memory < single.memory


def test_cost_grows_with_particles_pixels_and_rank():
    def cost(count=3000, box=64, rank=4, **more):
        settings = FitSettings(rank=rank, **more)
        return cost_of(count, box, box // 2 - 1, settings, Speed(3e-4, 1e-4, 2e-2))

    base = cost()
    for larger in (cost(count=30_000), cost(box=128), cost(rank=10)):
        assert larger.seconds > 0.9 * base.seconds and larger.memory > base.memory
    assert cost(count=300_000).seconds > 10 * base.seconds
    poses = cost(refine_pose=True)
    assert poses.seconds > 1.3 * base.seconds and poses.memory > base.memory
    pixels = 3000 * 1501 * 12
    assert base.disk == 0 and cost(lazy=True).disk == pixels
    assert base.memory - cost(lazy=True).memory == pixels
    assert cost(lazy=True, cache_precision="float16").disk == pixels // 2
    assert "GiB of disk" in str(cost(lazy=True)) and "disk" not in str(base)


@pytest.mark.parametrize(("box", "most"), [(256, 6), (384, 12)])
def test_large_boxes_fit_into_memory_with_images_on_disk(box, most):
    disk, memory = (
        cost_of(20_000, box, box // 2 - 1, FitSettings(rank=10, lazy=lazy), Speed(0, 0, 0))
        for lazy in (True, False)
    )
    assert disk.memory < most * 2**30
    assert memory.memory - disk.memory == disk.disk
    # both halves' eight targets and their sum: what lies within a sphere of a half-spectrum of eleven columns
    kept = volume_memory(20_000, box, box // 2 - 1, FitSettings(rank=10)).waiting
    assert kept > 18 * 11 * 0.5 * 4 * box**3


@pytest.mark.parametrize("count", [1, 128])
def test_made_up_images_lead_to_no_number_that_is_none(count):
    settings = FitSettings(rank=10, threads=1)
    with np.errstate(all="raise", under="ignore"), ThreadTeam(1) as team:
        assert sweep_seconds(count, 48, HalfDisc.of_radius(12), settings, team) > 0
