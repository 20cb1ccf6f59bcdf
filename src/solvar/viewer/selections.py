"""Which particles are selected: how it was asked, how it is kept in the run folder, how it leaves."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.selection import FOLDER, points_in_polygon
from solvar.errors import InputError
from solvar.export import Exported, ExportOptions, Selection, export
from solvar.files import Writer, open_inside, replacing
from solvar.particles.npy import npy_length
from solvar.particles.selection import read_selection
from solvar.results.record import refuse_replaced
from solvar.viewer.data import ViewerData
from solvar.viewer.sharing import shared_folder

Int64 = NDArray[np.int64]

TARGETS = {"relion": ".star", "cryosparc": ".cs"}
SELECTIONS = Writer(
    "selections", tuple(f"{FOLDER}/*{suffix}" for suffix in (".npy", *TARGETS.values()))
)
# Letters, digits and a few marks: no name can be a path, a hidden file or an option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,63}")
_MOST_CORNERS = 10_000
_KEPT = 8
_NO_NAME = "use up to 64 letters, digits, _, + or -, the first a letter or digit"


@dataclass(frozen=True)
class Saved:
    """A selection in the run folder.

    Attributes
    ----------
    name : str
    count : int
        Particles.
    """

    name: str
    count: int


class Selector:
    """`select` that remembers: a change of colours draws the same selection again.

    Parameters
    ----------
    data : ViewerData
    """

    def __init__(self, data: ViewerData) -> None:
        self._remembered = lru_cache(_KEPT)(lambda asked: select(data, json.loads(asked)))

    def __call__(self, asked: dict[str, Any] | None) -> Int64:
        """Positions (M,) as `select` gives them."""
        return self._remembered(json.dumps(asked, sort_keys=True))


def select(data: ViewerData, asked: dict[str, Any] | None) -> Int64:
    """Positions in the run (M,) of what was selected, ascending; empty for nothing.

    Parameters
    ----------
    data : ViewerData
    asked : dict or None
        As the page keeps it, by its ``kind``: "lasso" (``axes``, ``x``, ``y``), "box" (``axes``, two
        ``x``, two ``y``), "near" (``point``, ``many``), "cluster" (``label``) or "saved" (``name``);
        with ``inverted``, all the others.

    Raises
    ------
    InputError
        If it cannot be understood.
    """
    if not asked:
        return np.empty(0, np.int64)
    try:
        inside = _inside(data, asked)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("the selection cannot be understood", remedy="select again") from error
    return np.flatnonzero(~inside if asked.get("inverted") else inside).astype(np.int64)


def _inside(data: ViewerData, asked: dict[str, Any]) -> NDArray[np.bool_]:
    inside = np.zeros(len(data), dtype=bool)
    match asked["kind"]:
        case "lasso":
            corners = np.stack([np.asarray(asked[k], np.float64) for k in "xy"], axis=1)
            if not 3 <= len(corners) <= _MOST_CORNERS or not np.isfinite(corners).all():
                raise ValueError("an outline needs three corners")
            first, second = (data.axis(key) for key in asked["axes"])
            return points_in_polygon(np.stack((first, second), axis=1), corners)
        case "box":
            inside[:] = True
            for key, limits in zip(asked["axes"], (asked["x"], asked["y"]), strict=True):
                low, high = sorted(float(value) for value in limits)
                inside &= (data.axis(key) >= low) & (data.axis(key) <= high)
        case "near":
            inside[data.near(np.asarray(asked["point"], np.float64), int(asked["many"]))] = True
        case "cluster":
            column = data.column("cluster")
            labels = column.labels or tuple(map(str, range(int(column.values.max()) + 1)))
            return column.values == labels.index(str(asked["label"]))
        case "saved":
            inside[load(data, asked["name"])] = True
        case kind:
            raise ValueError(kind)
    return inside


def check_name(name: str) -> str:
    """`name` without spaces around it.

    Raises
    ------
    InputError
        If it could not be the name of a file of ours.
    """
    name = (name or "").strip()
    if not name:
        raise InputError(
            "the selection has no name", remedy="type one, or choose a saved selection"
        )
    if not _NAME.fullmatch(name):
        raise InputError(f"'{name}' is not a name for a selection", remedy=_NO_NAME)
    return name


def saved(data: ViewerData) -> list[Saved]:
    """The selections in the run folder, by name; files that are none of ours are passed over."""
    found = []
    for path in sorted((data.run.folder / FOLDER).glob("*.npy")):
        if not _NAME.fullmatch(path.stem):
            continue
        try:
            count = npy_length(path, data.run.folder)
        # numpy evaluates the header as Python text and lets through whatever that raises
        except Exception:
            continue
        found.append(Saved(path.stem, count))
    return found


def save(data: ViewerData, name: str, chosen: Int64) -> Path:
    """Keep a selection as ``selections/NAME.npy``: rows of the file that the run was made from.

    Such a file is what ``--ind`` of `solvar run` and `solvar export` takes. It outlives the run: rows of the
    same file are the same particles for the next one.

    Raises
    ------
    InputError
        If nothing is selected, the name is not one, or is taken, or another process writes to the run
        folder.
    """
    file = _file(name)
    if not len(chosen):
        raise InputError("nothing is selected", remedy="draw around some particles first")
    with shared_folder(data.run.folder).writing() as own:
        refuse_replaced(data.run.folder, data.run.run_id)
        own.refuse_taken(SELECTIONS, [file])
        if os.path.lexists(own.root / file):
            raise InputError(
                f"a selection '{check_name(name)}' is there already", remedy="choose another name"
            )
        path = own.file(SELECTIONS, file)
        with replacing(path) as temporary:
            np.save(temporary, np.sort(data.rows[chosen]))
    return path


def load(data: ViewerData, name: str) -> Int64:
    """Positions in the run (M,) of a saved selection, ascending.

    Raises
    ------
    InputError
        If there is no such selection, or it does not fit the run.
    """
    path = _kept_file(data, name)
    rows = read_selection(path, int(data.rows.max()) + 1, data.run.source)
    chosen = np.flatnonzero(np.isin(data.rows, rows))
    if len(chosen) != len(rows):
        raise InputError("holds rows that the run did not use", file=path)
    return chosen.astype(np.int64)


def send(data: ViewerData, name: str, to: str) -> Exported:
    """Write the particles of a saved selection as ``selections/NAME.star`` or ``.cs``, and read it back.

    An earlier export of the same selection is replaced.

    Raises
    ------
    InputError
        If the selection, the target or the particle file cannot be used, or another process writes to the
        run folder.
    """
    if to not in TARGETS:
        raise InputError(f"there is no target {to!r}")
    options = ExportOptions(Selection(ind=_kept_file(data, name)), overwrite=True)
    with shared_folder(data.run.folder).writing() as own:
        refuse_replaced(data.run.folder, data.run.run_id)
        output = own.file(SELECTIONS, _file(name, TARGETS[to]))
        return export(data.run, to, output, options, own=own)


def _file(name: str, suffix: str = ".npy") -> str:
    """The file of a selection, below the run folder."""
    return f"{FOLDER}/{check_name(name)}{suffix}"


def _kept_file(data: ViewerData, name: str) -> Path:
    """Where a saved selection lies.

    Raises
    ------
    InputError
        If there is none, or it is a link or behind one.
    """
    file = _file(name)
    path = data.run.folder / file
    try:
        open_inside(data.run.folder, file).close()
    except FileNotFoundError:
        raise InputError("no such selection", file=path, remedy="save it first") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from error
    return path
