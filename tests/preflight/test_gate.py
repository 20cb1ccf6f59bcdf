"""A run stops where `solvar check` finds an error, and keeps what it warns of."""

from __future__ import annotations

from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from solvar.errors import InputError
from solvar.fitting.settings import FitSettings
from solvar.imaging import rotations
from solvar.job import run_job
from solvar.parallel import OneProcess
from solvar.particles import Poses, read_particles
from solvar.preflight.findings import Finding
from solvar.preflight.gate import _shared, gate
from solvar.preflight.quick_mean import quick_mean
from solvar.preflight.trials import QUICK
from solvar.progress import SilentProgress
from solvar.threads import ThreadTeam


@pytest.fixture(scope="module")
def particles(tiny_stack):
    return read_particles(tiny_stack / "particles.star")


@pytest.fixture(scope="module")
def settings(tiny_stack):
    return FitSettings(rank=1, mask=tiny_stack / "mask.mrc", resolution=30.0)


def told(particles, settings):
    return gate(particles, settings, SilentProgress(), OneProcess())


def posed(particles, rotation=None, shift=None):
    given = particles.poses
    rotation = given.rotation if rotation is None else rotation
    return replace(
        particles, poses=Poses(rotation, given.shift_angstrom if shift is None else shift)
    )


def at_random(particles):
    return posed(particles, rotations.random(len(particles), np.random.default_rng(1)))


def test_healthy_particles_pass_without_a_word(particles, settings):
    assert told(particles, settings) == []


def test_a_run_with_meaningless_poses_stops_and_can_be_made_to_go_on(particles, settings, tmp_path):
    wrong = at_random(particles)
    with pytest.raises(InputError, match=r"dealt at random.*--force"):
        run_job(wrong, settings)
    with pytest.raises(InputError, match="dealt at random"):
        run_job(wrong, settings, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()
    forced = settings.model_copy(update={"force": True})
    run = run_job(wrong, forced, tmp_path / "run")
    assert any("dealt at random" in warning for warning in run.warnings)
    assert run.record["settings"]["force"] is True


@pytest.mark.parametrize("mistake", ["rotations transposed", "shifts reversed"])
def test_another_convention_is_what_a_run_stops_with(particles, settings, mistake):
    turned = np.swapaxes(particles.poses.rotation, 1, 2).copy()
    wrong = (
        posed(particles, rotation=turned)
        if mistake == "rotations transposed"
        else posed(particles, shift=-particles.poses.shift_angstrom)
    )
    with pytest.raises(InputError, match=f"with {mistake} the images are explained better"):
        told(wrong, settings)


def changed_mask(settings, folder, change):
    volume = mrcfile.read(settings.mask)
    with mrcfile.new(folder / "mask.mrc") as file:
        file.set_data(np.ascontiguousarray(change(volume), np.float32))
        file.voxel_size = 8.0
    return settings.model_copy(update={"mask": folder / "mask.mrc"})


@pytest.mark.parametrize(
    "change",
    [
        lambda mask: np.roll(mask, 8, axis=1),
        lambda mask: np.roll(mask, 6, axis=0),
        lambda mask: mask * (np.arange(len(mask)) < len(mask) // 2),
    ],
    ids=["along y", "along z", "half of it"],
)
def test_a_mask_beside_the_molecule_is_a_warning(particles, settings, tmp_path, change):
    (warning,) = told(particles, changed_mask(settings, tmp_path, change))
    assert warning.startswith("Mask: ") and "lies outside the mask" in warning


def test_a_mask_that_is_a_voxel_off_is_none(particles, settings, tmp_path):
    moved = changed_mask(settings, tmp_path, lambda mask: np.roll(mask, 1, axis=2))
    assert told(particles, moved) == []


def test_rows_without_a_pose_are_in_the_warnings_of_the_run(particles, settings):
    rotation, shift = particles.poses.rotation.copy(), particles.poses.shift_angstrom.copy()
    rotation[::5], shift[::5] = np.eye(3), 0.0
    found = run_job(posed(particles, rotation, shift), settings)
    assert any(each.startswith("Alignment: 80 of 400 rows (20%)") for each in found.warnings)


def test_one_monstrous_image_hides_no_good_poses(particles, settings, tiny_stack, tmp_path):
    with (
        mrcfile.open(tiny_stack / "particles.mrcs") as file,
        mrcfile.new(tmp_path / "p.mrcs") as new,
    ):
        images = file.data.copy()
        images[17] *= 1000
        new.set_data(images)
        new.voxel_size = 8.0
    warnings = told(replace(particles, stacks=(tmp_path / "p.mrcs",)), settings)
    # the noise that it spoils may be told
    assert all(warning.startswith("Signal: ") for warning in warnings)


def test_a_mean_that_is_noise_explains_no_orientations(particles, settings):
    mask = np.ones((24, 24, 24), np.float32)
    with ThreadTeam(1) as team:
        good, bad = (
            quick_mean(each, mask, QUICK[0][1], settings, team)
            for each in (particles, at_random(particles))
        )
        assert good.explains and not bad.explains
        assert not bad.repeated(np.swapaxes(bad.images.rotation, 1, 2).copy()).explains


class _Second:
    """The second of two processes, which learns what the first one says."""

    rank, size = 1, 2

    def __init__(self, said):
        self._said = list(said)

    def sum(self, values):
        assert not values.any(), "only the first process speaks"
        return np.frombuffer(self._said.pop(0), np.uint8).astype(np.int64)


class _First(_Second):
    rank = 0

    def sum(self, values):
        self._said.append(values.astype(np.uint8).tobytes())
        return values


def test_all_processes_know_what_the_first_one_found():
    findings = [Finding("ok", "poses", "better as given"), Finding("error", "mean", "5 Å, no more")]
    first = _First([])
    assert _shared(findings, first) == findings
    assert _shared([], _Second(first._said)) == findings
