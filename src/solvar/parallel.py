"""One job in several processes, on one machine or many: who owns which particles, and sums over all.

Each process reads its own particles alone. Whatever is a sum over particles is added up over the processes,
in the same order everywhere, so that all of them hold the same bits and take the same decisions.

Processes are started by ``torchrun``; torch is imported only then. gloo carries the sums between CPUs, nccl
between GPUs.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError, SolvarError

Array = TypeVar("Array", bound=NDArray[np.generic])

# A process that is gone is noticed at once by its closed connection; one that hangs, after this long
_PATIENCE = timedelta(minutes=30)
# Processes of a job start within this time of each other: torchrun starts them, on all machines, together
_START = timedelta(minutes=5)
_PORTS = 1 << 16
# neighbours that are in one batch, dealt evenly to all processes; and how often each has its turn at least
_TOGETHER, _HANDS = 32, 8


class Processes(Protocol):
    """The processes that share a job.

    Attributes
    ----------
    rank : int
        Number of this process; 0 writes the results.
    size : int
    """

    rank: int
    size: int

    def sum(self, values: Array) -> Array:
        """The sum of an array over all processes, at every process; `values` may be overwritten."""

    def wait(self) -> None:
        """Return when every process has come this far."""

    def leave(self) -> None:
        """The last call: wait for the others and part from them."""


class OneProcess:
    """No company; implements `Processes`."""

    rank, size = 0, 1

    def sum(self, values: Array) -> Array:
        """See `Processes`."""
        return values

    def wait(self) -> None:
        """See `Processes`."""

    def leave(self) -> None:
        """See `Processes`."""


class DistributedProcesses:
    """Processes that ``torchrun`` started; implements `Processes`.

    Parameters
    ----------
    backend : str
        "gloo" or "nccl".
    device : str
        Where sums are made: "cpu", or the GPU of this process for nccl.
    """

    def __init__(self, backend: str = "gloo", device: str = "cpu") -> None:
        import torch.distributed as distributed

        if not distributed.is_initialized():
            store, rank, size = _meet()
            distributed.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE
            )
        self._distributed, self._device = distributed, device
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()

    def sum(self, values: Array) -> Array:
        """See `Processes`."""
        import torch

        whole = np.ascontiguousarray(values)
        real = whole.view(whole.real.dtype) if np.iscomplexobj(whole) else whole
        tensor = torch.from_numpy(np.atleast_1d(real)).to(self._device)
        try:
            self._distributed.all_reduce(tensor)
        except RuntimeError as error:
            raise LostProcess from error
        return tensor.cpu().numpy().view(whole.dtype).reshape(whole.shape)  # type: ignore[return-value]

    def wait(self) -> None:
        """See `Processes`."""
        self.sum(np.zeros(1))

    def leave(self) -> None:
        """See `Processes`."""
        self.wait()
        self._distributed.destroy_process_group()


class LostProcess(SolvarError):
    """Another process of the job died or does not answer."""

    exit_code = 1

    def __init__(self) -> None:
        super().__init__(
            "another process of this job died or does not answer; the first message above says which "
            "and why. Start the job again with --resume"
        )


class UnmetProcesses(SolvarError):
    """The processes of the job did not find each other."""

    exit_code = 1

    def __init__(self, error: RuntimeError) -> None:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).split("\n")[0].split(" Exception raised from")[0].strip(" .")
        super().__init__(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} did not meet all others at {place} "
            f"within {_START.total_seconds() / 60:g} minutes ({reason}); start them together with torchrun, "
            "or unset WORLD_SIZE for a job of one process."
        )


def _number(name: str, default: int | None, least: int, below: int | None = None) -> int:
    """A whole number from the environment.

    Raises
    ------
    InputError
        If it is missing and has no default, is no number or out of bounds.
    """
    text = os.environ.get(name, "").strip()
    if not text and default is not None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least or (below is not None and number >= below):
        bounds = f"from {least}" + (f" to {below - 1}" if below is not None else "")
        wrong = f"{name} is {text!r} and not a number {bounds}" if text else f"{name} is not set"
        raise InputError(
            f"the environment makes this one of several processes, but {wrong}",
            remedy="start the job with torchrun, or unset WORLD_SIZE for a job of one process",
        )
    return number


def started_together() -> bool:
    """Whether this process was started as one of several."""
    return _number("WORLD_SIZE", 1, 1) > 1


def is_first() -> bool:
    """Whether this process is the one that speaks and writes."""
    return not started_together() or _number("RANK", None, 0, _number("WORLD_SIZE", 1, 1)) == 0


def _check_launch() -> None:
    """Raise InputError unless the environment is whole, as `torchrun` leaves it."""
    size = _number("WORLD_SIZE", 1, 1)
    _number("RANK", None, 0, size)
    _number("LOCAL_RANK", 0, 0, _number("LOCAL_WORLD_SIZE", size, 1, size + 1))
    _number("MASTER_PORT", None, 1, _PORTS)
    if not os.environ.get("MASTER_ADDR", "").strip():
        raise InputError(
            "the environment makes this one of several processes, but MASTER_ADDR is not set",
            remedy="start the job with torchrun, or unset WORLD_SIZE for a job of one process",
        )


def _meet() -> tuple[Any, int, int]:
    """Where the processes of the job leave words for each other, once all are there; rank and size.

    Raises
    ------
    UnmetProcesses
        If one of them does not come.
    """
    from torch.distributed import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(rendezvous("env://", timeout=_START))
        # torchrun's own store answers although processes are missing
        store = PrefixStore("solvar", store)
        store.set(f"here/{rank}", "")
        store.wait([f"here/{each}" for each in range(size)], _START)
        store.set_timeout(_PATIENCE)
    except RuntimeError as error:
        raise UnmetProcesses(error) from error
    return store, rank, size


def join_processes(device: str = "cpu") -> Processes:
    """The processes that this one belongs to, as the environment that ``torchrun`` set says.

    Parameters
    ----------
    device : str
        The job's device; on GPUs each process takes the one of its local rank.
    """
    if not started_together():
        return OneProcess()
    _check_launch()
    if device.startswith("cuda"):
        return DistributedProcesses("nccl", own_device(device))
    return DistributedProcesses()


def own_device(device: str) -> str:
    """The device of this process: of several on a machine each takes its own GPU."""
    if device == "cuda" and started_together():
        return f"cuda:{_number('LOCAL_RANK', 0, 0)}"
    return device


def processes_here() -> int:
    """Processes of this job on this machine, which share its cores."""
    return _number("LOCAL_WORLD_SIZE", 1, 1) if started_together() else 1


def dealt(group: NDArray[np.integer], processes: Processes) -> NDArray[np.int64]:
    """Which of N particles this process owns, in their order.

    Parameters
    ----------
    group : (N,) int
        Half-set of each. Particles of a group are dealt out in turn, so that every process holds as many of
        each half-set, of each part of the file and of each batch; a few neighbours at a time, which are
        read in one piece.
    processes : Processes
    """
    owner = np.empty(len(group), np.int64)
    for each in np.unique(group):
        members = np.flatnonzero(group == each)
        run = min(len(members) // _HANDS, _TOGETHER) // processes.size
        owner[members] = np.arange(len(members)) // max(run, 1) % processes.size
    return np.flatnonzero(owner == processes.rank)


def agreed(decision: bool, processes: Processes) -> bool:
    """What the first process decided, at every process.

    All of them hold the same sums, but not always the same processor: a library's last bit may differ.
    """
    return bool(all_agreed(np.array([decision]), processes)[0])


def all_agreed(decisions: NDArray[np.bool_], processes: Processes) -> NDArray[np.bool_]:
    """Several of them, (n,)."""
    if processes.size == 1:
        return decisions
    said = broadcast(decisions.astype(np.uint8).tobytes(), processes)
    return np.frombuffer(said, np.uint8) != 0


def broadcast(data: bytes, processes: Processes) -> bytes:
    """What the first process holds, at every process; `data` is of the same length everywhere."""
    mine = np.frombuffer(data, np.uint8).astype(np.int64)
    said = processes.sum(mine if processes.rank == 0 else np.zeros_like(mine))
    return said.astype(np.uint8).tobytes()


def gathered(
    count: int, place: NDArray[np.int64], values: Array, processes: Processes
) -> NDArray[Any]:
    """Rows (count, …) at every process, of which this one has those at `place`."""
    whole = np.zeros((count, *values.shape[1:]), values.dtype)
    whole[place] = values
    return processes.sum(whole)


def of_first_process(volume: NDArray[np.float32], processes: Processes) -> NDArray[np.float32]:
    """The same volume at every process: sums over particles differ in their last digit."""
    if processes.size == 1:
        return volume
    shared = broadcast(np.ascontiguousarray(volume).tobytes(), processes)
    return np.frombuffer(shared, np.float32).reshape(volume.shape)


def refuse_disagreement(digest: bytes, processes: Processes) -> None:
    """Raise SolvarError at every process unless all of them hold the same digest of their job."""
    differs = np.zeros(processes.size, np.int64)
    differs[processes.rank] = broadcast(digest, processes) != digest
    others = np.flatnonzero(processes.sum(differs))
    if len(others):
        raise SolvarError(
            f"process {others[0]} of {processes.size} read other particles, settings or files than the "
            "first one. Give all processes the same options and the same files"
        )
