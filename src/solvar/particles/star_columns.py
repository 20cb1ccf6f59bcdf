"""Columns of a star file's particles, as numbers and as text, from whichever table has them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.particles.validate import LARGEST_ANGLE_DEGREE

if TYPE_CHECKING:
    import pandas as pd

Float64 = NDArray[np.float64]

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


class StarColumns:
    """Looks a quantity up where the dialect keeps it: optics table or beside each particle."""

    def __init__(self, path: Path, particles: pd.DataFrame, optics: pd.DataFrame | None) -> None:
        self.path, self.particles, self.optics = path, particles, optics
        self.group_row = self._group_rows()

    def __len__(self) -> int:
        return len(self.particles)

    def numbers(self, name: str, remedy: str) -> Float64:
        """A particle column, (N,) float64."""
        if name not in self.particles.columns:
            raise self.missing(name, remedy)
        return as_numbers(self.particles[name], name, self.path)

    def optional(self, name: str) -> Float64:
        """A particle column, or zeros."""
        return self.numbers(name, "") if name in self.particles.columns else np.zeros(len(self))

    def given(self, name: str) -> Float64 | None:
        """A particle column, if there is one."""
        return self.numbers(name, "") if name in self.particles.columns else None

    def rotations(self, names: tuple[str, str, str], remedy: str) -> Float64:
        """R = Rz(rot)·Ry(tilt)·Rz(psi) of three columns of angles in degrees, (N, 3, 3); NaN where one is."""
        from scipy.spatial.transform import Rotation

        angles = np.stack([self.numbers(name, remedy) for name in names], axis=-1)
        odd = np.argwhere(np.abs(angles) > LARGEST_ANGLE_DEGREE)
        if len(odd):
            row, column = (int(place) for place in odd[0])
            raise InputError(
                f"{angles[row, column]:g} is no angle",
                file=self.path,
                row=row,
                column=names[column],
                remedy="correct the value",
            )
        finite = np.isfinite(angles).all(axis=1)
        found = np.full((len(angles), 3, 3), np.nan)
        found[finite] = Rotation.from_euler("ZYZ", angles[finite], degrees=True).as_matrix()
        return found

    def constant(self, name: str, remedy: str) -> Float64:
        """An optical constant of each particle, (N,) float64."""
        if self.optics is not None and name in self.optics.columns:
            return as_numbers(self.optics[name], name, self.path)[self.group_row]
        return self.numbers(name, remedy)

    def has(self, name: str) -> bool:
        in_optics = self.optics is not None and name in self.optics.columns
        return in_optics or name in self.particles.columns

    def has_any(self, names: tuple[str, ...]) -> bool:
        return bool(self.particles.columns.isin(names).any())

    def of_rows(self, name: str, row: NDArray[np.int64]) -> pd.Series | None:
        """What a column says of some particles, as it is spelled; None if there is no such column."""
        if self.optics is not None and name in self.optics.columns:
            return self.optics[name].iloc[self.group_row[row]]
        return self.particles[name].iloc[row] if name in self.particles.columns else None

    def missing(self, name: str, remedy: str, problem: str = "is missing") -> InputError:
        """That a column is missing, and that `data_optics` is, where the file refers to it."""
        if self.optics is None and "rlnOpticsGroup" in self.particles.columns:
            remedy = "the data_optics block is missing from the file, " + remedy
        return InputError(problem, file=self.path, column=name, remedy=remedy)

    def _group_rows(self) -> NDArray[np.int64]:
        """Row of the optics table that each particle refers to."""
        if self.optics is None:
            return np.zeros(len(self), dtype=np.int64)
        if "rlnOpticsGroup" not in self.particles.columns and len(self.optics) == 1:
            return np.zeros(len(self), dtype=np.int64)
        number = self.numbers("rlnOpticsGroup", "write the file again with RELION")
        if "rlnOpticsGroup" in self.optics.columns:
            known = as_numbers(self.optics["rlnOpticsGroup"], "rlnOpticsGroup", self.path)
        else:
            known = np.arange(1.0, len(self.optics) + 1)
        order = np.argsort(known)
        place = order[np.minimum(np.searchsorted(known[order], number), len(known) - 1)]
        unknown = np.flatnonzero(known[place] != number)
        if len(unknown):
            raise InputError(
                f"optics group {number[unknown[0]]:g} is not in the data_optics block",
                file=self.path,
                row=int(unknown[0]),
                column="rlnOpticsGroup",
                remedy="add the group to data_optics, or correct the number",
            )
        return place


def as_numbers(column: pd.Series, name: str, path: Path) -> Float64:
    """A column (N,) as numbers, NaN where it says so; InputError for the first other word."""
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    odd = np.flatnonzero(np.isnan(values) & column.notna().to_numpy())
    if len(odd):
        raise InputError(
            f"'{column.iloc[odd[0]]}' is not a number",
            file=path,
            row=int(odd[0]),
            column=name,
            remedy="correct the value",
        )
    return values


def as_words(column: pd.Series) -> pd.Series:
    """A column as text: pandas takes "nan" for a value that is missing, and numbers those as -1."""
    return column.astype(str).fillna("nan")


def angles_of(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """rot, tilt and psi (K, 3), degrees, of rotations (K, 3, 3)."""
    from scipy.spatial.transform import Rotation

    with warnings.catch_warnings():
        # views along the axis have no unique angles; any of them is right
        warnings.filterwarnings("ignore", message="Gimbal lock")
        return np.asarray(Rotation.from_matrix(rotation).as_euler("ZYZ", degrees=True))
