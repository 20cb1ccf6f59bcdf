"""What each stage of a job cost."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from solvar.fitting.result import StageCost


class StageClock:
    """Collects wall time, CPU time and peak memory of named stages."""

    def __init__(self) -> None:
        self.costs: list[StageCost] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside the context under `name`."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.costs.append(
            StageCost(
                name, time.perf_counter() - wall, time.process_time() - cpu, _peak_memory_mib()
            )
        )


def _peak_memory_mib() -> float:
    """Largest resident memory of the process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
