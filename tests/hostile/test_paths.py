"""Names in files choose what is read, never what is written; and none becomes a command or a row."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from export.runs import TARGETS_OF_FEW, run_on
from particles import particle_files as files
from solvar.errors import InputError
from solvar.export import ExportOptions, export
from solvar.particles import read_particles, write_star
from solvar.particles.star_blocks import read_blocks, write_blocks
from solvar.volume_file import write_volume
from solvar.volumes.targets import from_file


def _named(folder, name):
    """A star file whose images are all in the stack `name`."""
    names = [f"{row + 1:06d}@{name}" for row in range(files.COUNT)]
    return files.write_star31(folder, files.changed(files.COLUMNS_31, rlnImageName=names))


@pytest.mark.parametrize(
    "name",
    [
        *("../nowhere/x.mrcs", "/nowhere/x.mrcs", "~/x.mrcs", "/dev/zero", "/"),
        *("a" * 300 + ".mrcs", "d/" * 3000 + "x.mrcs", "é\u202e.mrcs", "$(touch).mrcs", "|ls"),
    ],
)
def test_a_stack_that_is_no_file_is_refused_with_its_row(tmp_path, name):
    with pytest.raises(InputError, match=r"row 1.* is not found"):
        read_particles(_named(tmp_path, name))


def test_a_folder_that_may_not_be_entered_is_passed_over(tmp_path, monkeypatch):
    path = _named(tmp_path, "elsewhere/stack.mrcs")
    is_file = type(path).is_file

    def denied(self):
        if self.parent.name == "elsewhere":
            raise PermissionError(13, "Permission denied")
        return is_file(self)

    monkeypatch.setattr(type(path), "is_file", denied)
    assert read_particles(path).stacks == (tmp_path / "stack.mrcs",)


@pytest.mark.parametrize("link", [False, True])
def test_exports_write_in_their_folder_alone(tmp_path, link):
    """Whether the stack lies above the particle file or behind a link."""
    project, outside = tmp_path / "project", tmp_path / "outside"
    for folder in (project, outside):
        folder.mkdir()
    run_on("relion31", project)
    (project / "stack.mrcs").rename(outside / "stack.mrcs")
    if link:
        (project / "stack.mrcs").symlink_to(outside / "stack.mrcs")
    path = project / "particles.star"
    path.write_text(path.read_text().replace("@stack", "@stack" if link else "@../outside/stack"))
    run = run_on_again(project, tmp_path / "other")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    for target in TARGETS_OF_FEW:
        export(run, target.name, tmp_path / "out" / target.name)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    new = {p for p in after if p not in before}
    assert new and all((tmp_path / "out") in p.parents for p in new)
    assert {p: after[p] for p in before} == before


def run_on_again(project, job):
    from export.runs import make_run

    return make_run(job, read_particles(project / "particles.star"))


def test_names_of_points_cannot_leave_the_folder_or_hide(tmp_path):
    run, _ = run_on("relion31", tmp_path)
    path = tmp_path / "points.csv"
    names = ["../../evil", "/etc/x", "a b;c", ".hidden", "x" * 500]
    rows = "".join(f'"{name}",1\n' for name in names)
    path.write_text("name,z1\n" + rows)
    for name in from_file(run, path).name:
        assert re.fullmatch(r"[\w.-]{1,80}", name) and not name.startswith(".") and name != ".."
    path.write_text("name,z1\nmap,1\nmap_half1,2\n")
    assert from_file(run, path).name == ("points_001", "points_002")


@pytest.mark.parametrize("name", ['a".mrc', "a\nexit.mrc", "a;exit.mrc", "a\\n.mrc", "a*.mrc"])
def test_a_map_name_cannot_become_a_command_of_chimerax(tmp_path, name):
    run, _ = run_on("relion31", tmp_path)
    maps = tmp_path / "maps"
    maps.mkdir()
    for each in ("0.mrc", name):
        write_volume(maps / each, np.random.default_rng(0).normal(size=(6, 6, 6)), 2.0)
    with pytest.raises(InputError, match="could take for commands"):
        export(run, "chimerax", tmp_path / "out", ExportOptions(volumes=maps))
    assert not (tmp_path / "out").exists()


_KEPT = ("plain", "two words", "#hash", "a#b", "_label", "data_x", "loop_", "it's", "é", "", "nan;")


def test_odd_values_make_the_round_trip_through_a_star_file(tmp_path):
    for first in _KEPT:
        table = pd.DataFrame({"first": [first, *_KEPT], "number": "1.50", "last": [*_KEPT, first]})
        write_blocks(tmp_path / "odd.star", {"particles": table})
        again = read_blocks(tmp_path / "odd.star", as_text=True)["particles"]
        assert again.to_dict("list") == table.to_dict("list")


@pytest.mark.parametrize(
    "value", ['a"b', "a\nb", "a\tb", "a\rb", "a\x00b", "a\u2028b", "'a", "a' b"]
)
def test_values_that_a_star_file_cannot_hold_are_refused_and_nothing_is_written(tmp_path, value):
    table = pd.DataFrame({"first": ["good", value]})
    with pytest.raises(InputError, match=r"row 2, column first: .* cannot stand in a star file"):
        write_blocks(tmp_path / "odd.star", {"particles": table})
    with pytest.raises(InputError, match="column with the name"):
        write_blocks(tmp_path / "odd.star", {"particles": pd.DataFrame({f"a {value}": [1]})})
    assert not list(tmp_path.iterdir())


def test_a_name_that_no_star_file_holds_is_refused_before_any_work(tmp_path):
    files.write_stack(tmp_path / 'a"b.mrcs')
    table = files.cs_table()
    paths = {**{n: table[n] for n in table.dtype.names}, "blob/path": np.array([b'a"b.mrcs'] * 6)}
    path = files.write_cs(tmp_path, files.structured(paths))
    with pytest.raises(InputError, match=r"row 1.* that no star file can hold"):
        read_particles(path, datadir=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("mic0.mrc", "mic#0.mrc", "line 31 holds '#' inside a value"),
        ("mic0.mrc", "mic\r0.mrc", "line 31 holds the control character"),
        ("mic0.mrc", '"mic0.mrc', "row 1|cannot be read as a star file"),
        ("_rlnAngleTilt", "_rlnAngleRot", "column rlnAngleRot: occurs 2 times in data_particles"),
    ],
)
def test_rows_are_never_cut_or_joined_in_silence(tmp_path, old, new, words):
    path = files.write_star31(tmp_path)
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    with pytest.raises(InputError, match=words):
        read_particles(path)


def test_a_comment_behind_a_row_is_a_comment(tmp_path):
    path = files.write_star31(tmp_path)
    path.write_text(path.read_text().replace("05.50", "05.50 # the last") + "# end\n")
    particles = read_particles(path)
    write_star(tmp_path / "out.star", replace(particles))
    table = read_blocks(tmp_path / "out.star", as_text=True)["particles"]
    assert list(table["userColumn"])[-1] == "05.50"


def test_a_sentence_shows_no_control_characters_and_ends():
    error = InputError("'\x1b[2J\n" + "x" * 10_000 + "' is odd", file="a\nb")
    assert str(error).isprintable() and len(str(error)) < 2100 and r"\x1b[2J\n" in str(error)
