"""What other libraries read from the environment: kept from deciding how a command ends.

`settle` and `refuse_nonsense` come before any of these libraries is imported: that is when they look.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from contextlib import suppress
from typing import Any

from solvar.errors import InputError, SolvarError
from solvar.machine import MOST_THREADS, address_space_limit, available_cores

# Numbers of threads that a library takes unchecked: it then crashes, or fails in words of its own
_THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "LOKY_MAX_CPU_COUNT")

# Bytes of address space: what the program takes before it reads any data, measured with
# `ulimit -v`, two cores and every command on 100 images of 16²; and what one BLAS thread may take
_LEAST_ADDRESS_SPACE = 5 << 28
_ADDRESS_SPACE_PER_THREAD = 1 << 30
_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


def settle() -> None:
    """Choose for other libraries what a command needs of them, whatever the environment says."""
    os.environ["MPLBACKEND"] = "agg"  # figures are files; a display need not be there
    # numba reads .numba_config.yaml of the working folder, which may be anybody's, and would load pickles
    # from the cache that it names; what the environment says, be it nothing, goes before that file
    for name in ("NUMBA_CACHE_DIR", "NUMBA_CACHE_LOCATOR_CLASSES"):
        os.environ.setdefault(name, "")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    for name in _THREADS:
        if not os.environ.get(name, "unset").strip():
            del os.environ[name]
    # it tells at length that it found no folder for its settings, which needs none
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    if os.path.lexists("matplotlibrc"):
        _import_elsewhere("matplotlib")
    _settle_warnings()
    limit = address_space_limit()
    if limit is not None:
        _save_address_space(limit)


def refuse_nonsense() -> None:
    """End a command that the environment would crash.

    Raises
    ------
    InputError
        If a number of threads is none, compiled code is switched off or the working folder is gone.
    SolvarError
        If too little address space is allowed.
    """
    for name in _THREADS:
        # OpenMP takes one number for each level of nested teams
        for number in os.environ.get(name, "1").split(","):
            if not (number.strip().isdecimal() and 1 <= int(number) <= MOST_THREADS):
                raise InputError(
                    f"the environment says {name}={os.environ[name]}, "
                    f"which is no number of threads from 1 to {MOST_THREADS}",
                    remedy="unset it; --threads says how many solvar uses",
                )
    if os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0"):
        raise InputError(
            "the environment switches compilation off, without which there is no projector",
            remedy="unset NUMBA_DISABLE_JIT",
        )
    try:
        os.getcwd()
    except OSError as error:
        raise InputError(
            f"the working folder is gone ({error.strerror})", remedy="change to another"
        ) from None
    limit = address_space_limit()
    if limit is not None and limit < _LEAST_ADDRESS_SPACE:
        raise SolvarError(
            f"The address space is limited to {limit / 2**30:.2f} GiB, and solvar takes "
            f"{_LEAST_ADDRESS_SPACE / 2**30:.2f} GiB before it reads any data; raise the limit "
            "(`ulimit -v unlimited`, or more memory from the batch system)."
        )


def _import_elsewhere(module: str) -> None:
    """Import a module that would read a file of the working folder, which may be anybody's."""
    with suppress(OSError):
        here = os.open(os.curdir, os.O_RDONLY)
        try:
            os.chdir(os.sep)
            importlib.import_module(module)
        finally:
            os.fchdir(here)
            os.close(here)


def _settle_warnings() -> None:
    """Warnings are lines on stderr, also where PYTHONWARNINGS=error would make failures of them."""
    if any(entry[0] == "error" for entry in warnings.filters):
        warnings.resetwarnings()
        for quiet in (
            DeprecationWarning,
            PendingDeprecationWarning,
            ImportWarning,
            ResourceWarning,
        ):
            warnings.simplefilter("ignore", quiet)
    # without yaml, numba tells again and again that it cannot read what it should not
    warnings.filterwarnings("ignore", "A Numba config file is found")

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        first = (str(message).strip() or "warning").splitlines()[0]
        print(f"solvar: {first} ({category.__name__}, {filename}:{lineno})", file=sys.stderr)

    warnings.showwarning = show


def _save_address_space(limit: int) -> None:
    """Keep libraries from reserving far more than they use; some end the process when refused."""
    threads = max(1, limit // _ADDRESS_SPACE_PER_THREAD)
    if threads < available_cores():
        # OpenBLAS reserves buffers for each of its threads and cannot go on without
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(threads))
    # Arrow, which pandas loads, reserves 1 GiB for an allocator of its own
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if sys.platform == "linux":
        import ctypes

        # the C library reserves 64 MiB for each thread that allocates; musl has no mallopt
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_ARENA_MAX, 2)
