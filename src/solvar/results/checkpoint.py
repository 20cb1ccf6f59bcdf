"""checkpoint/ in a run folder: how far an unfinished run has come, written so that it is whole or absent.

Each step of the fit has one file, numbers as they are in memory and a header in JSON that says how they
belong together; no pickle. `job.json` says which settings and inputs they belong to.
"""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from solvar.errors import InputError
from solvar.estimation.settings import FitSettings
from solvar.files import replacing, write_json
from solvar.results.provenance import InputFile, Provenance
from solvar.results.record import read_record, settings_of

_HEADER = "header"
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
    writes : bool
        False for all but one of the processes that share a job.
    """

    def __init__(self, folder: Path, writes: bool = True) -> None:
        self.scratch = Path(folder)
        self._folder, self._writes = Path(folder) / "checkpoint", writes
        self._job: dict[str, Any] = {}
        self._partial: set[Path] = set()
        self._next = 0.0

    def load(self, name: str) -> Any | None:
        """See `Workspace`."""
        path = self._path(name)
        return read_tree(path) if path.is_file() else None

    def save(self, name: str, content: Any) -> None:
        """See `Workspace`."""
        if not self._writes:
            return
        self._write(name, content)
        # what led up to this step is no longer needed
        for path in self._partial:
            path.unlink(missing_ok=True)
        self._partial.clear()

    def keep(self, name: str, content: Callable[[], Any], *, always: bool = False) -> None:
        """See `Workspace`."""
        started = time.monotonic()
        if not self._writes or not (always or started >= self._next):
            return
        self._write(name, content())
        self._partial.add(self._path(name))
        ended = time.monotonic()
        self._next = ended + (ended - started) / _SHARE

    def remove(self) -> None:
        """Forget everything: the run is finished, or starts anew."""
        if self._writes and self._folder.is_dir():
            shutil.rmtree(self._folder)

    def begin(self, settings: FitSettings, provenance: Provenance, resume: bool) -> None:
        """Start anew, or make sure that what is there belongs to the same settings and inputs.

        Raises
        ------
        InputError
            If it belongs to others; the first difference is named.
        """
        path = self._folder / "job.json"
        self._job = _job(settings, provenance)
        if resume and path.is_file():
            _refuse_difference(path, _read_job(path), self._job)
        else:
            self.remove()

    def _write(self, name: str, content: Any) -> None:
        # a run that fails before it has reached anything leaves no folder
        if not (self._folder / "job.json").is_file():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_json(self._folder / "job.json", self._job)
        write_tree(self._path(name), content)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name.replace(' ', '_')}.npz"


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
    if not path.is_file():
        return False
    record = read_record(Path(folder))
    inputs = tuple(InputFile(**each) for each in record["inputs"])
    before = replace(provenance, version=record["version"], inputs=inputs)
    settings_then = settings_of(record, path)
    _refuse_difference(path, _job(settings_then, before), _job(settings, provenance))
    return True


def _job(settings: FitSettings, provenance: Provenance) -> dict[str, Any]:
    kept = {k: v for k, v in settings.model_dump(mode="json").items() if k not in _FREE}
    inputs = {each.path: [each.size, each.digest] for each in provenance.inputs}
    return {"version": provenance.version, "settings": kept, "inputs": inputs}


def _read_job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
        return {name: job[name] for name in ("version", "settings", "inputs")}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError("is damaged", file=path, remedy="start again with --overwrite") from error


def _refuse_difference(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    remedy = "use the same files and settings, or start again with --overwrite"
    if before["version"] != now["version"]:
        problem = f"was written by solvar {before['version']}, this is {now['version']}"
        raise InputError(problem, file=path, remedy="start again with --overwrite")
    for name, old, new in _differences(before["settings"], now["settings"]):
        option = f"--{name.replace('_', '-')}"
        raise InputError(f"{option} was {old}, now it is {new}", file=path, remedy=remedy)
    for name, old, new in _differences(before["inputs"], now["inputs"]):
        what = "is new" if old is None else "is gone" if new is None else "has changed"
        raise InputError(f"{name} {what} since the run began", file=path, remedy=remedy)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Keys whose values differ, with both values; None where there is none."""
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            yield key, before.get(key), now.get(key)


def write_tree(path: Path, content: Any) -> None:
    """Write nested content (see `Workspace`) to one .npz file, whole or not at all."""
    arrays: dict[str, np.ndarray] = {}
    header = json.dumps(_packed(content, arrays))
    arrays[_HEADER] = np.frombuffer(header.encode(), np.uint8)
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)  # type: ignore[arg-type]


def read_tree(path: Path) -> Any:
    """What `write_tree` wrote.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return _unpacked(json.loads(file[_HEADER].tobytes()), file)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(
            "is damaged", file=path, remedy="remove it, or start again with --overwrite"
        ) from error


def _classes() -> dict[str, type]:
    """The dataclasses that a step of the fit may return, by name."""
    # late: who looks at a finished run needs no estimator
    from solvar.estimation.level import Prior
    from solvar.estimation.march import Model
    from solvar.estimation.sweep import SweepStatistics

    return {each.__name__: each for each in (Model, Prior, SweepStatistics)}


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
