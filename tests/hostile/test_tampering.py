"""Every file of a run folder, damaged in every way, through the commands that read it.

Each does its work or says one sentence. The tables are long: every seventeenth row is gone through, another
command at each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path

import pytest

from hostile.damage import (
    ANY_ARRAY,
    ANY_FILE,
    ATTRIBUTES,
    array_names,
    json_damages,
    spoil_array,
    spoil_attribute,
)
from hostile.project import COMMANDS, Project, make_project, told_by
from solvar.errors import InputError
from solvar.results.record import read_record

# A name in the table, what is done to a copy of the run, and the commands that read what was changed.
Row = tuple[str, Callable[[Path], object], tuple[str, ...]]

_READERS = {
    "model.h5": ("report", "volume", "chimerax", "evaluate", "view"),
    "particles.h5": ("analyze", "relion", "volume", "selected", "view", "evaluate"),
    "analysis/particles.h5": ("cluster", "view", "report"),
    "analysis/analysis.json": ("report", "view", "analyze"),
    "analysis/clusters.csv": ("report", "view"),
    "particles.star": ("view", "relion"),
    "selections/mine.npy": ("selected", "view"),
    "manifest.json": ("verify", "analyze", "volume", "resume"),
    "volumes.json": ("movie", "view", "volume"),
}
_OF_NUMBERS = {"nan", "infinite", "huge", "negative", "half precision", "long precision"}
_OF_NUMBERS |= {"complex", "truth", "enumeration"}
# rows from one that is taken to the next
_STRIDE = 17


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return make_project(tmp_path_factory.mktemp("hostile"))


def _readers(name: str) -> tuple[str, ...]:
    return _READERS.get(name) or _READERS.get(name.rpartition("/")[2], ("report", "verify", "view"))


def _files(project: Project, *suffixes: str) -> list[str]:
    paths = sorted(path for path in project.run.rglob("*") if path.is_file())
    names = [path.relative_to(project.run).as_posix() for path in paths]
    return [name for name in names if name.endswith(suffixes)]


def _any_file(project: Project) -> Iterator[Row]:
    for name in _files(project, ""):
        for damage, spoil in ANY_FILE.items():
            yield (
                f"{name}: {damage}",
                lambda run, spoil=spoil, name=name: spoil(run / name, project.other / name),
                _readers(name),
            )


def _arrays(project: Project) -> Iterator[Row]:
    for name in _files(project, ".h5"):
        for array in array_names(project.run / name):
            for damage in ANY_ARRAY:
                if array == "micrograph" and damage in _OF_NUMBERS:
                    continue
                yield (
                    f"{name}, {array}: {damage}",
                    lambda run, n=name, a=array, d=damage: spoil_array(run / n, a, d),
                    _readers(name),
                )


def _attributes(project: Project) -> Iterator[Row]:
    names = {"model.h5": ("run_id", "pixel_size_angstrom"), "particles.h5": ("run_id",)}
    names["particles.h5"] += ("prior_rotation_degree", "prior_shift_angstrom")
    for name, attributes in names.items():
        for attribute in attributes:
            for damage in ATTRIBUTES:
                yield (
                    f"{name}, attribute {attribute}: {damage}",
                    lambda run, n=name, a=attribute, d=damage: spoil_attribute(run / n, a, d),
                    _readers(name),
                )


def _tables_of_json(project: Project) -> Iterator[Row]:
    for name in _files(project, ".json"):
        if name == "run.json":
            continue
        for damage, text in json_damages(json.loads((project.run / name).read_text())):
            yield (
                f"{name}: {damage}",
                lambda run, name=name, text=text: (run / name).write_text(text),
                _readers(name),
            )


def _records(project: Project) -> Iterator[Row]:
    """Those that are accepted: the others stop every command where it begins."""
    folder = project.run.parent / "records"
    folder.mkdir(exist_ok=True)
    for damage, text in json_damages(json.loads((project.run / "run.json").read_text())):
        (folder / "run.json").write_text(text)
        try:
            read_record(folder)
        except InputError:
            continue
        yield (
            f"run.json: {damage}",
            lambda run, text=text: (run / "run.json").write_text(text),
            tuple(COMMANDS),
        )


TABLES = {
    "any file": _any_file,
    "arrays": _arrays,
    "attributes": _attributes,
    "json": _tables_of_json,
    "records": _records,
}


def _all_unsound(project: Project, scratch: Path, rows: list[Row]) -> list[str]:
    """What went wrong; the commands that read a file take turns."""
    turn = {row[2]: cycle(row[2]) for row in rows}
    found = []
    for name, spoil, readers in rows:
        with project.copied(scratch) as run:
            spoil(run)
            command = next(turn[readers])
            end = told_by(command, run, project)
        if not end.is_sound:
            found.append(f"{name} | {command} | {end}")
    return found


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_run_folder_is_used_or_refused_in_one_sentence(
    project: Project, tmp_path: Path, table: str
) -> None:
    rows = list(TABLES[table](project))
    assert len(rows) > 20
    assert _all_unsound(project, tmp_path / "copy", rows[::_STRIDE]) == []


def test_the_run_that_is_damaged_was_sound(project: Project, tmp_path: Path) -> None:
    for name in COMMANDS:
        with project.copied(tmp_path / "copy") as run:
            assert told_by(name, run, project).code == 0, name
