"""What `run.json` must hold for a run to be read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from solvar.errors import InputError
from solvar.estimation.settings import FitSettings
from solvar.files import read_json
from solvar.results.hdf5 import REPEAT

FORMAT = "solvar-run"
FORMAT_VERSION = 2

_Model = TypeVar("_Model", bound=BaseModel)
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Part(BaseModel):
    # strict: "3" is no number; what a later version adds is left alone
    model_config = ConfigDict(strict=True, extra="ignore")


class _Particles(_Part):
    count: _Count
    source: str
    source_format: str


class _Result(_Part):
    rank: _Count
    box_size: _Count
    pixel_size_angstrom: _Positive
    inverted: bool
    poses: dict[str, float | dict[str, float | None] | None] | None = None


class _Stage(_Part):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    wall_seconds: float
    cpu_seconds: float
    peak_memory_mib: float


class _Record(_Part):
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    version: str
    settings: dict[str, Any]
    particles: _Particles
    result: _Result
    stages: list[_Stage]
    warnings: list[str]


def read_record(folder: Path) -> dict[str, Any]:
    """run.json of a finished run.

    Parameters
    ----------
    folder : Path
        A run folder.

    Raises
    ------
    InputError
        If the run is not finished, was written by something else or a newer version, or is damaged.
    """
    path = folder / "run.json"
    record = _read_json(folder, path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError("was not written by solvar", file=path)
    version = record.get("format_version")
    if not isinstance(version, int):
        raise _damaged(path, "format_version", "is missing or not a number")
    if version > FORMAT_VERSION:
        raise InputError(
            f"was written by a newer solvar ({record.get('version')})",
            file=path,
            remedy="update solvar",
        )
    if version < FORMAT_VERSION:
        raise InputError("was written by an earlier version of solvar", file=path, remedy=REPEAT)
    validated(_Record, record, path)
    return record


def settings_of(record: dict[str, Any], path: Path) -> FitSettings:
    """The settings in a record that was read from `path`.

    Raises
    ------
    InputError
        If they are not settings of this version.
    """
    return validated(FitSettings, record["settings"], path, "settings.")


def validated(
    model: type[_Model], content: Any, path: Path, prefix: str = "", remedy: str = REPEAT
) -> _Model:
    """The content of a file as `model` says it must be.

    Raises
    ------
    InputError
        If it is not; the first entry that is wrong is named, after `prefix`.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = prefix + ".".join(str(part) for part in first["loc"])
        problem = first["msg"][:1].lower() + first["msg"][1:]
        raise InputError(problem, file=path, column=column, remedy=remedy) from error


def _read_json(folder: Path, path: Path) -> Any:
    if not folder.is_dir():
        raise InputError("is not a run folder", file=folder, remedy="pass the --output of a run")
    try:
        return read_json(folder, path.name, REPEAT)
    except FileNotFoundError:
        raise InputError(
            "holds no finished run (there is no run.json)",
            file=folder,
            remedy="wait until the run has ended, or go on with it by --resume",
        ) from None


def _damaged(path: Path, column: str, problem: str) -> InputError:
    return InputError(problem, file=path, column=column, remedy=REPEAT)
