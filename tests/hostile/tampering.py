"""Every file of a run folder, damaged in every way, and the commands that read what was damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from hostile.damage import (
    ANY_ARRAY,
    ANY_FILE,
    ATTRIBUTES,
    array_names,
    json_damages,
    spoil_array,
    spoil_attribute,
)
from hostile.project import COMMANDS, Project, told_by
from solvar.errors import InputError
from solvar.results.record import read_record


class Row(NamedTuple):
    """One damage: its name, what it does to a copy of the run, and the commands that read what it changed."""

    name: str
    spoil: Callable[[Path], object]
    readers: tuple[str, ...]


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


def _readers(name: str) -> tuple[str, ...]:
    return _READERS.get(name) or _READERS.get(name.rpartition("/")[2], ("report", "verify", "view"))


def _files(project: Project, *suffixes: str) -> list[str]:
    paths = sorted(path for path in project.run.rglob("*") if path.is_file())
    names = [path.relative_to(project.run).as_posix() for path in paths]
    return [name for name in names if name.endswith(suffixes)]


def _any_file(project: Project) -> Iterator[Row]:
    for name in _files(project, ""):
        for damage, spoil in ANY_FILE.items():
            yield Row(
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
                yield Row(
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
                yield Row(
                    f"{name}, attribute {attribute}: {damage}",
                    lambda run, n=name, a=attribute, d=damage: spoil_attribute(run / n, a, d),
                    _readers(name),
                )


def _tables_of_json(project: Project) -> Iterator[Row]:
    for name in _files(project, ".json"):
        if name == "run.json":
            continue
        for damage, text in json_damages(json.loads((project.run / name).read_text())):
            yield Row(
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
        yield Row(
            f"run.json: {damage}",
            lambda run, text=text: (run / "run.json").write_text(text),
            tuple(COMMANDS),
        )


TABLES: dict[str, Callable[[Project], Iterator[Row]]] = {
    "any file": _any_file,
    "arrays": _arrays,
    "attributes": _attributes,
    "json": _tables_of_json,
    "records": _records,
}


def unsound(project: Project, scratch: Path, row: Row, command: str) -> str | None:
    """What went wrong with a command on a copy of the run that is damaged so; None is right."""
    with project.copied(scratch) as run:
        row.spoil(run)
        end = told_by(command, run, project)
    return None if end.is_sound else f"{row.name} | {command} | {end}"
