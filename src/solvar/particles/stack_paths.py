"""Finding image files: metadata names them relative to a folder that the metadata does not name."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from solvar.errors import InputError
from solvar.particles.identity import file_key

_SHOWN = 3


@dataclass(frozen=True)
class FoundElsewhere:
    """Stacks that are not where the metadata says and were found by their base name.

    Attributes
    ----------
    count, total : int
        How many of how many stacks.
    name : str
        The first of them as the metadata spells it.
    file : Path
        What is read in its place.
    """

    count: int
    total: int
    name: str
    file: Path

    def sentence(self) -> str:
        """What was done, in plain words."""
        one, all_ = self.count == 1, "" if self.total == 1 else "s"
        return (
            f"{self.count:,} of {self.total:,} stack{all_} {'is' if one else 'are'} not where the particle "
            f"file says and {'was' if one else 'were'} found by the file name alone: "
            f"{self.name} is read from {self.file}."
        )


@dataclass(frozen=True)
class StackFinder:
    """Turns stack names into existing files.

    Attributes
    ----------
    metadata : Path
        The file that holds the names.
    datadir : Path or None
        Folder to try first.
    strip_prefix : str or None
        Leading path to remove from every name.
    working_folder : Path
        Folder to try last.
    """

    metadata: Path
    datadir: Path | None = None
    strip_prefix: str | None = None
    working_folder: Path = field(default_factory=Path.cwd)

    def candidates(self, name: str) -> list[Path]:
        """Where `name` may be, most explicit first."""
        base_name = Path(self._stripped(name)).name
        copies = [self.metadata.absolute().parent] if self.datadir is None else self._folders()[:2]
        by_base_name = [folder / base_name for folder in copies]
        return list(dict.fromkeys(self._as_named(name) + by_base_name))

    def _as_named(self, name: str) -> list[Path]:
        """The candidates that end with the whole name."""
        # an absolute path stays itself when it is joined to a folder
        return [folder / self._stripped(name) for folder in self._folders()]

    def first_file(self, name: str) -> Path | None:
        """The first candidate that is a file; None if none is."""
        return next((place for place in self.candidates(name) if _is_file(place)), None)

    def find(self, name: str, row: int | None = None) -> Path:
        """The first candidate that is a file, absolute.

        Raises
        ------
        InputError
            If there is none: says where it was looked for.
        """
        return self._find(name, row)[0]

    def find_all(
        self, names: Sequence[str], rows: Sequence[int]
    ) -> tuple[list[Path], FoundElsewhere | None]:
        """Files of all stacks, and what is to be said of those that were found by their base name.

        Parameters
        ----------
        names : sequence of str
            Distinct.
        rows : sequence of int
            The first row with each name, rising.

        Raises
        ------
        InputError
            As `find`, and if a base name leads to a file that another name leads to as well: only one
            of them can be meant.
        """
        found = [self._find(name, row) for name, row in zip(names, rows, strict=True)]
        files = [file for file, _ in found]
        elsewhere = [place for place, (_, by_base_name) in enumerate(found) if by_base_name]
        if not elsewhere:
            return files, None
        self._refuse_shared(names, rows, found)
        first = elsewhere[0]
        told = FoundElsewhere(len(elsewhere), len(names), names[first], files[first])
        return files, told

    def _refuse_shared(
        self, names: Sequence[str], rows: Sequence[int], found: list[tuple[Path, bool]]
    ) -> None:
        """Raise InputError if two names share a file that one of them was guessed to mean."""
        first: dict[Hashable, int] = {}
        for place, (file, by_base_name) in enumerate(found):
            other = first.setdefault(file_key(file), place)
            mine, theirs = (os.path.normpath(self._stripped(names[p])) for p in (place, other))
            if mine == theirs or not (by_base_name or found[other][1]):
                continue
            raise InputError(
                f"{names[place]} and {names[other]} (row {rows[other] + 1}) are two stacks, but only "
                f"one file of that name is found, {file}",
                file=self.metadata,
                row=rows[place],
                remedy="pass --datadir with the folder that the whole paths are relative to; "
                "copies of stacks need the subfolders of the originals",
            )

    def _find(self, name: str, row: int | None) -> tuple[Path, bool]:
        """As `find`, and whether the base name alone led there."""
        place = self.first_file(name)
        if place is not None:
            return self._sane(place.absolute(), row), place not in self._as_named(name)
        folders = [str(folder) for folder in self._folders()]
        more = f" and {len(folders) - _SHOWN} more folders" if len(folders) > _SHOWN else ""
        raise InputError(
            f"image file {self._stripped(name)} is not found "
            f"(looked from {', '.join(folders[:_SHOWN])}{more})",
            file=self.metadata,
            row=row,
            remedy="pass --datadir with the folder the paths are relative to, "
            "and --strip-prefix to remove a leading path",
        )

    def _sane(self, place: Path, row: int | None) -> Path:
        # known now and not when results are written, hours later
        if any(not character.isprintable() or character == '"' for character in str(place)):
            raise InputError(
                f"image file {str(place)!r} has a name that no star file can hold",
                file=self.metadata,
                row=row,
                remedy="rename it without quotation marks and control characters",
            )
        return place

    def _folders(self) -> list[Path]:
        """Folders that names may be relative to.

        RELION and cryoSPARC write paths relative to the project folder, usually an ancestor of the
        folder of the metadata file.
        """
        folder = self.metadata.absolute().parent
        given = [] if self.datadir is None else [self.datadir.absolute()]
        return list(dict.fromkeys([*given, folder, *folder.parents, self.working_folder]))

    def _stripped(self, name: str) -> str:
        prefix = self.strip_prefix
        if not prefix or not name.startswith(prefix):
            return name
        rest = name[len(prefix) :]
        # "Extract/job1" must not eat the beginning of "Extract/job10/…"
        return rest.lstrip("/") if prefix.endswith("/") or rest.startswith("/") else name


def lasting_name(spelled: str, stack: Path, metadata: Path) -> str:
    """The name of `stack` in a file at `metadata`: one that is found from any working folder.

    It stays as it is spelled where it leads to the same file from the folder of `metadata` or the nearest
    one above that holds such a name: RELION and cryoSPARC, which look from the project folder, find it
    there as before. Otherwise it is the absolute path, which every program finds.

    Parameters
    ----------
    spelled : str
        The name in the file that the particles were read from.
    stack : Path
        The image file that it was found to be, absolute.
    metadata : Path
        Where the name is to be written; the file need not exist.
    """
    # a folder that is a link may be entered by either of its names
    folders = {metadata.absolute().parent, metadata.resolve().parent}
    return spelled if all(_leads(spelled, stack, folder) for folder in folders) else str(stack)


def _leads(name: str, stack: Path, folder: Path) -> bool:
    for place in (folder, *folder.parents):
        if _is_file(place / name):
            try:
                return (place / name).samefile(stack)
            except OSError:
                return False
    return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    # too long, a NUL character, or a folder that may not be entered
    except (OSError, ValueError):
        return False
