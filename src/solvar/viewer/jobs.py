"""Reconstructions that the page asked for: one after the other, each in a process of its own.

A process, not a thread: the page stays quick while all cores work, and the images of a job leave the
memory with it. The viewer owns the run folder meanwhile, and removes what a job leaves that fails or is
stopped.
"""

from __future__ import annotations

import multiprocessing
import os
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

from solvar.errors import InputError, SolvarError
from solvar.results.run import Run
from solvar.viewer.messages import in_words
from solvar.viewer.sharing import shared_folder
from solvar.volumes.folder import free_name, volume_folder
from solvar.volumes.settings import VolumeSettings
from solvar.volumes.table import FILE, FOLDER, VolumeRecord, VolumeTable, finished_tables
from solvar.volumes.targets import Targets

Float64 = NDArray[np.float64]
State = Literal["waiting", "running", "done", "failed", "stopped"]


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


class _EndedError(Exception):
    """A job came to an end without its volumes: how, and why."""

    def __init__(self, state: State, step: str = "") -> None:
        super().__init__(step)
        self.state, self.step = state, step


class JobQueue:
    """Reconstructions of one run, one at a time.

    Parameters
    ----------
    run : path
        The run folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = Run(run)
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
            name = free_name(self._run.folder, kind, self._jobs)
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

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                self._carry_out(order)
                self._tell(order.name, state="done", step="", share=1.0)
            except _EndedError as ended:
                self._tell(order.name, state=ended.state, step=ended.step)
            # whatever it was: the queue must live on, and the page must say so
            except Exception as error:
                reason = in_words(error) or f"The reconstruction cannot begin ({error})."
                self._tell(order.name, state="failed", step=reason)

    def _carry_out(self, order: _Order) -> None:
        """Fill the folder of one job; it is whole then, or gone."""
        if order.name in self._stopping:
            raise _EndedError("stopped")
        output = self._run.folder / FOLDER / order.name
        with (
            shared_folder(self._run.folder).writing() as own,
            volume_folder(self._run, order.targets, order.settings, output, own=own) as folder,
        ):
            self._run_process(order, folder.begin())

    def _run_process(self, order: _Order, folder: Path) -> None:
        """Let a process write the volumes of a job."""
        context = multiprocessing.get_context("spawn")  # a fork would inherit locked thread pools
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_reconstruct, daemon=True,
            args=(self._run.folder, order.targets, order.settings, folder, sender),
        )  # fmt: skip
        with receiver:
            with self._lock:
                if order.name not in self._stopping:
                    process.start()
                    self._process = process
            sender.close()
            failure = None
            if process.pid is not None:
                self._tell(order.name, state="running", step="Starting")
                failure = self._follow(order.name, receiver)
                process.join()
                self._process = None
        if order.name in self._stopping:
            raise _EndedError("stopped")
        if failure is not None or not (folder / FILE).is_file():
            raise _EndedError("failed", failure or "The reconstruction ended early.")

    def _follow(self, name: str, receiver: Connection) -> str | None:
        """Note what the process tells until it hangs up; why it failed, if it did."""
        failure = None
        while True:
            try:
                news = receiver.recv()
            except (EOFError, OSError):
                return failure
            failure = news.pop("failure", failure)
            self._tell(name, **news)

    def _tell(self, name: str, **news: Any) -> None:
        with self._lock:
            self._jobs[name] = replace(self._jobs[name], **news)


def _reconstruct(
    run: Path, targets: Targets, settings: VolumeSettings, folder: Path, sender: Connection
) -> None:
    """What the process does; the viewer owns the run folder and has made `folder`."""
    from solvar.volumes.reconstruct import make_volumes

    threading.Thread(target=_end_with_viewer, daemon=True).start()
    try:
        opened = Run(run)
        make_volumes(
            opened, targets, settings, lambda: folder, opened.folder, None, _Teller(sender)
        )
    except (SolvarError, OSError) as error:
        sender.send({"failure": in_words(error) or str(error)})
    except MemoryError:
        sender.send({"failure": "There is not enough memory."})
    finally:
        sender.close()


def _end_with_viewer() -> None:
    """End this process as soon as the viewer has ended: nobody owns the run folder then."""
    viewer = multiprocessing.parent_process()
    assert viewer is not None
    viewer.join()
    os._exit(1)


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
    file : str
        Its name below the run folder.
    particles : int
    resolution_angstrom : float or None
    fsc : tuple of float or None
        Of the half-maps, per shell: the curve that the resolution is read from.
    pixel_size_angstrom : float
    z : tuple of float
        Its place, in units of the latents.
    """

    key: str
    file: str
    particles: int
    resolution_angstrom: float | None
    fsc: tuple[float, ...] | None
    pixel_size_angstrom: float
    z: tuple[float, ...]


def arrived(run: Run) -> list[Arrived]:
    """Every whole volume of a run below its ``volumes``, from the page or from `solvar volume`."""
    tables = finished_tables(run).items()
    return [
        _arrived(folder, table, volume)
        for folder, table in tables
        if not folder.startswith(".")
        for volume in table.volumes
    ]


def find(run: Run, key: str) -> Arrived | None:
    """The volume that `Arrived.key` named; only what is listed is ever opened."""
    return next((volume for volume in arrived(run) if volume.key == key), None)


def existing(run: Run, key: str) -> Arrived:
    """The volume that `Arrived.key` named.

    Raises
    ------
    InputError
        If it is no longer there, or was never listed.
    """
    found = find(run, key)
    if found is None:
        raise InputError(f"the volume {key} is no longer in the run folder")
    return found


def _arrived(folder: str, table: VolumeTable, volume: VolumeRecord) -> Arrived:
    file = volume.files[0]
    curve = None if volume.fsc is None else volume.fsc.corrected
    return Arrived(
        key=f"{folder}/{file.removesuffix('.mrc')}",
        file=f"{FOLDER}/{folder}/{file}",
        particles=volume.particles,
        resolution_angstrom=volume.resolution_angstrom,
        fsc=None if curve is None else tuple(np.nan if x is None else x for x in curve),
        pixel_size_angstrom=table.pixel_size_angstrom,
        z=tuple(volume.z),
    )
