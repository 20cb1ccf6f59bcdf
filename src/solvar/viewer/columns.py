"""What particles can be coloured by: numbers or labels, one a particle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import open_inside, refuse_hollow
from solvar.report.interactive.theme import MOST_LABELS

Float32 = NDArray[np.float32]

_IMAGE_NAME = "rlnImageName"


@dataclass(frozen=True, eq=False)
class Column:
    """One property of N particles.

    Attributes
    ----------
    title : str
        With its unit.
    values : (N,) float32
        Numbers; NaN where unknown. For labels, their index.
    labels : tuple of str or None
        What the indices mean; None for numbers.
    """

    title: str
    values: Float32
    labels: tuple[str, ...] | None = None

    @classmethod
    def of_labels(cls, title: str, labels: NDArray) -> Column:
        """Labels (N,) of any type in their order; numbers take the place of too many of them."""
        import pandas as pd

        # a table of what is known: to sort a million names would take seconds
        index, known = pd.factorize(labels, sort=True)
        names = tuple(str(name) for name in known) if len(known) <= MOST_LABELS else None
        return cls(title, index.astype(np.float32), names)


@dataclass(frozen=True)
class StarTable:
    """Where the particles of a star file stand; the rows themselves are read when asked for.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        Without the leading underscore.
    first_row : int
        Zero-based line of the first particle.
    """

    path: Path
    columns: tuple[str, ...]
    first_row: int

    def read(self, name: str) -> Column:
        """One column as numbers, or as labels where it holds text.

        A million rows are parsed for this one column alone: a table of all of them would take
        gigabytes.

        Raises
        ------
        InputError
            If the file has no such column or is damaged.
        """
        import pandas as pd

        if name not in self.columns:
            raise InputError("is missing", file=self.path, column=name)
        try:
            with open_inside(self.path.parent, self.path.name) as file:
                refuse_hollow(file)
                table = pd.read_csv(
                    file, sep=r"\s+", header=None, names=list(self.columns), usecols=[name],
                    skiprows=self.first_row, comment="#", skip_blank_lines=True,
                )  # fmt: skip
        except (OSError, ValueError) as error:
            raise InputError(f"cannot be read ({error})", file=self.path, column=name) from error
        values = table[name]
        if values.dtype.kind in "iuf":
            with np.errstate(over="ignore"):
                numbers = values.to_numpy(dtype=np.float32)
            return Column(name, np.where(np.isfinite(numbers), numbers, np.float32(np.nan)))
        return Column.of_labels(name, values.astype(str).fillna("nan").to_numpy())


def open_star(path: Path) -> StarTable | None:
    """The particle table of a star file that `solvar run` wrote; None if it is not there."""
    try:
        with open_inside(path.parent, path.name) as file:
            refuse_hollow(file)
            columns: list[str] = []
            for number, line in enumerate(io.TextIOWrapper(file, "utf-8")):
                word = line.strip()
                if word.startswith("_"):
                    columns.append(word.split()[0][1:])
                elif word in ("", "loop_") or word.startswith(("#", "data_")):
                    columns = [] if word else columns
                elif _IMAGE_NAME in columns:
                    return StarTable(path, tuple(columns), number)
    except (OSError, UnicodeDecodeError):
        return None
    return None


def shown_columns(table: StarTable) -> Iterator[str]:
    """Columns worth a colour: not the names of single images, nor what the run itself added."""
    return (c for c in table.columns if c != _IMAGE_NAME and not c.startswith("solvar"))
