"""Where a result came from: program, command, inputs, machine."""

from __future__ import annotations

import os
import platform
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from solvar._version import __version__
from solvar.fitting.settings import FitSettings
from solvar.machine import available_cores
from solvar.particles import ParticleSet
from solvar.results.inputs import InputFile, describe_files

_PACKAGES = ("numpy", "scipy", "torch", "numba", "h5py", "mrcfile", "starfile", "pydantic")


@dataclass(frozen=True)
class Provenance:
    """What was run, on what, where and when.

    Attributes
    ----------
    run_id : str
        32 hexadecimal digits that stand in every file of the run, so that files of two runs are told apart.
    command : tuple of str
        The command line; empty for a call from Python.
    started : str
        ISO 8601 time in UTC.
    inputs : tuple of InputFile
        Metadata file, the files read beside it, stacks and mask.
    table : str
        Digest of the particle table: rows, poses, CTFs, half-sets.
    machine : dict
        Host, processor, cores, memory in GiB, operating system.
    packages : dict
        Versions of Python and of the packages that compute.
    """

    run_id: str
    version: str
    command: tuple[str, ...]
    started: str
    inputs: tuple[InputFile, ...]
    table: str = ""
    machine: dict[str, str | int | float] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)


def input_paths(particles: ParticleSet, settings: FitSettings) -> list[Path]:
    """Every file that a job reads."""
    mask = [] if settings.mask is None else [settings.mask]
    masks = [*mask, *(each.path for each in settings.focus)]
    return [particles.source, *particles.reading.files, *particles.stacks, *masks]


def record(
    particles: ParticleSet,
    settings: FitSettings,
    command: tuple[str, ...] = (),
    run_id: str | None = None,
) -> Provenance:
    """Describe a job that is about to start; its identity is a new one unless `run_id` says it."""
    return Provenance(
        run_id=run_id or secrets.token_hex(16),
        version=__version__,
        command=tuple(command),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=describe_files(input_paths(particles, settings)),
        table=particles.digest(),
        machine=machine(),
        packages=packages(),
    )


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
