"""What `run.json` must hold for a run to be read: every field, so that no reader has to ask again."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from solvar.errors import InputError
from solvar.files import read_json
from solvar.fitting.settings import RECORDED, FitSettings
from solvar.results.hdf5 import REPEAT

FORMAT = "solvar-run"
FORMAT_VERSION = 2

_Model = TypeVar("_Model", bound=BaseModel)


def _no_zero_byte(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a zero byte")
    return text


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Some = Annotated[int, Field(ge=1, lt=2**53)]
_Whole = Annotated[int, Field(ge=-(2**63), lt=2**64)]
_Finite = Annotated[float, Field(allow_inf_nan=False, gt=-1e100, lt=1e100)]
_Duration = Annotated[float, Field(allow_inf_nan=False, ge=0, lt=1e12)]
_NotNegative = Annotated[float, Field(allow_inf_nan=False, ge=0, lt=1e100)]
# as wide as anything that particles may have, downsampled
_PixelSize = Annotated[float, Field(allow_inf_nan=False, ge=1e-3, le=1e8)]
_Path = Annotated[str, AfterValidator(_no_zero_byte)]
_Time = Annotated[str, AfterValidator(_time)]
# JSON has no NaN: it is null there
_OrNone = _Finite | None
_Leaf = bool | _Whole | _Finite | str | None


class _Part(BaseModel):
    # strict: "3" is no number; what a later version adds is left alone
    model_config = ConfigDict(strict=True, extra="ignore")


class _Reading(_Part):
    """How the particles were read; each is missing or as `solvar.particles.Reading` has it."""

    datadir: _Path | None = None
    strip_prefix: str | None = None
    poses: _Path | None = None
    ctf: _Path | None = None
    passthrough: list[_Path] = []
    tomograms: _Path | None = None
    ignore_poses: bool = False
    pixel_size: _Finite | None = None
    voltage: _Finite | None = None
    cs: _Finite | None = None
    amplitude_contrast: _Finite | None = None
    tilts: _Some | None = None
    dose: _NotNegative | None = None
    working_folder: _Path = "."


class _Particles(_Part):
    count: _Some
    # of tilt series; None where a particle has one image
    images: _Some | None = None
    source: _Path
    source_format: str
    # runs of early versions kept no record of it
    reading: _Reading = _Reading()
    stacks: _Some
    optics_groups: _Some
    # of tilt series; None where images of an optics group share their noise
    noise_groups: _Some | None = None
    halfset_sizes: Annotated[list[_Count], Field(min_length=2, max_length=2)]

    @model_validator(mode="after")
    def _consistent(self) -> _Particles:
        if sum(self.halfset_sizes) > self.count:
            raise ValueError(f"{self.count} particles make no halves of {self.halfset_sizes}")
        return self


class _PoseChange(_Part):
    correction_median: _NotNegative
    correction_rms: _NotNegative
    spread_median: _NotNegative
    spread_rms: _NotNegative


class _Poses(_Part):
    out_of_plane_degree: _PoseChange
    in_plane_degree: _PoseChange
    shift_angstrom: _PoseChange
    prior_rotation_degree: _NotNegative
    prior_shift_angstrom: _NotNegative
    applied: bool = True
    found_elsewhere: _Count = 0
    unknown: _Count = 0


class _Tilts(_Part):
    shift_rms_angstrom: _NotNegative
    prior_angstrom: _NotNegative


class _TiltContrast(_Part):
    sd: _NotNegative
    prior_sd: _NotNegative


class _Normalisation(_Part):
    background: _NotNegative
    strength_percent: _NotNegative
    far: _Count
    sample: _Count


class _AbInitio(_Part):
    starts: _Some
    agreed: _Count
    best: _Count
    is_molecule: bool


class _PoseDoubt(_Part):
    model_config = ConfigDict(strict=True, extra="forbid")

    rotation_degree: _NotNegative
    shift_angstrom: _NotNegative
    most_degree: _NotNegative
    most_angstrom: _NotNegative
    removable: _Finite
    beyond_chance: bool
    matter: bool


class _Result(_Part):
    rank: Annotated[int, Field(ge=1, le=200)]
    box_size: Annotated[int, Field(ge=2, le=4096)]
    pixel_size_angstrom: _PixelSize
    eigenvalues: list[_NotNegative]
    inverted: bool
    intensity_factor: Annotated[float, Field(gt=1e-40, lt=1e40)] = 1.0
    # runs of early versions took images as they were
    normalisation: _Normalisation | None = None
    # runs of early versions knew no junk
    junk_share: Annotated[float, Field(ge=-1e-9, le=1)] = 0.0
    monstrous: _Count = 0
    component_masks: list[str] | None = None
    reliability: list[_OrNone] | None = None
    reliable: list[bool] | None = None
    component_resolution_angstrom: list[_NotNegative | None] | None = None
    # runs of early versions did not look where the molecule changes
    change: bool = False
    # runs of early versions had no doubts
    verdict: list[str] | None = None
    could_be: list[str | None] | None = None
    tested_to_angstrom: _NotNegative | None = None
    pose_doubt: _PoseDoubt | None = None
    poses: _Poses | None = None
    tilts: _Tilts | None = None
    tilt_contrast: _TiltContrast | None = None
    ab_initio: _AbInitio | None = None

    @model_validator(mode="after")
    def _consistent(self) -> _Result:
        told = {
            name: getattr(self, name)
            for name in ("reliability", "reliable", "component_resolution_angstrom")
        }
        doubts = {
            name: getattr(self, name)
            for name in ("verdict", "could_be", "tested_to_angstrom", "pose_doubt")
        }
        for some in (told, doubts):
            if len({value is None for value in some.values()}) > 1:
                raise ValueError(f"has some of {', '.join(some)} and not all")
        lists = {
            "verdict": self.verdict,
            "could_be": self.could_be,
            "component_masks": self.component_masks,
        }
        for name, values in {"eigenvalues": self.eigenvalues, **told, **lists}.items():
            if values is not None and len(values) != self.rank:
                raise ValueError(f"{name} has {len(values)} entries for a rank of {self.rank}")
        return self


class _Stage(_Part):
    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    wall_seconds: _Duration
    cpu_seconds: _Duration
    peak_memory_mib: _Duration


class _Input(_Part):
    model_config = ConfigDict(strict=True, extra="forbid")

    path: _Path
    size: Annotated[int, Field(ge=-1, lt=2**63)]
    digest: str
    sampled: Annotated[int, Field(ge=0, lt=2**63)]
    modified_ns: _Whole
    inode: _Whole


class _Record(_Part):
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    version: str
    command: list[str]
    started: _Time
    finished: _Time
    inputs: list[_Input]
    table: str
    machine: dict[str, _Leaf]
    packages: dict[str, str]
    seed: _Count
    settings: dict[str, _Leaf | list[_Leaf]]
    particles: _Particles
    result: _Result
    stages: list[_Stage]
    warnings: list[str]

    @model_validator(mode="after")
    def _consistent(self) -> _Record:
        names = (
            ("refine_pose", "poses"),
            ("refine_tilts", "tilts"),
            ("tilt_contrast", "tilt_contrast"),
            ("halfsets", "reliable"),
        )
        for setting, name in names:
            if bool(self.settings.get(setting)) != (getattr(self.result, name) is not None):
                raise ValueError(f"settings.{setting} and result.{name} contradict each other")
        return self


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
    if type(version) is not int:
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
    known = {k: v for k, v in record["settings"].items() if k in FitSettings.model_fields}
    settings_of({"settings": known}, path)
    return record


def refuse_replaced(folder: Path, run_id: str) -> None:
    """Raise InputError if a folder does not hold the run that was opened there: now it is one's own."""
    if read_record(folder)["run_id"] != run_id:
        raise InputError(
            "holds another run than the one that was opened", file=folder, remedy="start again"
        )


def settings_of(record: dict[str, Any], path: Path) -> FitSettings:
    """The settings in a record that was read from `path`.

    Raises
    ------
    InputError
        If they are not settings of this version.
    """
    return validated(FitSettings, record["settings"], path, "settings.", context=RECORDED)


def validated(
    model: type[_Model],
    content: Any,
    path: Path,
    prefix: str = "",
    remedy: str = REPEAT,
    context: dict[str, Any] | None = None,
) -> _Model:
    """The content of a file as `model` says it must be.

    Raises
    ------
    InputError
        If it is not; the first entry that is wrong is named, after `prefix`.
    """
    try:
        # from text, where a path may be a string and yet nothing is turned into what it is not
        return model.model_validate_json(json.dumps(content), strict=True, context=context)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = prefix + ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        problem = problem[:1].lower() + problem[1:]
        raise InputError(problem, file=path, column=column or None, remedy=remedy) from error


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
