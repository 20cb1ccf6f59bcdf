"""What can go wrong, in the words of the person at the keyboard."""

from __future__ import annotations

from pathlib import Path

from solvar.text import visible

# Characters; two long paths and a remedy fit.
_LONGEST = 2000


class SolvarError(Exception):
    """A failure that is explained in one sentence; the command line exits with `exit_code`."""

    exit_code = 1


class InputError(SolvarError, ValueError):
    """Bad input: one sentence that names the file, the row, the column and what to do.

    Parameters
    ----------
    problem : str
        What is wrong, without a full stop: "defocus is missing".
    file : path, optional
        The file in which it is wrong.
    row : int, optional
        Zero-based data row; shown one-based, as a text editor counts.
    column : str, optional
        Column, field or setting as it is spelled in the file.
    remedy : str, optional
        What the user can do, without a full stop: "pass --ctf ctf.pkl".
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.file, self.row = problem, file, row
        self.column, self.remedy = column, remedy
        place = [str(file)] if file is not None else []
        place += [f"row {row + 1}"] if row is not None else []
        place += [f"column {column}"] if column is not None else []
        sentence = f"{', '.join(place)}: {problem}" if place else problem
        super().__init__(_one_line(f"{sentence}; {remedy}." if remedy else f"{sentence}."))


def _one_line(text: str) -> str:
    """A sentence that a terminal can show, whatever a file made of the words in it."""
    shown = visible(text)
    if len(shown) <= _LONGEST:
        return shown
    half = _LONGEST // 2
    return f"{shown[:half]} … {shown[-half:]}"
