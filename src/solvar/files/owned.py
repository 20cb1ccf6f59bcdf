"""A folder in which one process writes, through no link, and removes nothing that solvar did not write."""

from __future__ import annotations

import os
import stat
import threading
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

_TRIES = 20


@dataclass(frozen=True)
class Writer:
    """Something that writes files in a folder, and replaces those of its last time.

    Attributes
    ----------
    name : str
        In the manifest.
    patterns : tuple of str
        What its files are called; ``*`` and ``[0-9]`` stand for parts of a name. Files that speak of
        others come before these: they are removed first.
    """

    name: str
    patterns: tuple[str, ...]

    def owns(self, name: str) -> bool:
        """Whether a file of this name may be one of this writer's."""
        return self.place_of(name) < len(self.patterns)

    def place_of(self, name: str) -> int:
        """Number of the first pattern that a name fits; that of patterns if it fits none."""
        depth = name.count("/")
        fits = (fnmatchcase(name, p) and p.count("/") == depth for p in self.patterns)
        return next((number for number, it_does in enumerate(fits) if it_does), len(self.patterns))


class OwnedFolder:
    """What `owned` yields: the way to write in a folder.

    Attributes
    ----------
    root : Path
    """

    def __init__(self, root: Path, ledger: Ledger, lock: FolderLock) -> None:
        self.root, self._ledger, self._lock = root, ledger, lock
        self._written: set[str] = set()
        # threads of one process may share the right
        self._mutex = threading.RLock()

    def file(self, writer: Writer, name: str) -> Path:
        """Where `writer` may write its file `name`, whose folder is made if need be.

        Raises
        ------
        InputError
            As `refuse_taken`.
        """
        return self.claim(writer, [name])[0]

    def claim(self, writer: Writer, names: Iterable[str]) -> list[Path]:
        """`file` for several names; the manifest is written once."""
        names = list(names)
        with self._mutex:
            self._lock.refuse_lost()
            self.refuse_taken(writer, names)
            self._ledger.files.update((name, Entry(writer.name)) for name in names)
            self._written.update(names)
            if names:
                self._ledger.save()
            # afterwards: no folder is left that the manifest does not lead to
            for name in names:
                self._make_folders(name)
        return [self.root / name for name in names]

    def refuse_taken(self, writer: Writer, names: Iterable[str]) -> None:
        """Raise InputError if `writer` may not write its files `names`.

        That is if a file of such a name is another's, or a folder on the way is a link.
        """
        for name in names:
            assert is_inside(name) and writer.owns(name), f"{writer.name} does not write {name}"
            self._refuse_foreign(name, writer)

    def unlisted(self, names: Iterable[str]) -> list[Path]:
        """Where files `names` may be written that are no results and do not enter the manifest.

        Folders on the way are made if need be.

        Raises
        ------
        InputError
            If a result has such a name, or a folder on the way is a link.
        """
        names = list(names)
        self._lock.refuse_lost()
        for name in names:
            refuse_links(self.root, name)
            if name in self._ledger.files:
                raise InputError(
                    "is a result that solvar keeps here, and is never replaced by anything else",
                    file=self.root / name,
                    remedy="choose another --output",
                )
        for name in names:
            self._make_folders(name)
        return [self.root / name for name in names]

    def unfinished(self, writer: Writer) -> list[str]:
        """Those of `written_by` whose command was killed before it had entered what it wrote."""
        return [
            name
            for name in self.written_by(writer)
            if self._ledger.files[name].digest is None and name not in self._written
        ]

    def adopt(self, names: Iterable[str]) -> None:
        """Enter size and digest of files that a command wrote whole before it was killed."""
        with self._mutex:
            self._ledger.seal(names)

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
        with self._mutex:
            self._lock.refuse_lost()
            names, folders = self.written_by(writer), self._ledger.folders
            if not names:
                return
            for name in names:
                self._refuse_foreign(name, writer)
            # whoever finds some of them after a kill must not take them for whole
            self._ledger.files.update((name, Entry(writer.name)) for name in names)
            self._ledger.save()
            for name in sorted(
                names, key=lambda name: (name != first, writer.place_of(name), name)
            ):
                (self.root / name).unlink(missing_ok=True)
                del self._ledger.files[name]
            for folder in folders:
                if any(name.startswith(f"{folder}/") for name in names):
                    with suppress(OSError):  # other files are in it
                        (self.root / folder).rmdir()
            self._ledger.save()

    def refuse_foreign(self, writer: Writer) -> None:
        """Raise InputError if a file that has the name of one of `writer`'s is another's."""
        for pattern in writer.patterns:
            refuse_links(self.root, pattern)
            for path in sorted(self.root.glob(pattern)):
                self._refuse_foreign(path.relative_to(self.root).as_posix(), writer)

    def seal(self, writer: Writer | None = None) -> None:
        """Enter size and digest of what was written since the folder is owned, all of it or by `writer`."""
        with self._mutex:
            self._lock.refuse_lost()
            self._ledger.seal(name for name in self._written if writer is None or writer.owns(name))

    def _refuse_foreign(self, name: str, writer: Writer) -> None:
        refuse_links(self.root, name)
        if not os.path.lexists(self.root / name):
            return
        entry = self._ledger.files.get(name)
        if entry is None or stat.S_ISDIR(os.lstat(self.root / name).st_mode):
            raise InputError(
                "has the name of a result, but solvar did not write it",
                file=self.root / name,
                remedy="move it away, or choose another --output",
            )
        if entry.by != writer.name:
            raise InputError(
                f"is a result of another kind ({entry.by}), and is not replaced",
                file=self.root / name,
                remedy="choose another --output",
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


def inside(folder: Path, path: Path) -> str | None:
    """The name of `path` below `folder`, parts separated by ``/``, whatever links lead to either.

    Returns
    -------
    str or None
        "." for the folder itself; None for a path that lies elsewhere, or a folder that is not there.
    """
    for named in (Path(os.path.abspath(path)), Path(path).resolve()):
        for place in (named, *named.parents):
            with suppress(OSError):
                if place.samefile(folder):
                    return named.relative_to(place).as_posix()
    return None


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
    lock, made = _entered(folder, purpose)
    try:
        ledger = Ledger.read(folder)
        # nowhere else: other folders below this one may have owners who live
        remove_orphans(folder, ledger.folders)
        own = OwnedFolder(folder, ledger, lock)
        yield own
        own.seal()
    finally:
        lock.release()
        _remove_empty(made)


def _entered(folder: Path, purpose: str) -> tuple[FolderLock, list[Path]]:
    """The lock of a folder, and the folders that were made for it, the innermost first."""
    for left in reversed(range(_TRIES)):
        made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return FolderLock(folder, purpose), made
        except OSError as error:
            _remove_empty(made)
            # who had made the folder wrote nothing, and has removed it
            if not (isinstance(error, FileNotFoundError) and left):
                raise _unusable(folder, error) from error
        except InputError:
            _remove_empty(made)
            raise
    raise AssertionError


def _remove_empty(folders: list[Path]) -> None:
    for place in folders:
        with suppress(OSError):
            place.rmdir()


def _unusable(folder: Path, error: OSError) -> InputError:
    if folder.exists() and not folder.is_dir():
        return InputError("is not a folder", file=folder, remedy="choose another --output")
    reason = (error.strerror or str(error)).lower()
    kind = "" if not isinstance(error, NotAFileError) else f": {error.filename}"
    return InputError(
        f"cannot be written to ({reason}{kind})", file=folder, remedy="choose another --output"
    )
