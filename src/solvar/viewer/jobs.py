"""Reconstructions that the page asked for: one after the other, each in a process of its own.

A process, not a thread: the page stays quick while all cores work, and the images of a job leave the
memory with it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from solvar.errors import SolvarError
from solvar.viewer.messages import in_words
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.targets import Targets

Float64 = NDArray[np.float64]
State = Literal["waiting", "running", "done", "failed", "stopped"]

FOLDER = "volumes"
_TABLE = "volumes.json"


@dataclass(frozen=True)
class Job:
    """A reconstruction and how far it is.

    Attributes
    ----------
    name : str
        Of its folder in ``volumes``.
    count : int
        Volumes.
    state : str
    step : str
        What is done now, or why it failed.
    share : float or None
        Of that step, 0 to 1; None where nobody knows.
    """

    name: str
    count: int
    state: State = "waiting"
    step: str = ""
    share: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed", "stopped")


@dataclass(eq=False)
class _Order:
    name: str
    targets: Targets
    settings: VolumeSettings


class JobQueue:
    """Reconstructions of one run, one at a time.

    Parameters
    ----------
    run : path
        The run folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = Path(run)
        self._jobs: dict[str, Job] = {}
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._stopping: set[str] = set()
        self._lock = threading.Lock()
        self._process: Any = None
        self._worker = threading.Thread(target=self._work, name="solvar-jobs", daemon=True)
        self._worker.start()

    @property
    def jobs(self) -> list[Job]:
        """Every job since the viewer started, oldest first."""
        with self._lock:
            return list(self._jobs.values())

    @property
    def busy(self) -> bool:
        """Whether a job waits or runs."""
        return any(not job.is_over for job in self.jobs)

    def submit(self, kind: str, z: Float64, settings: VolumeSettings | None = None) -> str:
        """Ask for volumes at points (K, r) in units of the latents; the name of their folder.

        Parameters
        ----------
        kind : str
            First part of the name, such as "point".
        """
        with self._lock:
            name = self._free_name(kind)
            self._jobs[name] = Job(name, len(z))
        names = tuple(f"{name}_{k + 1:03d}" for k in range(len(z)))
        self._orders.put(_Order(name, Targets(z, names), settings or VolumeSettings()))
        return name

    def stop(self, name: str) -> None:
        """Give up a job that waits or runs; nothing of it stays on disk."""
        with self._lock:
            job = self._jobs.get(name)
            if job is None or job.is_over:
                return
            self._stopping.add(name)
            if job.state == "running" and self._process is not None:
                self._process.terminate()

    def close(self) -> None:
        """Stop everything and wait for it."""
        for job in self.jobs:
            self.stop(job.name)
        self._orders.put(None)
        self._worker.join(timeout=10)

    def _free_name(self, kind: str) -> str:
        taken = {path.name for path in (self._run / FOLDER).glob("*")} | set(self._jobs)
        number = 1
        while f"{kind}-{number:03d}" in taken:
            number += 1
        return f"{kind}-{number:03d}"

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            if order.name in self._stopping:
                self._tell(order.name, state="stopped")
                continue
            try:
                self._carry_out(order)
            # whatever it was: the queue must live on, and the page must say so
            except Exception as error:
                reason = in_words(error) or f"The reconstruction cannot begin ({error})."
                self._tell(order.name, state="failed", step=reason)

    def _carry_out(self, order: _Order) -> None:
        """Run one job and put its folder in place, whole or not at all."""
        final = self._run / FOLDER / order.name
        draft = final.with_name(f".{order.name}.{os.getpid()}.partial")
        context = multiprocessing.get_context("spawn")  # a fork would inherit locked thread pools
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_reconstruct, daemon=True,
            args=(self._run, order.targets, draft, order.settings, sender),
        )  # fmt: skip
        try:
            with self._lock:
                if order.name not in self._stopping:
                    process.start()
                    self._process = process
            sender.close()
            if process.pid is not None:
                self._tell(order.name, state="running", step="Starting")
                self._follow(order.name, receiver)
                process.join()
            if order.name in self._stopping:
                self._tell(order.name, state="stopped", step="")
            elif (draft / _TABLE).is_file():
                os.replace(draft, final)
                self._tell(order.name, state="done", step="", share=1.0)
            elif not self._job(order.name).is_over:
                self._tell(order.name, state="failed", step="The reconstruction ended early.")
        finally:
            self._process = None
            receiver.close()
            shutil.rmtree(draft, ignore_errors=True)

    def _follow(self, name: str, receiver: Connection) -> None:
        """Note what the process tells until it hangs up."""
        while True:
            try:
                news = receiver.recv()
            except (EOFError, OSError):
                return
            self._tell(name, **news)

    def _job(self, name: str) -> Job:
        with self._lock:
            return self._jobs[name]

    def _tell(self, name: str, **news: Any) -> None:
        with self._lock:
            self._jobs[name] = replace(self._jobs[name], **news)


def _reconstruct(
    run: Path, targets: Targets, output: Path, settings: VolumeSettings, sender: Connection
) -> None:
    """What the process does."""
    from solvar.volumes import reconstruct

    try:
        reconstruct(run, targets, output, settings, progress=_Teller(sender))
    except (SolvarError, OSError) as error:
        sender.send({"state": "failed", "step": in_words(error) or str(error)})
    except MemoryError:
        sender.send({"state": "failed", "step": "There is not enough memory."})
    finally:
        sender.close()


class _Teller:
    """Progress (see `solvar.progress`) that is sent through a pipe."""

    def __init__(self, sender: Connection) -> None:
        self._sender = sender

    @contextmanager
    def step(self, name: str, total: int, unit: str = "particles") -> Iterator[_Step]:
        """Tell a step and how far it is."""
        self._sender.send({"step": name, "share": 0.0 if total else None})
        yield _Step(self._sender, total)

    def message(self, text: str) -> None:
        """Tell a sentence."""
        self._sender.send({"step": text, "share": None})


class _Step:
    def __init__(self, sender: Connection, total: int) -> None:
        self._sender, self._total, self._done, self._told = sender, total, 0, 0.0

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        share = self._done / self._total if self._total else 1.0
        # a hundred messages a step are enough to draw a bar
        if share - self._told >= 0.01 or share >= 1:
            self._told = share
            self._sender.send({"share": min(share, 1.0)})

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Arrived:
    """A reconstructed volume in the run folder.

    Attributes
    ----------
    key : str
        FOLDER/NAME, which `find` takes back.
    path : Path
    particles : int
    resolution_angstrom : float or None
    fsc : tuple of float or None
        Of the half-maps, per shell.
    pixel_size_angstrom : float
    z : tuple of float
        Its place, in units of the latents.
    """

    key: str
    path: Path
    particles: int
    resolution_angstrom: float | None
    fsc: tuple[float, ...] | None
    pixel_size_angstrom: float
    z: tuple[float, ...]


def arrived(run: Path) -> list[Arrived]:
    """Every volume below ``volumes`` of a run folder, from the page or from `solvar volume`."""
    found = []
    for table in sorted((Path(run) / FOLDER).glob(f"*/{_TABLE}")):
        if table.parent.name.startswith("."):
            continue
        try:
            record = json.loads(table.read_text(encoding="utf-8"))
            found += [_arrived(table.parent, record, volume) for volume in record["volumes"]]
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
    return found


def find(run: Path, key: str) -> Arrived | None:
    """The volume that `Arrived.key` named; only what is listed is ever opened."""
    return next((volume for volume in arrived(run) if volume.key == key), None)


def _arrived(folder: Path, record: dict[str, Any], volume: dict[str, Any]) -> Arrived:
    name = Path(volume["files"][0]).name
    # the curve that the resolution is read from
    fsc = None if volume["fsc"] is None else volume["fsc"]["corrected"]
    resolution = volume["resolution_angstrom"]
    return Arrived(
        key=f"{folder.name}/{name.removesuffix('.mrc')}",
        path=folder / name,
        particles=int(volume["particles"]),
        resolution_angstrom=None if resolution is None else float(resolution),
        fsc=None if fsc is None else tuple(float(value) for value in fsc),
        pixel_size_angstrom=float(record["pixel_size_angstrom"]),
        z=tuple(float(value) for value in volume["z"]),
    )
