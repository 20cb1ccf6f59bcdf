"""`Reading`: how a particle file was read, so that it can be read the same way again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from solvar.errors import InputError
from solvar.files import explained, open_regular
from solvar.particles.constants import CONSTANTS, refuse_absurd
from solvar.particles.stack_paths import StackFinder


@dataclass(frozen=True)
class Reading:
    """What the caller adds to a metadata file; the rows to keep are not part of it.

    Relative paths become absolute, so that the record holds in any folder.

    Attributes
    ----------
    datadir : Path or None
        Folder in which image files are looked for first.
    strip_prefix : str or None
        Leading path to remove from the names of image files.
    poses, ctf : Path or None
        cryoDRGN pickles that take the place of the poses and CTFs of the file.
    passthrough : tuple of Path
        cryoSPARC passthrough files.
    tomograms : Path or None
        Star file of the tomograms that the particles are of; None: the one beside them.
    ignore_poses : bool
        Leave poses unread, where there are any: every particle then has the identity and no shift.
    pixel_size, voltage, cs, amplitude_contrast : float or None
        Constants (Å, kV, mm, fraction) for where the file has none; they contradict it nowhere.
    tilts : int or None
        Of a tilt series the first exposures alone, so many in the order of dose.
    dose : float or None
        Of a tilt series the images of specimens that had received so much at most, e/Å².
    working_folder : Path
        Folder that the program was started in: the last in which image files are looked for.
    """

    datadir: Path | None = None
    strip_prefix: str | None = None
    poses: Path | None = None
    ctf: Path | None = None
    passthrough: tuple[Path, ...] = ()
    tomograms: Path | None = None
    ignore_poses: bool = False
    pixel_size: float | None = None
    voltage: float | None = None
    cs: float | None = None
    amplitude_contrast: float | None = None
    tilts: int | None = None
    dose: float | None = None
    working_folder: Path = field(default_factory=Path.cwd)

    def __post_init__(self) -> None:
        for name in ("datadir", "poses", "ctf", "tomograms", "working_folder"):
            path = getattr(self, name)
            if path is not None:
                object.__setattr__(self, name, Path(path).absolute())
        joined = tuple(Path(path).absolute() for path in self.passthrough)
        object.__setattr__(self, "passthrough", joined)
        for constant in CONSTANTS.values():
            value = getattr(self, constant.name)
            if value is not None:
                object.__setattr__(self, constant.name, float(value))
        if self.dose is not None:
            object.__setattr__(self, "dose", float(self.dose))

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Reading:
        """From options by name, as `run.json` keeps them; what is not there has its default."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in known})

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that are read beside the metadata file and the images."""
        others = (self.poses, self.ctf, self.tomograms)
        return (*(path for path in others if path is not None), *self.passthrough)

    @property
    def reads_poses(self) -> bool:
        """Whether the metadata file itself is asked for poses."""
        return self.poses is None and not self.ignore_poses

    @property
    def constants(self) -> dict[str, float]:
        """The constants that are given, by field of `Optics`."""
        values = {field: getattr(self, constant.name) for field, constant in CONSTANTS.items()}
        return {field: value for field, value in values.items() if value is not None}

    @property
    def limits(self) -> str:
        """The options that leave out images of tilt series, as they are typed; empty without any."""
        given = {"--tilts": self.tilts, "--dose": self.dose}
        return " ".join(f"{name} {value:g}" for name, value in given.items() if value is not None)

    def without_limits(self) -> Reading:
        """The same with all images of tilt series."""
        return replace(self, tilts=None, dose=None)

    def updated(self, given: Mapping[str, Any]) -> Reading:
        """The same with each option of `given` that is set in place of its own."""
        # 0 is a number that may be meant
        said = {
            name: value
            for name, value in given.items()
            if value is not False and value not in (None, [], ())
        }
        return replace(self, **said)

    def finder(self, metadata: Path) -> StackFinder:
        """Finds the image files that `metadata` names."""
        return StackFinder(metadata, self.datadir, self.strip_prefix, self.working_folder)

    def check(self) -> None:
        """Raise InputError unless every file and folder is there and constants can be true."""
        if self.datadir is not None and not self.datadir.is_dir():
            raise InputError("is not a folder", file=self.datadir, remedy="check --datadir")
        for path in self.files:
            existing(path)
        refuse_absurd(self.constants)
        if (self.tilts is not None and self.tilts < 1) or not (self.dose is None or self.dose >= 0):
            raise InputError(f"{self.limits} leaves no image", remedy="allow at least one exposure")


def existing(path: str | Path) -> Path:
    """`path`, absolute.

    Raises
    ------
    InputError
        If it is no file, or may not be read.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError("is a folder", file=path, remedy="pass the particle file inside it")
    with explained(path):
        open_regular(path).close()
    return path.absolute()
