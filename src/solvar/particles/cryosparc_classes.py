"""cryoSPARC's alignments to several classes: when one of them is the pose of every particle."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError

log = logging.getLogger(__name__)

Fields = dict[str, NDArray[Any]]

_MULTI = "alignments3D_multi"
_REMEDY = (
    "refine all particles against one volume (a homogeneous refinement) and pass its particles, "
    "or pass the particles of one class"
)
# Shape of one class in one row.
_SHAPES: dict[str, tuple[int, ...]] = {"pose": (3,), "shift": (2,), "psize_A": ()}


def with_likely_class(path: Path, fields: Fields) -> Fields:
    """Fields with the alignments to the class that is the likeliest of every particle.

    Every class has a volume of its own, and nothing says that those lie over each other: poses of
    different classes are not mixed. Fields with alignments to one volume are returned as they are.

    Parameters
    ----------
    path : Path
        For messages.
    fields : mapping of name to (N, …) array
        K classes: `alignments3D_multi/pose` (N, K, 3), `shift` (N, K, 2), `class_posterior` (N, K).

    Raises
    ------
    InputError
        If particles have different likeliest classes, or one has none.
    """
    if "alignments3D/pose" in fields or f"{_MULTI}/pose" not in fields:
        return fields
    count = fields[f"{_MULTI}/pose"].shape[1] if fields[f"{_MULTI}/pose"].ndim > 1 else 0
    found = {name: _of_classes(path, fields, name, count) for name in _SHAPES}
    chosen = 0 if count == 1 else _likeliest(path, fields, count)
    log.warning("%s: poses are those of class %d of %d", path, chosen + 1, count)
    return fields | {
        f"alignments3D/{name}": values[:, chosen]
        for name, values in found.items()
        if values is not None
    }


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


def _likeliest(path: Path, fields: Fields, count: int) -> int:
    """The class with the highest posterior in every row."""
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
            "no class is likelier than the others",
            file=path,
            row=int(tied[0]),
            column=column,
            remedy=_REMEDY,
        )
    sizes = np.bincount(posterior.argmax(axis=1), minlength=count)
    if np.count_nonzero(sizes) > 1:
        shown = ", ".join(f"{size:,}" for size in sizes[:20])
        raise InputError(
            f"poses refer to the volumes of {count} classes (of {shown} particles), which need not "
            "lie over each other",
            file=path,
            column=f"{_MULTI}/pose",
            remedy=_REMEDY,
        )
    return int(sizes.argmax())
