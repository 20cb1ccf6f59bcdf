"""Sets of particles whose volumes are wanted: clusters, states, selections."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.selection import FOLDER, Selection, labels, select
from solvar.errors import InputError
from solvar.results.run import Run
from solvar.volumes.targets import Targets

Int64 = NDArray[np.int64]


def labelled(run: Run, kind: str, wanted: list[int]) -> Targets:
    """Sets of one cluster or state each; all that there are if none is named.

    Parameters
    ----------
    run : Run
    kind : {"cluster", "state"}
    wanted : list of int
        Labels from 1.

    Raises
    ------
    InputError
        If the run was not analysed, or has no such label.
    """
    found = labels(run, kind, wanted)
    every = [int(label) for label in np.unique(found[found > 0])]
    if not wanted and not every:
        raise InputError(f"the analysis found no separate {kind}s", file=run.folder)
    numbers = list(dict.fromkeys(wanted)) or every
    members = [np.flatnonzero(found == n) for n in numbers]
    return _of_members(run, kind, tuple(f"{kind}_{n:03d}" for n in numbers), members)


def selected(run: Run, name: str) -> Targets:
    """The set of a selection that was saved in the viewer, or of a file with rows of the particle file.

    Raises
    ------
    InputError
        If there is none of this name, or it does not fit the run.
    """
    saved = run.folder / FOLDER / f"{name}.npy"
    path = saved if os.path.lexists(saved) else Path(name)
    if not os.path.lexists(path):
        raise InputError(
            f"there is no selection {name!r}",
            file=run.folder / FOLDER,
            remedy="save one in `solvar view`, or name a file of rows (.npy, .txt, .csv)",
        )
    return _of_members(run, "selection", (path.stem,), [select(run, Selection(ind=path))])


def _of_members(run: Run, kind: str, names: tuple[str, ...], members: list[Int64]) -> Targets:
    z = np.stack([run.posterior.z[index].mean(axis=0) for index in members])
    return Targets(z, names, kind, tuple(members))
