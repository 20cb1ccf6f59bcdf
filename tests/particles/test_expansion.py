"""Symmetry copies: made, recognised, kept in one half, their pixels read once."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from solvar.cli.main import app
from solvar.errors import InputError
from solvar.imaging.point_groups import PointGroup
from solvar.imaging.rotations import angles_between
from solvar.particles import assign_halfsets, read_particles, write_star
from solvar.particles.expansion import copies_by_pose, copy_numbers, expanded, spread_over
from solvar.simulation import SimulationSettings, simulate

GROUP = PointGroup.named("C3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twelve particles, as they are and expanded by C3."""
    folder = tmp_path_factory.mktemp("ring")
    simulate(
        SimulationSettings(
            symmetry="C3", heterogeneity="rigid", particles=12, box_size=16, pixel_size=8.0
        )
    ).write(folder)
    found = read_particles(folder / "particles.star")
    write_star(folder / "expanded.star", expanded(found, GROUP))
    return folder


def test_copies_are_recognised_by_their_poses_and_keep_one_half(folder):
    found = read_particles(folder / "expanded.star")
    assert len(found) == 36 and np.array_equal(found.originals, 3 * np.arange(12))
    assert "36 rows show 12 particles" in found.remarks()[0]
    assert len(np.unique(found.uid)) == 36
    assert np.array_equal(copy_numbers(found.copy_of), np.tile([0, 1, 2], 12))
    halves = assign_halfsets(found, 3).halfset
    assert np.array_equal(halves, halves[found.copy_of]) and set(halves) == {1, 2}
    torn = found.halfset.copy()
    torn[0] = 3 - torn[0]
    again = assign_halfsets(type(found)(**{**vars_of(found), "halfset": torn}), 3).halfset
    assert np.array_equal(again, again[found.copy_of])


def vars_of(found):
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def test_some_of_the_copies_are_recognised_too_and_single_ones_are_none(folder):
    some = read_particles(folder / "expanded.star", ind=[0, 2, 3, 7, 8])
    assert some.copy_of.tolist() == [0, 0, 2, 3, 3]
    assert some.select(np.array([1, 0, 3])).copy_of.tolist() == [0, 0, 2]
    assert some.select(np.array([1, 3])).copy_of is None


def test_a_row_that_is_there_twice_or_was_turned_by_anything_is_no_copy(folder):
    blocks = starfile.read(folder / "expanded.star", always_dict=True)
    table = blocks["particles"]
    for row, angle in ((4, table["rlnAngleRot"][3]), (4, table["rlnAngleRot"][3] + 31.0)):
        changed = table.copy()
        changed.loc[row, "rlnAngleRot"] = angle
        path = folder / "changed.star"
        starfile.write({**blocks, "particles": changed}, path, overwrite=True)
        with pytest.raises(InputError, match=r"is the same image as row 1.*a point group"):
            read_particles(path)


def test_without_poses_each_image_is_refused_a_second_time(folder):
    with pytest.raises(InputError, match="same image"):
        read_particles(folder / "expanded.star", ignore_poses=True)


def test_rotations_of_many_particles_need_be_a_group():
    image = np.repeat(np.arange(4), 2)
    turn = np.tile(np.stack([np.eye(3), np.diag([-1.0, -1.0, 1.0])]), (4, 1, 1))
    assert copies_by_pose(image, turn).tolist() == [0, 0, 2, 2, 4, 4, 6, 6]
    turn[5] = np.eye(3)
    assert copies_by_pose(image, turn) is None


def test_every_particle_goes_to_one_of_its_poses(folder):
    found = read_particles(folder / "particles.star")
    spread = spread_over(found, GROUP, 0)
    equivalent = GROUP.operations @ found.poses.rotation[:, None]
    which = angles_between(equivalent, spread.poses.rotation[:, None]).argmin(axis=1)
    assert angles_between(equivalent, spread.poses.rotation[:, None]).min(axis=1).max() < 1e-6
    assert len(np.unique(which)) == 3
    whole = expanded(found, GROUP)
    assert spread_over(whole, GROUP, 0) is whole


def test_the_command_writes_a_set_and_refuses_what_is_none(folder, tmp_path):
    runner, source = CliRunner(), str(folder / "particles.star")
    told = runner.invoke(
        app, ["expand", source, "--symmetry", "c3", "-o", str(tmp_path / "out.star")]
    )
    assert told.exit_code == 0 and "3 copies of 12 particles (C3)" in told.output
    assert len(read_particles(tmp_path / "out.star")) == 36
    for given, sentence in (
        (
            ["expand", source, "--symmetry", "Q3", "-o", str(tmp_path / "a.star")],
            "is no point group",
        ),
        (["expand", source, "--symmetry", "C1", "-o", str(tmp_path / "a.star")], "no symmetry"),
        (["expand", source, "--symmetry", "C2", "-o", str(tmp_path / "a.cs")], "star file"),
        (
            [
                "expand",
                str(tmp_path / "out.star"),
                "--symmetry",
                "C3",
                "-o",
                str(tmp_path / "a.star"),
            ],
            "is symmetry-expanded already",
        ),
    ):
        told = runner.invoke(app, given)
        assert told.exit_code == 2 and sentence in " ".join(told.output.split())
    assert not (tmp_path / "a.star").exists()


def test_copies_that_subtraction_has_made_images_of_are_known_by_the_original(folder, tmp_path):
    """As `relion_particle_subtract` and `solvar export --subtract` write them."""
    blocks = starfile.read(folder / "expanded.star", always_dict=True)
    table = blocks["particles"]
    table["rlnImageOriginalName"] = table["rlnImageName"]
    old = read_particles(folder / "expanded.star")
    with mrcfile.mmap(folder / "particles.mrcs", permissive=True) as stack:
        images = np.repeat(stack.data, 3, axis=0)
    with mrcfile.new(tmp_path / "new.mrcs") as file:
        file.set_data(images)
        file.voxel_size = 8.0
        file.set_image_stack()
    table["rlnImageName"] = [f"{row + 1:06d}@{tmp_path}/new.mrcs" for row in range(36)]
    starfile.write({**blocks, "particles": table}, tmp_path / "new.star")
    found = read_particles(tmp_path / "new.star")
    assert np.array_equal(found.copy_of, old.copy_of)
    # each has its own image
    assert np.array_equal(found.image_of, np.arange(36)) and old.image_of.max() == 33
