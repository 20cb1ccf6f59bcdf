"""The constants of the microscope that the caller can give where a particle file lacks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError


class Constant(NamedTuple):
    """A constant: its name among the options, and between which values it is believed."""

    name: str
    low: float
    high: float
    unit: str

    @property
    def option(self) -> str:
        """As the command line spells it."""
        return "--" + self.name.replace("_", "-")


# By field of `Optics`.
CONSTANTS = {
    "voltage_kv": Constant("voltage", 1.0, 3000.0, "kV; is it given in volts?"),
    "spherical_aberration_mm": Constant("cs", -20.0, 20.0, "mm"),
    "amplitude_contrast": Constant(
        "amplitude_contrast", 0.0, 1.0, "(a fraction of 1, usually 0.07 to 0.1)"
    ),
    "pixel_size_angstrom": Constant("pixel_size", 1e-3, 1e3, "Å"),
}


def refuse_absurd(given: Mapping[str, float]) -> None:
    """Raise InputError for a given constant, by field of `Optics`, that no microscope has."""
    for field, value in given.items():
        constant = CONSTANTS[field]
        if not constant.low <= value <= constant.high:
            raise InputError(
                f"{constant.option} {value:g} is outside "
                f"{constant.low:g} to {constant.high:g} {constant.unit}",
                remedy="correct the value",
            )


def complete(
    found: Mapping[str, NDArray[Any] | None],
    given: Mapping[str, float],
    count: int,
    missing: Callable[[str, str], InputError],
) -> dict[str, NDArray[Any]]:
    """Constants as the file has them, and as the caller gives them where it has none.

    Values that the file has are left alone; `validate` refuses those that contradict the caller's.

    Parameters
    ----------
    found : mapping of field to (N,) array or None
        None where the file has no such column; NaN where it has no value.
    given : mapping of field to float
    count : int
        N.
    missing : callable (field, remedy) -> InputError
        Says in words of the format that a column is missing.

    Raises
    ------
    InputError
        If neither has a constant; the remedy names the option of each that is missing.
    """
    lacking = [field for field, values in found.items() if values is None and field not in given]
    if lacking:
        raise missing(lacking[0], "pass " + _listed([CONSTANTS[f].option for f in lacking]))
    whole: dict[str, NDArray[Any]] = {}
    for field, values in found.items():
        if values is None:
            whole[field] = np.full(count, given[field])
        elif field in given:
            whole[field] = np.where(np.isnan(values), given[field], values)
        else:
            whole[field] = values
    return whole


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
