"""What this machine has to give: cores, memory, disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# More threads than any machine has cores; beyond it a number is a slip
MOST_THREADS = 1024


def available_cores() -> int:
    """Number of cores this process may use (a container may allow fewer than exist)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that a new program can have without swapping; a container may allow less."""
    free = _memory_of_machine()
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None:
        free = min(free, limit - used)
    space, taken = address_space_limit(), _address_space_taken()
    if space is not None:
        free = min(free, space - taken)
    return max(free, 0)


def address_space_limit() -> int | None:
    """Bytes of address space that this process may take (`ulimit -v`, `-d`); None if there is no limit."""
    try:
        import resource
    except ImportError:
        return None
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)


def _address_space_taken() -> int:
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _memory_of_machine() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # no Linux: count on half of what is built in
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _number(path: str) -> int | None:
    """The number in a file of the kernel; None if there is none."""
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def free_disk(folder: Path) -> int:
    """Bytes that can be written to the file system of `folder`, which need not exist yet."""
    folder = Path(folder).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
