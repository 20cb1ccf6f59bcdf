"""Finding image files: metadata names them relative to a folder that the metadata does not name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from solvar.errors import InputError

_SHOWN = 3


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
        relative = Path(self._stripped(name))
        # an absolute path stays itself when it is joined to a folder
        places = [folder / relative for folder in self._folders()]
        copies = [self.metadata.absolute().parent] if self.datadir is None else self._folders()[:2]
        return list(dict.fromkeys(places + [folder / relative.name for folder in copies]))

    def find(self, name: str, row: int | None = None) -> Path:
        """The first candidate that is a file, absolute.

        Raises
        ------
        InputError
            If there is none: says where it was looked for.
        """
        for place in self.candidates(name):
            if _is_file(place):
                return self._sane(place.absolute(), row)
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
