"""checkpoint/ in a run folder: how far an unfinished run has come, written so that it is whole or absent.

Each step of the fit has one file, numbers as they are in memory and a header in JSON that says how they
belong together and to which run; no pickle. `job.json` says which settings and inputs they belong to.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from solvar.errors import InputError
from solvar.files import (
    OwnedFolder,
    Shelf,
    Writer,
    open_inside,
    read_json,
    replacing,
    write_json,
)
from solvar.fitting.settings import FitSettings
from solvar.particles.npy import read_npz, write_npz
from solvar.results.inputs import InputFile, difference
from solvar.results.provenance import Provenance
from solvar.results.record import read_record, settings_of

CHECKPOINT = Writer("checkpoint", ("checkpoint/job.json", "checkpoint/*.npz"))
_JOB = "checkpoint/job.json"
_HEADER = "header"
_AGAIN = "start again with --overwrite"
# what a run may change when it goes on: these do not change its result
_FREE = ("threads", "lazy", "scratch")
# at most this share of the time is spent on writing down how far a step has come
_SHARE = 0.1


class Checkpoint:
    """The checkpoints of one run; implements `estimation.workspace.Workspace`.

    Parameters
    ----------
    folder : path
        The run folder.
    own : OwnedFolder or None
        The right to write there; None for all but one of the processes that share a job.
    run_id : str
        Of the run whose checkpoints are read and written; see `begin`.
    """

    def __init__(self, folder: Path, own: OwnedFolder | None, run_id: str = "") -> None:
        self.scratch = Path(folder)
        self.run_id = run_id
        self._folder, self._own = Path(folder), own
        self._job: dict[str, Any] = {}
        self._partial: set[Path] = set()
        self._next = 0.0

    def load(self, name: str, shelf: Shelf) -> Any | None:
        """See `Workspace`."""
        path = self._folder / _file_of(name)
        return read_tree(path, self.run_id, shelf) if path.exists() else None

    def save(self, name: str, content: Any) -> None:
        """See `Workspace`."""
        if self._own is None:
            return
        self._write(name, content)
        # what led up to this step is no longer needed
        for path in self._partial:
            path.unlink(missing_ok=True)
        self._partial.clear()

    def keep(self, name: str, content: Callable[[], Any], *, always: bool = False) -> None:
        """See `Workspace`."""
        started = time.monotonic()
        if self._own is None or not (always or started >= self._next):
            return
        self._write(name, content())
        self._partial.add(self._folder / _file_of(name))
        ended = time.monotonic()
        self._next = ended + (ended - started) / _SHARE

    def remove(self) -> None:
        """Forget everything: the run is finished, or starts anew."""
        if self._own is not None:
            self._own.remove(CHECKPOINT, first=_JOB)

    def begin(self, settings: FitSettings, provenance: Provenance, resume: bool) -> Provenance:
        """Start anew, or make sure that what is there belongs to the same settings and inputs.

        Returns
        -------
        Provenance
            With the identity of the run that goes on, if one does.

        Raises
        ------
        InputError
            If it belongs to others; the first difference is named.
        """
        before = _read_job(self._folder) if resume else None
        if before is None:
            self.remove()
        else:
            now = job_of(settings, provenance)
            _refuse_difference(self._folder / _JOB, before, now)
            provenance = replace(provenance, run_id=before["run_id"])
        self.run_id, self._job = provenance.run_id, job_of(settings, provenance)
        return provenance

    def _write(self, name: str, content: Any) -> None:
        assert self._own is not None
        # a run that fails before it has reached anything leaves no folder
        if not (self._folder / _JOB).exists():
            write_json(self._own.file(CHECKPOINT, _JOB), self._job)
        write_tree(self._own.file(CHECKPOINT, _file_of(name)), content, self.run_id)


def _file_of(step: str) -> str:
    return f"checkpoint/{step.replace(' ', '_')}.npz"


def is_interrupted(folder: Path) -> bool:
    """Whether a run folder holds an unfinished run that could be resumed."""
    return any((Path(folder) / "checkpoint").glob("*.npz"))


def is_finished(folder: Path, settings: FitSettings, provenance: Provenance) -> bool:
    """Whether a run folder holds the finished run of this job.

    Raises
    ------
    InputError
        If it holds a finished run of other settings or inputs; the first difference is named.
    """
    path = Path(folder) / "run.json"
    if not path.exists():
        return False
    record = read_record(Path(folder))
    inputs = tuple(InputFile(**each) for each in record["inputs"])
    before = replace(provenance, version=record["version"], inputs=inputs, table=record["table"])
    settings_then = settings_of(record, path)
    _refuse_difference(path, job_of(settings_then, before), job_of(settings, provenance))
    return True


def job_of(settings: FitSettings, provenance: Provenance) -> dict[str, Any]:
    """What must be the same for two jobs to be one, in JSON's types."""
    kept = {k: v for k, v in settings.model_dump(mode="json").items() if k not in _FREE}
    inputs = {each.path: asdict(each) for each in provenance.inputs}
    who = {"run_id": provenance.run_id, "version": provenance.version}
    return {**who, "table": provenance.table, "settings": kept, "inputs": inputs}


def _read_job(folder: Path) -> dict[str, Any] | None:
    """What job.json says; None if there is none."""
    try:
        job = read_json(folder, _JOB, _AGAIN)
        inputs = {path: asdict(InputFile(**each)) for path, each in job["inputs"].items()}
        kept = {name: job[name] for name in ("run_id", "version", "table", "settings")}
        if not isinstance(kept["settings"], dict) or not isinstance(kept["run_id"], str):
            raise TypeError
        return {**kept, "inputs": inputs}
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError("is damaged", file=folder / _JOB, remedy=_AGAIN) from error


def _refuse_difference(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    remedy = f"use the same files and settings, or {_AGAIN}"
    if before["version"] != now["version"]:
        problem = f"was written by solvar {before['version']}, this is {now['version']}"
        raise InputError(problem, file=path, remedy=_AGAIN)
    for name, old, new in _differences(before["settings"], now["settings"]):
        option = f"--{name.replace('_', '-')}"
        raise InputError(f"{option} was {old}, now it is {new}", file=path, remedy=remedy)
    for name, old, new in _differences(before["inputs"], now["inputs"]):
        what = "is new" if old is None else "is gone"
        if old is not None and new is not None:
            change = difference(InputFile(**old), InputFile(**new))
            if change is None:
                continue
            what = f"has changed ({change})"
        raise InputError(f"{name} {what} since the run began", file=path, remedy=remedy)
    if before["table"] != now["table"]:
        problem = "other particles were selected, or their poses, CTFs or half-sets were others"
        raise InputError(problem, file=path, remedy=remedy)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Keys whose values differ, with both values; None where there is none."""
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            yield key, before.get(key), now.get(key)


def write_tree(path: Path, content: Any, run_id: str = "") -> None:
    """Write nested content (see `Workspace`) to one .npz file, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    header = json.dumps({"run_id": run_id, "content": _packed(content, arrays)})
    arrays[_HEADER] = np.frombuffer(header.encode(), np.uint8)
    with replacing(path) as temporary:
        write_npz(temporary, arrays)


def read_tree(path: Path, run_id: str | None = None, shelf: Shelf | None = None) -> Any:
    """What `write_tree` wrote.

    Parameters
    ----------
    path : Path
    run_id : str, optional
        Of the run that it must belong to.
    shelf : Shelf, optional
        For large arrays; all are in memory by default.

    Raises
    ------
    InputError
        If the file is damaged, or belongs to another run.
    """
    try:
        with open_inside(path.parent, path.name) as file:
            arrays = read_npz(file, shelf or Shelf())
        header = json.loads(arrays[_HEADER].tobytes())
        if run_id is not None and header["run_id"] != run_id:
            raise InputError("belongs to another run", file=path, remedy=_AGAIN)
        return _unpacked(header["content"], arrays)
    except InputError:
        raise
    # numpy, zipfile and the classes of the fit fail in a dozen ways on a damaged one
    except Exception as error:
        raise InputError("is damaged", file=path, remedy=f"remove it, or {_AGAIN}") from error


def _classes() -> dict[str, type]:
    """The dataclasses that a step of the fit may return, by name."""
    # late: who looks at a finished run needs no estimator
    from solvar.estimation.abinitio import Consensus, Moments, Placed, Start
    from solvar.estimation.noise import NoiseModel
    from solvar.estimation.poses import PosePrior, PoseState, ShapeTurns, TiltShifts
    from solvar.estimation.prior import Prior
    from solvar.estimation.statistics import SweepStatistics
    from solvar.estimation.tilt_contrast import TiltContrasts
    from solvar.fitting.state import FitState, PartModel, Sweeping

    known = (
        Consensus,
        FitState,
        Moments,
        NoiseModel,
        PartModel,
        Placed,
        PosePrior,
        PoseState,
        Prior,
        ShapeTurns,
        Start,
        SweepStatistics,
        Sweeping,
        TiltContrasts,
        TiltShifts,
    )
    return {each.__name__: each for each in known}


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """JSON that describes `value`; its arrays go to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays[f"a{len(arrays)}"] = value
        return {"array": f"a{len(arrays) - 1}"}
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value):
        content = {field.name: getattr(value, field.name) for field in fields(value)}
        return {"class": type(value).__name__, "fields": _packed(content, arrays)["dict"]}
    if isinstance(value, dict):
        return {"dict": {key: _packed(item, arrays) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_packed(item, arrays) for item in value]}
    return value


def _unpacked(value: Any, arrays: Any) -> Any:
    """The opposite of `_packed`."""
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return arrays[value["array"]]
    if "class" in value:
        content = {key: _unpacked(item, arrays) for key, item in value["fields"].items()}
        return _classes()[value["class"]](**content)
    if "dict" in value:
        return {key: _unpacked(item, arrays) for key, item in value["dict"].items()}
    if "tuple" in value:
        return tuple(_unpacked(item, arrays) for item in value["tuple"])
    return [_unpacked(item, arrays) for item in value["list"]]
