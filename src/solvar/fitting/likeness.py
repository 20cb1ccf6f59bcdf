"""Whether content that comes back from a checkpoint is what a fit can go on from."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from solvar.files import rest


def is_like(found: Any, template: Any, count: int) -> bool:
    """Whether two contents have the same form: classes, names, lengths, shapes and types, and no NaN.

    Parameters
    ----------
    found : content of a checkpoint
        See `Workspace`.
    template : content
        The same before the step was taken, with other values.
    count : int
        Number of particles; arrays of whole numbers are positions of particles.
    """
    if isinstance(template, np.ndarray):
        return isinstance(found, np.ndarray) and _is_like_array(found, template, count)
    if is_dataclass(template) and not isinstance(template, type):
        names = [each.name for each in fields(template)]
        return type(found) is type(template) and all(
            is_like(getattr(found, name), getattr(template, name), count) for name in names
        )
    if isinstance(template, dict):
        return (
            isinstance(found, dict)
            and found.keys() == template.keys()
            and all(is_like(found[key], template[key], count) for key in template)
        )
    if isinstance(template, list | tuple):
        return (
            type(found) is type(template)
            and len(found) == len(template)
            and all(is_like(*pair, count) for pair in zip(found, template, strict=True))
        )
    if isinstance(template, float):
        # numpy's floats come back as Python's
        return isinstance(found, float) and found == found
    return type(found) is type(template)


def _is_like_array(found: np.ndarray, template: np.ndarray, count: int) -> bool:
    if found.shape != template.shape or found.dtype != template.dtype:
        return False
    if found.dtype.kind in "iu":
        return bool(((found >= 0) & (found < count)).all())
    sound = found.dtype.kind == "b" or not np.isnan(found).any()
    rest(found)
    return sound


def is_history(found: Any) -> bool:
    """Whether content is a list of records of numbers by name."""
    return isinstance(found, list) and all(
        isinstance(record, dict)
        and all(isinstance(name, str) for name in record)
        and all(isinstance(value, int | float) for value in record.values())
        for record in found
    )
