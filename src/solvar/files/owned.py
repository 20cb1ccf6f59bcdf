"""A folder in which one process writes, through no link, and removes nothing that solvar did not write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from solvar.errors import InputError
from solvar.files.ledger import Entry, Ledger, is_inside
from solvar.files.lock import FolderLock
from solvar.files.reading import NotAFileError
from solvar.files.writing import remove_orphans


@dataclass(frozen=True)
class Writer:
    """Something that writes files in a folder, and replaces those of its last time.

    Attributes
    ----------
    name : str
        In the manifest.
    patterns : tuple of str
        What its files are called; ``*`` and ``[0-9]`` stand for parts of a name.
    """

    name: str
    patterns: tuple[str, ...]

    def owns(self, name: str) -> bool:
        """Whether a file of this name may be one of this writer's."""
        depth = name.count("/")
        return any(fnmatchcase(name, p) and p.count("/") == depth for p in self.patterns)


class OwnedFolder:
    """What `owned` yields: the way to write in a folder.

    Attributes
    ----------
    root : Path
    """

    def __init__(self, root: Path, ledger: Ledger) -> None:
        self.root, self._ledger = root, ledger
        self._written: set[str] = set()

    def file(self, writer: Writer, name: str) -> Path:
        """Where `writer` may write its file `name`, whose folder is made if need be.

        Raises
        ------
        InputError
            If a file of that name is there that solvar did not write, or a folder on the way is a link.
        """
        return self.claim(writer, [name])[0]

    def claim(self, writer: Writer, names: Iterable[str]) -> list[Path]:
        """`file` for several names; the manifest is written once."""
        names = list(names)
        for name in names:
            assert is_inside(name) and writer.owns(name), f"{writer.name} does not write {name}"
            self._refuse_foreign(name)
        for name in names:
            self._make_folders(name)
            self._ledger.files[name] = Entry(writer.name)
        self._written.update(names)
        if names:
            self._ledger.save()
        return [self.root / name for name in names]

    def written_by(self, writer: Writer) -> list[str]:
        """Names in the manifest that `writer` entered and that look like its files."""
        files = self._ledger.files
        return [
            name for name, each in files.items() if each.by == writer.name and writer.owns(name)
        ]

    def remove(self, writer: Writer, first: str | None = None) -> None:
        """Remove the files of `writer`, the one that marks the result as finished `first`.

        Folders that are empty then go too.
        """
        names = self.written_by(writer)
        for name in sorted(names, key=lambda name: (name != first, name)):
            with suppress(FileNotFoundError, NotADirectoryError):
                refuse_links(self.root, name)
                (self.root / name).unlink()
            del self._ledger.files[name]
        if names:
            self._ledger.save()
        for folder in {name.rpartition("/")[0] for name in names} - {""}:
            with suppress(OSError):  # somebody else's files are in it
                (self.root / folder).rmdir()

    def refuse_foreign(self, writer: Writer) -> None:
        """Raise InputError if a file that has the name of one of `writer`'s was not written by solvar."""
        for pattern in writer.patterns:
            refuse_links(self.root, pattern)
            for path in sorted(self.root.glob(pattern)):
                self._refuse_foreign(path.relative_to(self.root).as_posix())

    def seal(self) -> None:
        """Enter size and digest of what was written since the folder is owned."""
        self._ledger.seal(self._written)

    def _refuse_foreign(self, name: str) -> None:
        refuse_links(self.root, name)
        if name not in self._ledger.files and os.path.lexists(self.root / name):
            raise InputError(
                "has the name of a result, but solvar did not write it",
                file=self.root / name,
                remedy="move it away, or choose another --output",
            )

    def _make_folders(self, name: str) -> None:
        place = self.root
        for part in name.split("/")[:-1]:
            place = place / part
            place.mkdir(exist_ok=True)


def refuse_links(root: Path, name: str) -> None:
    """Raise InputError if a folder on the way from `root` to `name` is a link, or no folder.

    The folder itself may be reached through links: who named it knows where it is. A link in place of the
    file is left to `replacing`, which takes its place.
    """
    place = root
    for part in name.split("/")[:-1]:
        place = place / part
        if place.is_symlink():
            raise InputError(
                "is a link, and solvar writes through none inside its folders",
                file=place,
                remedy="put what it leads to in its place, or choose another --output",
            )
        if place.exists() and not place.is_dir():
            raise InputError("is in the way of a folder", file=place, remedy="move it away")


@contextmanager
def owned(folder: Path, purpose: str) -> Iterator[OwnedFolder]:
    """Be the only one who writes in a folder, which is made if need be.

    What killed writers left is removed first. At the end sizes and digests of what was written go to the
    manifest; a folder that was made and stayed empty is removed again.

    Parameters
    ----------
    folder : path
    purpose : str
        Such as "solvar run": told to others who want to write there meanwhile.

    Raises
    ------
    InputError
        If it is no folder, cannot be written to, is being written to by another process, or its manifest
        is damaged.
    """
    folder = Path(folder)
    made = _make(folder)
    try:
        with _locked(folder, purpose):
            remove_orphans(folder)
            own = OwnedFolder(folder, Ledger.read(folder))
            yield own
            own.seal()
    finally:
        for place in made:
            with suppress(OSError):
                place.rmdir()


@contextmanager
def _locked(folder: Path, purpose: str) -> Iterator[None]:
    try:
        lock = FolderLock(folder, purpose)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def _make(folder: Path) -> list[Path]:
    """Make a folder; those that were not there, the innermost first."""
    try:
        new = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    return new


def _unusable(folder: Path, error: OSError) -> InputError:
    if folder.exists() and not folder.is_dir():
        return InputError("is not a folder", file=folder, remedy="choose another --output")
    reason = (error.strerror or str(error)).lower()
    kind = "" if not isinstance(error, NotAFileError) else f": {error.filename}"
    return InputError(
        f"cannot be written to ({reason}{kind})", file=folder, remedy="choose another --output"
    )
