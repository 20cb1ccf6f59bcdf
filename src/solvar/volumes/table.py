"""volumes.json: what one call of `solvar volume` made. It comes last: a folder without it is unfinished."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from solvar.errors import InputError
from solvar.files import open_inside, read_json
from solvar.results.record import validated
from solvar.results.run import Run
from solvar.volume_file import run_id_of
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.targets import Targets

FOLDER = "volumes"
FILE = "volumes.json"
FORMAT = "solvar-volumes"
FORMAT_VERSION = 1
# what does not change a volume
_FREE = ("lazy", "scratch", "threads")
_REMEDY = "make the volumes again"

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
# a plain name: it leads nowhere else
_FileName = Annotated[str, Field(pattern=r"^[^/\\\x00]+\.mrc$")]


class _Part(BaseModel):
    # strict: "3" is no number; what is not needed is left alone
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Curves(_Part):
    """FSC of half-maps, one value a shell; `corrected` is the one that the resolution is read from."""

    corrected: list[_Finite | None]


class VolumeRecord(_Part):
    """One volume; the first of `files` is the volume itself."""

    name: str
    z: list[_Finite]
    particles: Annotated[int, Field(ge=0)]
    resolution_angstrom: _Positive | None
    fsc: Curves | None
    files: Annotated[list[_FileName], Field(min_length=1)]


class VolumeTable(_Part):
    """What a call made, and what it was asked for.

    Attributes
    ----------
    run_id : str
    settings : dict
        As `recorded_settings` gives them.
    particles : str or None
        The particle file that the images came from, if it was not that of the run.
    pixel_size_angstrom : float
    volumes : list of VolumeRecord
    """

    format: Literal["solvar-volumes"]
    format_version: Literal[1]
    run_id: str
    settings: dict[str, Any]
    particles: str | None
    pixel_size_angstrom: _Positive
    volumes: Annotated[list[VolumeRecord], Field(min_length=1)]

    def answers(self, targets: Targets, settings: VolumeSettings, particles: str | None) -> bool:
        """Whether the same call would make the same volumes again."""
        wanted = recorded_settings(settings)
        return (
            all(self.settings.get(key) == wanted[key] for key in wanted if key not in _FREE)
            and self.particles == particles
            and [each.name for each in self.volumes] == list(targets.name)
            and [each.z for each in self.volumes] == targets.z.tolist()
        )


def recorded_settings(settings: VolumeSettings) -> dict[str, Any]:
    """Settings in JSON's types; paths are absolute."""
    paths = {key: path.absolute() for key, path in settings if isinstance(path, Path)}
    return settings.model_copy(update=paths).model_dump(mode="json")


def read_table(folder: Path, name: str = FILE) -> VolumeTable:
    """The table `name` below `folder`.

    Raises
    ------
    FileNotFoundError
        If there is none.
    InputError
        If it is damaged, a link or behind one, or somebody else's.
    """
    return validated(VolumeTable, read_json(folder, name, _REMEDY), folder / name, remedy=_REMEDY)


def finished_tables(run: Run) -> dict[str, VolumeTable]:
    """Tables of the volumes of this run that lie below its folder, by the name of their folder."""
    found = {}
    for place in sorted((run.folder / FOLDER).glob("*")):
        try:
            table = read_table(run.folder, f"{FOLDER}/{place.name}/{FILE}")
        except (FileNotFoundError, InputError):
            continue  # unfinished, damaged or somebody else's
        if table.run_id == run.run_id:
            found[place.name] = table
    return found


def volume_below(run: Run, name: str) -> Path:
    """Where the volume `name`, parts separated by ``/``, lies below the folder of its run.

    Raises
    ------
    InputError
        If it is missing, a link or behind one, or belongs to another run.
    """
    path = run.folder / name
    try:
        open_inside(run.folder, name).close()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", file=path) from error
    if run_id_of(path) != run.run_id:
        raise InputError("belongs to another run than run.json", file=path, remedy=_REMEDY)
    return path
