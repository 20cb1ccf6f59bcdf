"""Where a result came from: program, command, inputs, machine."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import solvar
from solvar.estimation.settings import FitSettings
from solvar.machine import available_cores
from solvar.particles import ParticleSet

# A stack of 100 GB is told by its size and two ends; to read it whole may outlast the fit.
_WHOLE_UP_TO = 4 << 20
_END = 64 << 10
_PACKAGES = ("numpy", "scipy", "torch", "numba", "h5py", "mrcfile", "starfile", "pydantic")


@dataclass(frozen=True)
class InputFile:
    """One file that was read: `digest` is blake2b over the content, or over size, head and tail."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Provenance:
    """What was run, on what, where and when.

    Attributes
    ----------
    command : tuple of str
        The command line; empty for a call from Python.
    started : str
        ISO 8601 time in UTC.
    inputs : tuple of InputFile
        Metadata file, the files read beside it, stacks and mask.
    machine : dict
        Host, processor, cores, memory in GiB, operating system.
    packages : dict
        Versions of Python and of the packages that compute.
    """

    version: str
    command: tuple[str, ...]
    started: str
    inputs: tuple[InputFile, ...]
    machine: dict[str, str | int | float] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)


def record(
    particles: ParticleSet, settings: FitSettings, command: tuple[str, ...] = ()
) -> Provenance:
    """Describe a job that is about to start."""
    paths = [particles.source, *particles.reading.files, *particles.stacks]
    paths += [settings.mask] if settings.mask else []
    return Provenance(
        version=solvar.__version__,
        command=tuple(command),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=tuple(describe_file(path) for path in dict.fromkeys(paths)),
        machine=machine(),
        packages=packages(),
    )


def describe_file(path: Path) -> InputFile:
    """Size and digest of a file; a folder or a missing file has size -1 and no digest."""
    path = Path(path)
    if not path.is_file():
        return InputFile(str(path.absolute()), -1, "")
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as stream:
        if size <= _WHOLE_UP_TO:
            digest.update(stream.read())
        else:
            digest.update(str(size).encode())
            digest.update(stream.read(_END))
            stream.seek(-_END, os.SEEK_END)
            digest.update(stream.read(_END))
    return InputFile(str(path.absolute()), size, digest.hexdigest())


def machine() -> dict[str, str | int | float]:
    """The computer in words: host, processor, cores that this process may use, memory in GiB."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": available_cores(),
        "memory_gib": _memory_gib(),
    }


def packages() -> dict[str, str]:
    """Version of Python and of each package that takes part in the computation."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return float("nan")
