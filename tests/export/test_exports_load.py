"""What was exported is found and read from wherever it lies, and was read before it was called written."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile

from export.runs import assert_same_particles, make_run, run_on
from particles.particle_files import (
    COLUMNS_31,
    COUNT,
    changed,
    cs_table,
    star_text,
    structured,
    write_stack,
)
from solvar.errors import InputError
from solvar.export import TARGETS, ExportOptions, Selection, export
from solvar.export.job import export_to
from solvar.particles import ImageStack, read_particles

SOME = Selection(ind=[4, 1, 2])
STACK = "Extract/job 1/stack.mrcs"


def project(folder: Path, to: str, spelled: str = STACK) -> Path:
    """A particle file in a job's folder that spells its stack from the folder of the project."""
    (folder / STACK).parent.mkdir(parents=True)
    (folder / "Refine3D").mkdir()
    write_stack(folder / STACK)
    if to == "cryosparc":
        table = cs_table()
        fields = {name: table[name] for name in table.dtype.names}
        path = folder / "Refine3D" / "particles.cs"
        named = {"blob/path": np.array([f">{spelled}".encode()] * COUNT)}
        with path.open("wb") as file:
            np.save(file, structured(fields | named))
        return path
    path = folder / "Refine3D" / "particles.star"
    names = [f'"{i + 1:06d}@{spelled}"' for i in range(COUNT)]
    path.write_text(star_text(changed(COLUMNS_31, rlnImageName=names)))
    return path


def spelled_in(path: Path) -> set[str]:
    """The names of stacks in a file, read without our own readers."""
    if path.suffix == ".cs":
        return {name.decode().lstrip(">") for name in np.load(path)["blob/path"]}
    return set(starfile.read(path)["particles"]["rlnImageName"].str.partition("@")[2])


# how the input was found, where the export goes, and whether the name stays
PLACES = {
    "in the project": ({}, "project/select/cluster1", True),
    "beside the project": ({}, "cluster1", False),
    "with a folder that was given": ({"datadir": "images"}, "cluster1", False),
    "with a prefix that was cut": ({"strip_prefix": "old"}, "project/cluster1", False),
    "by a link into the project": ({}, "link", False),
    "by a link out of the project": ({}, "project/out", False),
    "beside another stack of that name": ({}, "project/other", False),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("to", ["relion", "cryosparc"])
def test_images_are_found_from_any_working_folder(tmp_path, monkeypatch, to, place):
    reading, output, stays = PLACES[place]
    source = project(
        tmp_path / "project", to, f"old/{STACK}" if "strip_prefix" in reading else STACK
    )
    if "datadir" in reading:
        (tmp_path / "project" / "Extract").rename(tmp_path / "images")
        (tmp_path / "images" / "Extract").mkdir()
        (tmp_path / "images" / "job 1").rename(tmp_path / "images" / "Extract" / "job 1")
        reading = {"datadir": tmp_path / "images"}
    (tmp_path / "away").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "project" / "Refine3D")
    (tmp_path / "project" / "out").symlink_to(tmp_path / "away")
    (tmp_path / "project" / "other" / STACK).parent.mkdir(parents=True)
    write_stack(tmp_path / "project" / "other" / STACK, seed=1)
    run = make_run(tmp_path / "job", read_particles(source, **reading))
    exported = export(run, to, tmp_path / output / "new", ExportOptions(SOME))
    wanted = read_particles(source, **reading, ind=[1, 2, 4])
    monkeypatch.chdir("/")
    for path in (*exported.files, *(path.resolve() for path in exported.files)):
        found = read_particles(path)
        assert_same_particles(found, wanted, uid=to == "cryosparc" or stays)
        images = ImageStack(found).read(range(3)), ImageStack(wanted).read(range(3))
        np.testing.assert_array_equal(*images)
    assert spelled_in(path) == {STACK if stays else str(wanted.stacks[0])}
    again = read_particles(run.folder / "particles.star")
    assert_same_particles(again, read_particles(source, **reading), uid=False)


def test_an_input_that_was_found_from_the_working_folder_alone(tmp_path, monkeypatch):
    source = project(tmp_path / "project", "relion")
    source = source.rename(tmp_path / "particles.star")
    monkeypatch.chdir(tmp_path / "project")
    run = make_run(tmp_path / "job", read_particles(source))
    monkeypatch.chdir("/")
    (path,) = export(run, "relion", tmp_path / "out").files
    assert len(read_particles(path)) == len(read_particles(run.folder / "particles.star")) == COUNT


@pytest.mark.skipif(shutil.which("relion_stack_create") is None, reason="RELION is not installed")
@pytest.mark.parametrize("output", ["project/cluster1", "cluster1"])
def test_relion_reads_exports_from_its_project(tmp_path, output):
    source = project(tmp_path / "project", "relion")
    run = make_run(tmp_path / "job", read_particles(source))
    (path,) = export(run, "relion", tmp_path / output, ExportOptions(SOME)).files
    command = [
        "relion_stack_create",
        "--i",
        os.path.relpath(path, tmp_path / "project"),
        "--o",
        "x",
    ]
    subprocess.run(command, cwd=tmp_path / "project", check=True, capture_output=True)
    copied = ImageStack(read_particles(tmp_path / "project" / "x.star")).read(range(3))
    np.testing.assert_array_equal(copied, ImageStack(read_particles(path)).read(range(3)))


@pytest.mark.parametrize("kind", ["relion31", "cryosparc", "cryodrgn"])
def test_particles_are_written_below_a_folder_that_no_star_file_can_name(tmp_path, kind):
    run, _ = run_on(kind, _made(tmp_path / "it's mine"), refined=True)
    (path,) = export(run, "relion", tmp_path / "it's mine" / "out").files
    for star in (path, run.folder / "particles.star"):
        assert len(read_particles(star)) == COUNT


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_passthrough_is_not_needed_again(tmp_path):
    source = project(tmp_path, "cryosparc")
    table = np.load(source)
    split = {"main": [], "passthrough": []}
    for name in table.dtype.names:
        split["main" if name.startswith("alignments3D/") else "passthrough"].append(name)
    split["main"].insert(0, "uid")
    for name, columns in split.items():
        with source.with_name(f"{name}.cs").open("wb") as file:
            np.save(file, structured({column: table[column] for column in columns}))
    reading = {"passthrough": (source.with_name("passthrough.cs"),)}
    run = make_run(tmp_path / "job", read_particles(source.with_name("main.cs"), **reading))
    (path,) = export(run, "cryosparc", tmp_path / "out.cs", ExportOptions(SOME)).files
    assert_same_particles(read_particles(path), read_particles(source, ind=[1, 2, 4]))
    found = np.load(path)
    assert found.dtype.names[: len(split["main"])] == tuple(split["main"])
    for name in table.dtype.names:
        assert found.dtype[name] == table.dtype[name]
        np.testing.assert_array_equal(found[name], table[name][[1, 2, 4]])


def test_a_run_on_an_export_leads_back_to_the_original(tmp_path):
    """The export names its images otherwise than the file that it came from."""
    source = project(tmp_path / "project", "relion")
    run = make_run(tmp_path / "job", read_particles(source))
    (cluster,) = export(run, "relion", tmp_path / "cluster.star", ExportOptions(SOME)).files
    second = make_run(tmp_path / "second", read_particles(cluster))
    assert not np.isin(second.particles["uid"], run.particles["uid"]).any()
    options = ExportOptions(particles=source)
    (path,) = export(second, "relion", tmp_path / "project" / "back.star", options).files
    assert_same_particles(read_particles(path), read_particles(source, ind=[1, 2, 4]))


@pytest.mark.parametrize("refined_poses", [None, True, False])
@pytest.mark.parametrize("to", ["relion", "cryosparc", "cryodrgn"])
def test_refined_poses_are_written_unless_those_of_the_input_are_asked_for(
    tmp_path, to, refined_poses
):
    run, _ = run_on("cryosparc", tmp_path, refined=True)
    exported = export(run, to, tmp_path / "out", ExportOptions(refined_poses=refined_poses))
    assert (exported.particles, exported.refined_poses) == (COUNT, refined_poses is not False)
    files = {path.stem: path for path in exported.files}
    path = files.pop("particles", run.source)
    found, given = read_particles(path, **files), read_particles(run.source)
    wanted = given.poses.rotation if refined_poses is False else run.particles["rotation"]
    np.testing.assert_allclose(found.poses.rotation, wanted, atol=1e-5)
    assert np.abs(run.particles["rotation"] - given.poses.rotation).max() > 0.1


def test_refined_poses_have_no_place_at_recentred_particles(tmp_path):
    run, _ = run_on("relion31", tmp_path, refined=True)
    for asked in (None, True):
        options = ExportOptions(pick_tolerance=9, refined_poses=asked)
        with pytest.raises(InputError, match="--pick-tolerance 9 px; pass --input-poses"):
            export(run, "relion", tmp_path / "out", options)
    options = ExportOptions(pick_tolerance=9, refined_poses=False)
    assert not export(run, "relion", tmp_path / "out", options).refined_poses


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _without_last_row(path: Path) -> None:
    path.write_text("\n".join(path.read_text().rstrip().split("\n")[:-1]) + "\n")


def _other(name: str):
    """Exchange the first two values of a column."""

    def change(path: Path) -> None:
        if path.suffix == ".cs":
            table = np.load(path)
            table[name][:2] = table[name][1::-1].copy()
            with path.open("wb") as file:
                np.save(file, table)
        else:
            blocks = starfile.read(path, always_dict=True)
            column = blocks["particles"][name]
            blocks["particles"][name] = [column[1], column[0], *column[2:]]
            starfile.write(blocks, path)

    return change


FAULTS = [
    ("relion", "particles.star", _cut, "cannot be read as a star file|not"),
    ("relion", "particles.star", _without_last_row, "holds 2 particles instead of 3"),
    ("relion", "particles.star", _other("rlnAngleRot"), "row 1.*has another rotation"),
    ("relion", "particles.star", _other("rlnOriginYAngst"), "row 1.*has another shift"),
    ("relion", "particles.star", _other("rlnImageName"), "row 1.*names another image"),
    ("cryosparc", "particles.cs", _cut, "particles.cs"),
    ("cryosparc", "particles.cs", _other("uid"), "row 1.*has another uid"),
    ("cryosparc", "particles.cs", _other("ctf/df1_A"), "row 1.*has another defocus"),
    ("cryodrgn", "poses.pkl", _cut, "poses.pkl"),
    ("cryodrgn", "ind.pkl", _cut, "ind.pkl"),
    ("chimerax", "mean.mrc", _cut, "mean.mrc"),
]


@pytest.mark.parametrize(("to", "name", "damage", "words"), FAULTS)
@pytest.mark.parametrize("earlier", [False, True])
def test_what_does_not_load_is_not_written(tmp_path, to, name, damage, words, earlier):
    run, _ = run_on("cryosparc", tmp_path)
    target = next(target for target in TARGETS if target.name == to)
    options = ExportOptions(SOME if target.takes_particles else Selection(), overwrite=True)
    if earlier:
        export_to(target, run, tmp_path / "out", options)
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("*")}

    def damaged(job):
        writers = dict(target.files(job))
        write = writers[name]
        writers[name] = lambda path: (write(path), damage(path))
        return writers

    with pytest.raises(InputError, match=words) as caught:
        export_to(replace(target, files=damaged), run, tmp_path / "out", options)
    assert "not written" in str(caught.value) and ".partial" not in str(caught.value)
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("*")} == before


def test_an_export_of_images_that_are_gone_says_so(tmp_path):
    source = project(tmp_path, "relion")
    run = make_run(tmp_path / "job", read_particles(source))
    os.truncate(tmp_path / STACK, 1500)
    with pytest.raises(InputError, match=r"stack\.mrcs: .*so .*particles\.star was not written"):
        export(run, "relion", tmp_path / "out")
    assert not (tmp_path / "out").exists()
