"""cryoSPARC's alignments to several classes: which of them is the pose of a particle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError

Fields = dict[str, NDArray[Any]]

_MULTI = "alignments3D_multi"
_REMEDY = (
    "refine all particles against one volume (a homogeneous refinement) and pass its particles, "
    "or leave such particles out there"
)
# Shape of one class in one row.
_SHAPES: dict[str, tuple[int, ...]] = {"pose": (3,), "shift": (2,), "psize_A": (), "split": ()}
_MOST_SHOWN = 20


def with_likely_class(path: Path, fields: Fields) -> tuple[Fields, tuple[str, ...]]:
    """Fields with the alignment of each particle to its likeliest class as the one alignment.

    Where particles differ in their class, a remark says so: every class has a volume of its own, and
    nothing in the file says that those lie over each other. Fields with alignments to one volume are returned
    as they are.

    Parameters
    ----------
    path : Path
        For messages.
    fields : mapping of name to (N, …) array
        K classes: `alignments3D_multi/pose` (N, K, 3), `shift` (N, K, 2), `class_posterior` (N, K).

    Returns
    -------
    mapping of name to array
    tuple of str
        Remarks, in plain sentences.

    Raises
    ------
    InputError
        If a particle has no class that is likelier than the others.
    """
    pose = fields.get(f"{_MULTI}/pose")
    if "alignments3D/pose" in fields or pose is None:
        return fields, ()
    count = pose.shape[1] if pose.ndim == 3 else 0
    found = {name: _of_classes(path, fields, name, count) for name in _SHAPES}
    chosen = np.zeros(len(pose), np.int64) if count == 1 else _likeliest(path, fields, count)
    sizes = np.bincount(chosen, minlength=count)
    remarks: tuple[str, ...] = ()
    if np.count_nonzero(sizes) > 1:
        shown = ", ".join(f"{size:,}" for size in sizes[:_MOST_SHOWN])
        remarks = (
            f"Each particle has the pose of its likeliest of {count} classes (of {shown} particles): "
            "make sure that the volumes of the classes lie over each other.",
        )
    row = np.arange(len(pose))
    likely = {
        f"alignments3D/{name}": values[row, chosen]
        for name, values in found.items()
        if values is not None
    }
    return fields | likely, remarks


def _of_classes(path: Path, fields: Fields, name: str, count: int) -> NDArray[Any] | None:
    values = fields.get(f"{_MULTI}/{name}")
    if values is None:
        return None
    if values.shape[1:] == () == _SHAPES[name]:
        values = np.repeat(values[:, None], max(count, 1), axis=1)
    if count == 0 or values.shape[1:] != (count, *_SHAPES[name]) or values.dtype.kind not in "fiu":
        raise InputError(
            f"holds {values.dtype} of shape {values.shape[1:]}, not what cryoSPARC writes there",
            file=path,
            column=f"{_MULTI}/{name}",
            remedy="export it again",
        )
    return values


def _likeliest(path: Path, fields: Fields, count: int) -> NDArray[np.int64]:
    """The class with the highest posterior in each row, (N,)."""
    column = f"{_MULTI}/class_posterior"
    posterior = fields.get(column)
    if posterior is None or posterior.shape[1:] != (count,) or posterior.dtype.kind not in "fiu":
        raise InputError(
            f"has alignments to {count} classes and no posterior that says which holds",
            file=path,
            column=f"{_MULTI}/pose",
            remedy=_REMEDY,
        )
    top = np.sort(posterior.astype(np.float64), axis=1)[:, -2:]
    # NaN sorts last and is above nothing
    tied = np.flatnonzero(~(top[:, 1] > top[:, 0]))
    if len(tied):
        raise InputError(
            f"no class is likelier than the others (in {len(tied):,} rows)",
            file=path,
            row=int(tied[0]),
            column=column,
            remedy=_REMEDY,
        )
    return posterior.argmax(axis=1)
