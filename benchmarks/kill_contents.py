"""What a folder of results holds, in a form in which two of them can be compared to the last bit.

Times, identities and pictures are left out; of pictures and pages only their being there counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np

from solvar.files.ledger import Ledger
from solvar.volume_file import run_id_of

Contents = dict[str, str]

# what differs between two runs of the same
_PASSING = ("run_id", "started", "finished", "stages", "command", "inputs", "seconds")
_OURS = re.compile(r"\.solvar\.lock|manifest\.json|.*\.partial(\.\w+)?")


def contents(root: Path) -> Contents:
    """Digest of every result below `root` by its name; a folder of volumes may have any name."""
    found: Contents = {}
    for path in _files(root):
        name = path.relative_to(root).as_posix()
        if _OURS.fullmatch(path.name) or "checkpoint/" in name:
            continue
        name = re.sub(r"volumes/[^/]+/", "volumes/*/", name)
        assert name not in found, f"{name} is there twice"
        found[name] = _READERS.get(path.suffix, _bytes)(path)
    return found


def leftovers(root: Path) -> list[str]:
    """Temporary files, locks and checkpoints, and folders that hold nothing."""
    found = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if any(word in name for word in (".partial", ".solvar.lock", "checkpoint")):
            found.append(f"{name} was left")
        elif path.is_dir() and not any(path.iterdir()):
            found.append(f"{name} is an empty folder")
    return found


def unlisted(root: Path, exempt: str = "") -> list[str]:
    """Files below `root` that no manifest knows, those aside that come and go or are `exempt`."""
    known = {path.parent: Ledger.read(path.parent).files for path in root.rglob("manifest.json")}
    found = []
    for path in _files(root):
        owners = (place for place in path.parents if place in known)
        if not any(path.relative_to(place).as_posix() in known[place] for place in owners):
            found.append(path.relative_to(root).as_posix())
    return [
        f"{name} is in no manifest"
        for name in found
        if not (_OURS.fullmatch(name.rpartition("/")[2]) or fnmatchcase(name, exempt))
    ]


def unsealed(root: Path) -> list[str]:
    """What the manifests below `root` say that is not so."""
    ledgers = [Ledger.read(path.parent) for path in sorted(root.rglob("manifest.json"))]
    problems = [(name, each.problem_of(name)) for each in ledgers for name in each.files]
    return [f"{name} {problem}" for name, problem in problems if problem is not None]


def identities(folder: Path) -> dict[str, str]:
    """Identity of the run in each file of a run folder that says one."""
    found: dict[str, str | None] = {}
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        # a checkpoint is of the run that is to take the place of this one
        if _OURS.fullmatch(path.name) or name.startswith("checkpoint/"):
            continue
        if path.suffix == ".json":
            found[name] = json.loads(path.read_text(encoding="utf-8")).get("run_id")
        elif path.suffix == ".mrc":
            found[name] = run_id_of(path)
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                found[name] = file.attrs.get("run_id")
    return {name: identity for name, identity in found.items() if identity}


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if not path.is_dir())


def _digest(*parts: bytes) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _arrays(named: Iterable[tuple[str, Any]]) -> str:
    parts = []
    for name, value in named:
        array = np.asarray(value)
        parts += [f"{name} {array.dtype} {array.shape}".encode(), array.tobytes()]
    return _digest(*parts)


def _bytes(path: Path) -> str:
    return _digest(path.read_bytes())


def _presence(path: Path) -> str:
    return "there"


def _text(path: Path) -> str:
    """A table; its comments tell the time."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return _digest("\n".join(line for line in lines if not line.startswith("#")).encode())


def _json(path: Path) -> str:
    return _digest(json.dumps(_lasting(json.loads(path.read_text(encoding="utf-8")))).encode())


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(item) for key, item in value.items() if key not in _PASSING}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


def _hdf5(path: Path) -> str:
    found: list[tuple[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        found.extend((f"{name}@{k}", v) for k, v in item.attrs.items() if k != "run_id")
        if isinstance(item, h5py.Dataset):
            found.append((name, item[()]))

    with h5py.File(path) as file:
        visit("", file)
        file.visititems(visit)
        return _arrays(found)


def _map(path: Path) -> str:
    with mrcfile.open(path) as file:
        header = [("size", file.voxel_size.tolist()), ("origin", file.header.origin.tolist())]
        return _arrays([("data", file.data), *header])


def _npz(path: Path) -> str:
    with np.load(path) as file:
        return _arrays((name, file[name]) for name in file.files)


_READERS: dict[str, Callable[[Path], str]] = {
    ".json": _json,
    ".h5": _hdf5,
    ".mrc": _map,
    ".mrcs": _map,
    ".npz": _npz,
    **dict.fromkeys((".star", ".csv", ".cxc"), _text),
    **dict.fromkeys((".png", ".html", ".log"), _presence),
}
