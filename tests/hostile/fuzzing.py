"""Feed damaged files to the readers, each under a limit of memory and time, and count what happens.

Input number i is made from the seed and i alone, so that it can be made again. A child process reads
the inputs one after the other; a new one takes over where it crashed or hung.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import select
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hostile.mutations import mutated
from hostile.samples import Sample
from solvar.errors import InputError

ACCEPTED, REFUSED = "accepted", "refused"
TRACEBACK, UNNAMED, MEMORY, HANG, CRASH = "traceback", "no file named", "memory", "hang", "crash"
OUTCOMES = (ACCEPTED, REFUSED, TRACEBACK, UNNAMED, MEMORY, HANG, CRASH)
_MIB = 2**20


@dataclass(frozen=True)
class Outcome:
    """What came of one input.

    Attributes
    ----------
    index : int
    sample : str
        Folder and name of the file that was damaged.
    kind : str
        One of `OUTCOMES`; only the first two are as they should be.
    detail : str
        The sentence of a refusal, or the traceback.
    """

    index: int
    sample: str
    kind: str
    detail: str = ""

    @property
    def is_bad(self) -> bool:
        return self.kind not in (ACCEPTED, REFUSED)


def fuzz(
    samples: Sequence[Sample],
    indices: Sequence[int],
    *,
    seed: int = 0,
    memory_mib: int = 1024,
    seconds: float = 10.0,
) -> Iterator[Outcome]:
    """Read the inputs of the given numbers.

    Parameters
    ----------
    samples : sequence of Sample
        Their files are replaced by damaged ones and put back.
    indices : sequence of int
    seed : int
    memory_mib : int
        What a reader may allocate beyond what the process holds.
    seconds : float
        What a reader may take.
    """
    originals = [sample.path.read_bytes() for sample in samples]
    place = 0
    while place < len(indices):
        todo = list(indices[place:])
        for outcome in _one_child(samples, originals, todo, seed, memory_mib * _MIB, seconds):
            place += 1
            yield outcome
    for sample, content in zip(samples, originals, strict=True):
        sample.path.write_bytes(content)


def _one_child(
    samples: Sequence[Sample],
    originals: list[bytes],
    indices: list[int],
    seed: int,
    memory: int,
    seconds: float,
) -> Iterator[Outcome]:
    """Outcomes until the inputs are through, or the child did not survive one."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _read_all(samples, originals, indices, seed, memory, sending)
    os.close(sending)
    try:
        told = b""
        for index in indices:
            while b"\n" not in told:
                ready, _, _ = select.select([receiving], [], [], seconds)
                more = os.read(receiving, _MIB) if ready else b""
                if not more:
                    name = _name(samples[index % len(samples)])
                    yield Outcome(index, name, CRASH if ready else HANG)
                    return
                told += more
            line, _, told = told.partition(b"\n")
            yield Outcome(**json.loads(line))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(receiving)


def _read_all(
    samples: Sequence[Sample],
    originals: list[bytes],
    indices: list[int],
    seed: int,
    memory: int,
    sending: int,
) -> None:
    """The child: never returns."""
    logging.disable()
    warnings.simplefilter("ignore")
    # the warnings of damaged files are no news
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    # a crash is counted and leaves no core behind
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for index in indices:
        which = index % len(samples)
        sample, rng = samples[which], np.random.default_rng([seed, index])
        sample.path.write_bytes(mutated(originals[which], sample.path.suffix, rng))
        kind, detail = _read(sample)
        sample.path.write_bytes(originals[which])
        line = {"index": index, "sample": _name(sample), "kind": kind, "detail": detail}
        os.write(sending, (json.dumps(line) + "\n").encode())
    os._exit(0)


def _read(sample: Sample) -> tuple[str, str]:
    try:
        sample.read(sample.path)
    except InputError as error:
        if _has(error, MemoryError):
            return MEMORY, str(error)[:2000]
        return (REFUSED if error.file is not None else UNNAMED), str(error)[:2000]
    except MemoryError:
        return MEMORY, traceback.format_exc()[-4000:]
    except BaseException:
        return TRACEBACK, traceback.format_exc()[-4000:]
    return ACCEPTED, ""


def _has(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether `error` was raised from or after one of `kind`."""
    while error is not None:
        if isinstance(error, kind):
            return True
        hidden = error.__suppress_context__
        error = error.__cause__ if hidden else error.__cause__ or error.__context__
    return False


def _name(sample: Sample) -> str:
    return f"{sample.path.parent.name}/{sample.path.name}"
