"""One job in several processes, on one machine or many: who owns which particles, and sums over all.

Each process reads its own particles alone. Whatever is a sum over particles is added up over the processes,
in the same order everywhere, so that all of them hold the same bits and take the same decisions.

Processes are started by ``torchrun``; torch is imported only then. gloo carries the sums between CPUs, nccl
between GPUs.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from solvar.errors import SolvarError

Array = TypeVar("Array", bound=NDArray[np.generic])

# A process that is gone is noticed at once by its closed connection; one that hangs, after this long
_PATIENCE = timedelta(minutes=30)


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
            distributed.init_process_group(backend, timeout=_PATIENCE)
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


def started_together() -> bool:
    """Whether this process was started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process is the one that speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


def join_processes(device: str = "cpu") -> Processes:
    """The processes that this one belongs to, as the environment that ``torchrun`` set says.

    Parameters
    ----------
    device : str
        The job's device; on GPUs each process takes the one of its local rank.
    """
    if not started_together():
        return OneProcess()
    if device.startswith("cuda"):
        return DistributedProcesses("nccl", own_device(device))
    return DistributedProcesses()


def own_device(device: str) -> str:
    """The device of this process: of several on a machine each takes its own GPU."""
    if device == "cuda" and started_together():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


def processes_here() -> int:
    """Processes of this job on this machine, which share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def own_range(count: int, processes: Processes) -> tuple[int, int]:
    """First and one past the last of the `count` particles that this process owns."""
    rank, size = processes.rank, processes.size
    return rank * count // size, (rank + 1) * count // size


def broadcast(data: bytes, processes: Processes) -> bytes:
    """What the first process holds, at every process; `data` is of the same length everywhere."""
    mine = np.frombuffer(data, np.uint8).astype(np.int64)
    said = processes.sum(mine if processes.rank == 0 else np.zeros_like(mine))
    return said.astype(np.uint8).tobytes()


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
