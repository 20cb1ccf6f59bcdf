"""Commands of solvar as forks of a process that has imported everything: they begin to work at once.

A command spends seconds importing, in which a kill finds nothing to disturb. The parent imports and never
computes, so that it has no threads that a fork would lose.
"""

from __future__ import annotations

import importlib
import mmap
import os
import pkgutil
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import solvar

# what commands import late, beside solvar's own modules
_LATE = (
    *("h5py", "mrcfile", "starfile", "jinja2", "gemmi", "PIL.Image", "rich.console", "rich.table"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "plotly.graph_objects"),
    *("sklearn.cluster", "sklearn.mixture", "scipy.spatial.transform"),
)
_LEFT_OUT = ("viewer", "cuda", "torch_backend", "nufft", "__main__")
_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.utime", "fcntl.flock")
_LONGEST_SECONDS = 600.0


def preload() -> None:
    """Import what any of the commands needs."""
    for module in pkgutil.walk_packages(solvar.__path__, "solvar."):
        if not any(word in module.name for word in _LEFT_OUT):
            importlib.import_module(module.name)
    for name in _LATE:
        importlib.import_module(name)


@dataclass(eq=False)
class Program:
    """A command that runs in a process group of its own.

    Attributes
    ----------
    pid : int
    said : Path
        What it prints.
    started : float
        By the monotonic clock.
    """

    pid: int
    said: Path
    started: float
    _counter: mmap.mmap

    @property
    def changes(self) -> int:
        """How many changes to its folder the program has begun."""
        return int(struct.unpack("q", self._counter[:8])[0])

    def wait(self, seconds: float = _LONGEST_SECONDS) -> int | None:
        """Its exit status, negative for a signal; None if it runs on."""
        deadline = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.002)

    def kill(self) -> None:
        """End it and whatever it started, at once."""
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def start(
    line: str,
    folder: Path,
    said: Path,
    die_at: int | None = None,
    prepare: Callable[[], None] | None = None,
) -> Program:
    """Start a command of solvar.

    Parameters
    ----------
    line : str
        Without the word solvar.
    folder : Path
        Where it works.
    said : Path
        Takes what it prints.
    die_at : int, optional
        Kill it just before it begins this change (from 1) to what lies in `folder`.
    prepare : callable, optional
        Called in the new process first.
    """
    counter = mmap.mmap(-1, 8)
    pid = os.fork()
    if pid:
        with suppress(OSError):  # it has done so itself, and may even be over
            os.setpgid(pid, pid)
        return Program(pid, said, time.monotonic(), counter)
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if prepare is not None:
            prepare()
        sys.addaudithook(_Watch(folder, counter, die_at))
        _run(line)
    finally:
        os._exit(70)


def _run(line: str) -> None:
    from solvar.cli.main import app

    sys.argv = ["solvar", *line.split()]
    try:
        app(sys.argv[1:])
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Watch:
    """Counts what the process does to a folder, and ends it before a certain deed."""

    def __init__(self, folder: Path, counter: mmap.mmap, die_at: int | None) -> None:
        self._folder, self._counter, self._die_at = str(folder), counter, die_at
        self._count = 0

    def __call__(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not self._is_inside(path):
                return
        elif event not in _CHANGES or not (event == "fcntl.flock" or self._is_inside(arguments[0])):
            return
        self._count += 1
        self._counter[:8] = struct.pack("q", self._count)
        if self._count == self._die_at:
            os.write(2, f"killed before {event} {arguments}\n".encode())
            os.killpg(0, signal.SIGKILL)

    def _is_inside(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self._folder)
