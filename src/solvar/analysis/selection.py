"""Which particles of a run: clusters, states, those in a polygon or a list, those that show a particle."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.analysis.reading import FILE as ANALYSED
from solvar.analysis.reading import analysed_columns
from solvar.commands import command_line
from solvar.errors import InputError
from solvar.files import explained, read_text
from solvar.particles.selection import read_selection
from solvar.results.run import Run, check_component

# where the viewer keeps what was selected there
FOLDER = "selections"
_VERTICES = "write one vertex a line, as x,y in the units of the latents"


@dataclass(frozen=True)
class Selection:
    """At most one of clusters, states, polygon and rows, none of which selects everything; and what to keep.

    Attributes
    ----------
    clusters : tuple of int
        Labels as `solvar analyze` numbers them.
    polygon : Path or None
        Vertices in the plane of two components, one `x,y` a line, in units of the latents.
    components : (int, int)
        The plane of the polygon, counted from 1.
    ind : path, (M,) array-like or None
        Zero-based rows of the particle file that the run was made from.
    invert : bool
        Take the other particles of the run instead.
    keep : float or None
        Least probability that the images show a particle, of those that are selected otherwise; inverted
        where it is the only selection.
    states : tuple of int
        Numbers as `solvar analyze` tells them; particles between states are in none.
    """

    clusters: tuple[int, ...] = ()
    polygon: Path | None = None
    components: tuple[int, int] = (1, 2)
    ind: str | Path | ArrayLike | None = None
    invert: bool = False
    keep: float | None = None
    states: tuple[int, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether nothing is asked to be left out."""
        others = self.polygon, self.ind, self.keep
        labelled = self.clusters or self.states or self.invert
        return not labelled and all(each is None for each in others)


def select(run: Run, selection: Selection) -> NDArray[np.int64]:
    """Positions of the selected particles in the run.

    Parameters
    ----------
    run : Run
    selection : Selection

    Returns
    -------
    (M,) int64
        Ascending, M > 0.

    Raises
    ------
    InputError
        If more than one kind of selection is given, its file is missing or does not fit the run, or
        nothing is selected.
    """
    asked = {
        "--cluster": bool(selection.clusters),
        "--state": bool(selection.states),
        "--polygon": selection.polygon is not None,
        "--ind": selection.ind is not None,
    }
    given = [name for name, is_given in asked.items() if is_given]
    kept = [] if selection.keep is None else [f"--keep {selection.keep:g}"]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} exclude each other", remedy="pass one of them")
    if selection.invert and not given and selection.keep is None:
        raise InputError(
            "--not needs a selection to invert",
            remedy="pass --cluster, --state, --polygon, --ind or --keep",
        )
    inside = shown = _shown(run, selection.keep)
    if selection.clusters:
        inside = np.isin(labels(run, "cluster", selection.clusters), selection.clusters)
    elif selection.states:
        inside = np.isin(labels(run, "state", selection.states), selection.states)
    elif selection.polygon is not None:
        inside = _in_polygon(run, selection.polygon, selection.components)
    elif selection.ind is not None:
        inside = _in_list(run, selection.ind)
    inside = ~inside if selection.invert else inside
    chosen = np.flatnonzero(inside & shown if given else inside)
    if not len(chosen):
        raise InputError(
            f"{' and '.join([*given, *kept])} selects none of the {run.particle_count} particles",
            file=run.folder,
            remedy="choose another selection, or turn --not around",
        )
    return chosen.astype(np.int64)


def _shown(run: Run, keep: float | None) -> NDArray[np.bool_]:
    """Particles (N,) whose images show one with at least this probability; all if None."""
    if keep is None:
        return np.ones(run.particle_count, dtype=bool)
    if not 0 <= keep <= 1:
        raise InputError(f"--keep {keep:g} is no probability", remedy="pass a number from 0 to 1")
    return run.particle_probability >= keep


def points_in_polygon(points: ArrayLike, vertices: ArrayLike) -> NDArray[np.bool_]:
    """Even-odd rule: whether a ray from the point along +x crosses the outline an odd number of times.

    Points are sorted by y once, so that each edge looks only at those beside it: a lasso of hundreds of
    corners around a million points takes a fraction of a second.

    Parameters
    ----------
    points : (N, 2) array-like
    vertices : (V, 2) array-like
        The last is joined to the first.

    Returns
    -------
    (N,) bool
    """
    x, y = np.asarray(points, np.float64).T
    corners = np.asarray(vertices, np.float64)
    (left, low), (right, high) = corners.min(axis=0), corners.max(axis=0)
    near = np.flatnonzero((x >= left) & (x <= right) & (y >= low) & (y <= high))
    near = near[np.argsort(y[near])]
    inside = np.zeros(len(x), dtype=bool)
    x, y, odd = x[near], y[near], np.zeros(len(near), dtype=bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y1 == y2:
            continue
        first, last = np.searchsorted(y, sorted((y1, y2)))
        beside = slice(first, last)  # (y1 > y) != (y2 > y)
        odd[beside] ^= x[beside] < x1 + (y[beside] - y1) * (x2 - x1) / (y2 - y1)
    inside[near] = odd
    return inside


def labels(run: Run, kind: str, wanted: Sequence[int] = ()) -> NDArray[np.int64]:
    """Clusters or states (N,) of a run's particles from 1, as the analysis numbers them; 0 for none.

    Parameters
    ----------
    run : Run
    kind : {"cluster", "state"}
    wanted : sequence of int
        Labels that must be among them.

    Raises
    ------
    InputError
        If the run was not analysed, or a label is missing.
    """
    path = run.folder / ANALYSED
    remedy = f"run `{command_line('solvar', 'analyze', run.folder)}`"
    if not os.path.lexists(path):
        raise InputError(f"is missing, so there are no {kind}s", file=path, remedy=remedy)
    found: NDArray[np.int64] = analysed_columns(run, kind, remedy=remedy)[kind]
    known = np.unique(found[found > 0])
    absent = [label for label in wanted if label not in known]
    if absent:
        there = f"the labels go from {known[0]} to {known[-1]}" if len(known) else "there is none"
        raise InputError(f"there is no {kind} {absent[0]}", file=path, column=kind, remedy=there)
    return found


def _in_polygon(run: Run, path: Path, components: tuple[int, int]) -> NDArray[np.bool_]:
    for number in components:
        check_component(run, number)
    if components[0] == components[1]:
        raise InputError("--components names one component twice", remedy="name two, as in 1,2")
    plane = run.posterior.z[:, [number - 1 for number in components]]
    return points_in_polygon(plane, _read_vertices(path))


def _read_vertices(path: Path) -> NDArray[np.float64]:
    """(V, 2) float64; a first line that holds no numbers is a header."""
    lines = [(n, line) for n, line in enumerate(_csv_lines(path)) if line]
    vertices = []
    for place, (row, line) in enumerate(lines):
        try:
            x, y = (float(value) for value in line)
        except ValueError:
            if place == 0 and len(line) == 2:
                continue
            raise InputError(
                f"'{','.join(line)}' is not a vertex", file=path, row=row, remedy=_VERTICES
            ) from None
        if not np.isfinite([x, y]).all():
            raise InputError("is not finite", file=path, row=row, remedy=_VERTICES)
        vertices.append((x, y))
    if len(vertices) < 3:
        raise InputError(
            f"has {len(vertices)} vertices, a polygon has at least 3", file=path, remedy=_VERTICES
        )
    return np.array(vertices)


def _csv_lines(path: Path) -> list[list[str]]:
    try:
        with explained(path):
            text = read_text(path).removeprefix("\ufeff")
        lines = csv.reader(io.StringIO(text, newline=""))
        return [[value.strip() for value in line] for line in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot be read as text ({error})", file=path) from error


def _in_list(run: Run, ind: str | Path | ArrayLike) -> NDArray[np.bool_]:
    rows = run.particles["row"]
    source = run.source
    in_csv = isinstance(ind, str | Path) and Path(ind).suffix == ".csv"
    listed = _rows_of_csv(Path(str(ind))) if in_csv else ind
    file = Path(str(ind)) if in_csv else None
    asked = read_selection(listed, int(rows.max()) + 1, source, file)
    lost = np.setdiff1d(asked, rows)
    if len(lost):
        raise InputError(
            f"row {lost[0]} of {source} is selected, but the run did not use it",
            file=ind if isinstance(ind, str | Path) else None,
            remedy="select rows of the file that the run was made from, counted from 0",
        )
    return np.isin(rows, asked)


def _rows_of_csv(path: Path) -> NDArray[np.int64]:
    """Row numbers in the first column; a first line that is no number is a header."""
    lines = [(n, line[0]) for n, line in enumerate(_csv_lines(path)) if line]
    if lines and not lines[0][1].lstrip("-").isdigit():
        lines = lines[1:]
    for row, value in lines:
        # eighteen digits are within 64 bits
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise InputError(
                f"'{value}' is not a row number",
                file=path,
                row=row,
                remedy="give zero-based row numbers in the first column",
            )
    return np.array([int(value) for _, value in lines], dtype=np.int64)
