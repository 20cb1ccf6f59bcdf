"""manifest.json: what solvar wrote in a folder, by which command, and how to tell it again.

A name is entered before its file is written, so that whatever happens nothing of ours is without an entry;
size and digest follow when the command ends. A manifest that comes with a received folder is
believed no further than that: names stay inside the folder and must look like those that the command writes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from solvar.errors import InputError
from solvar.files.digest import digest_of
from solvar.files.reading import NotAFileError, read_json
from solvar.files.writing import write_json

FILE = "manifest.json"
FORMAT = "solvar-manifest"
FORMAT_VERSION = 1
_DEEPEST = 4


@dataclass(frozen=True)
class Entry:
    """A file that solvar wrote.

    Attributes
    ----------
    by : str
        Name of the `Writer`.
    size, digest : int and str, or None
        None for a file whose writer has not ended well.
    """

    by: str
    size: int | None = None
    digest: str | None = None


@dataclass(eq=False)
class Ledger:
    """The manifest of a folder.

    Attributes
    ----------
    folder : Path
    files : dict of name to Entry
        Names are relative to the folder, parts separated by ``/``.
    """

    folder: Path
    files: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """The manifest of `folder`; an empty one if there is none.

        Raises
        ------
        InputError
            If it is damaged, a link, or somebody else's.
        """
        path = Path(folder) / FILE
        try:
            content = read_json(folder, FILE)
        except (FileNotFoundError, NotADirectoryError):
            return cls(Path(folder))
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError("was not written by solvar", file=path)
        listed = content.get("files")
        if content.get("format_version") != FORMAT_VERSION or not isinstance(listed, dict):
            raise _damaged(path, "files")
        return cls(Path(folder), {name: _entry(path, name, each) for name, each in listed.items()})

    @property
    def folders(self) -> list[str]:
        """Folders below this one that files of ours are in, the inner ones first."""
        found = {str(parent) for name in self.files for parent in PurePosixPath(name).parents[:-1]}
        return sorted(found, reverse=True)

    def save(self) -> None:
        """Write the manifest, whole or not at all; an empty one is none."""
        if not self.files:
            (self.folder / FILE).unlink(missing_ok=True)
            return
        files = {name: vars(entry) for name, entry in sorted(self.files.items())}
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files}
        write_json(self.folder / FILE, content)

    def seal(self, names: Iterable[str]) -> None:
        """Enter size and digest of files that are written; forget those that are not there."""
        names = [name for name in names if name in self.files]
        for name in names:
            try:
                size = os.stat(self.folder / name, follow_symlinks=False).st_size
                self.files[name] = Entry(self.files[name].by, size, digest_of(self.folder, name))
            except (FileNotFoundError, NotADirectoryError):
                del self.files[name]
            except NotAFileError:
                continue  # what has taken its place is not ours
        if names:
            self.save()

    def problem_of(self, name: str) -> str | None:
        """What has become of a file since it was written; None if nothing has."""
        entry = self.files[name]
        try:
            found = os.stat(self.folder / name, follow_symlinks=False)
            if not stat.S_ISREG(found.st_mode):
                return "is no file any more"
            if entry.digest is None:
                return "was not finished by the command that wrote it"
            if found.st_size != entry.size:
                return f"has {found.st_size} bytes instead of {entry.size}"
            return "holds other bytes" if digest_of(self.folder, name) != entry.digest else None
        except (FileNotFoundError, NotADirectoryError):
            return "is missing"
        except OSError as error:
            return f"cannot be read ({error.strerror})"


def is_inside(name: str) -> bool:
    """Whether a name, parts separated by ``/``, leads to a place below its folder."""
    parts = name.split("/")
    plain = all(part not in ("", ".", "..") and "\0" not in part for part in parts)
    return plain and len(parts) <= _DEEPEST and "\\" not in name


def _entry(path: Path, name: str, content: Any) -> Entry:
    if not (is_inside(name) and isinstance(content, dict)):
        raise _damaged(path, name)
    by, size, digest = (content.get(key) for key in ("by", "size", "digest"))
    whole = type(size) is int and isinstance(digest, str)
    if not isinstance(by, str) or not (whole or (size is None and digest is None)):
        raise _damaged(path, name)
    return Entry(by, size, digest)


def _damaged(path: Path, column: str) -> InputError:
    remedy = "choose another --output, or move the folder's content elsewhere"
    return InputError("is damaged", file=path, column=column, remedy=remedy)
