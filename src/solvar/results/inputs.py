"""The files that a job reads: told apart by size, time, place and content, and refused when they change."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from solvar.errors import InputError
from solvar.files import sampled_digest

# To read a stack of 100 GB whole may outlast the fit. A file is read whole up to the first number of bytes,
# all files together up to the second.
_WHOLE_UP_TO = 64 << 20
_ALTOGETHER = 2 << 30
_LEAST = 128 << 10
# copies keep the time of a file to a second or two, depending on the file system
_SAME_TIME_NS = 2 * 10**9


@dataclass(frozen=True)
class InputFile:
    """One file that was read.

    Attributes
    ----------
    path : str
    size : int
        -1 for a folder or a missing file.
    digest : str
        As `solvar.files.sampled_digest` makes it.
    sampled : int
        Bytes that it covers at most.
    modified_ns, inode : int
    """

    path: str
    size: int
    digest: str
    sampled: int = _WHOLE_UP_TO
    modified_ns: int = 0
    inode: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether the digest covers every byte."""
        return self.size <= self.sampled


def describe_files(paths: Iterable[Path]) -> tuple[InputFile, ...]:
    """Each file once, in the order of its first mention."""
    unique = list(dict.fromkeys(Path(path) for path in paths))
    budget = min(_WHOLE_UP_TO, max(_LEAST, _ALTOGETHER // max(len(unique), 1)))
    return tuple(describe_file(path, budget) for path in unique)


def describe_file(path: Path, budget: int = _WHOLE_UP_TO) -> InputFile:
    """What tells a file from another of the same name; reads at most `budget` bytes of it."""
    path = Path(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return InputFile(str(path.absolute()), -1, "")
        digest = sampled_digest(path, budget)
    except OSError:
        return InputFile(str(path.absolute()), -1, "")
    return InputFile(
        str(path.absolute()), found.st_size, digest, budget, found.st_mtime_ns, found.st_ino
    )


def change_of(before: InputFile, path: Path | None = None, *, glance: bool = False) -> str | None:
    """How a file differs from what it was; None if it does not.

    Parameters
    ----------
    before : InputFile
    path : path, optional
        Where the file is now; where it was, by default.
    glance : bool
        Take a file whose size, time and inode are the same for the same without reading it.

    Returns
    -------
    str or None
        Words that follow the name of the file, such as "is gone".
    """
    path = Path(before.path) if path is None else Path(path)
    try:
        found = os.stat(path)
    except OSError:
        return None if before.size < 0 else "is gone"
    seen = (found.st_size, found.st_mtime_ns, found.st_ino)
    if glance and seen == (before.size, before.modified_ns, before.inode):
        return None
    return difference(before, describe_file(path, before.sampled))


def difference(before: InputFile, now: InputFile) -> str | None:
    """How two descriptions of a file differ in what matters; None if they do not.

    A copy has another inode and may have another time: where every byte was compared, these say nothing.
    """
    if now.size != before.size:
        return f"has {now.size} bytes and had {before.size}" if now.size >= 0 else "is gone"
    if now.digest != before.digest:
        return "holds other data"
    later = abs(now.modified_ns - before.modified_ns) > _SAME_TIME_NS
    return "was written to" if later and not now.is_whole else None


def refuse_changed(
    inputs: Sequence[InputFile], places: Sequence[Path] | None = None, *, glance: bool = False
) -> None:
    """Raise InputError if a file is not what it was when the run was made.

    Parameters
    ----------
    inputs : sequence of InputFile
    places : sequence of path, optional
        Where they are now, in the same order.
    glance : bool
        As in `change_of`.
    """
    paths = [Path(each.path) for each in inputs] if places is None else places
    for before, path in zip(inputs, paths, strict=True):
        change = change_of(before, path, glance=glance)
        if change is not None:
            raise InputError(
                f"{change} since the run was made", file=path,
                remedy="restore the file (`cp -p` keeps the time of a copy), or repeat the run",
            )  # fmt: skip
