"""stdout and stderr that never decide the fate of a command: what cannot be written is lost, nothing else.

A pipe whose reader left, a full disk, a closed descriptor, an encoding without σ: whoever cannot see the
output still has the files, and the exit code still tells how the work went.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any


def make_output_harmless() -> None:
    """Replace stdout and stderr by streams whose writes cannot fail; called before anything is opened.

    A stream that a caller put in their place is left to the caller.
    """
    _fill_closed_descriptors()
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is getattr(sys, f"__{name}__"):
            setattr(sys, name, _harmless(stream))


def _fill_closed_descriptors() -> None:
    """Put /dev/null where descriptors 0, 1 and 2 are closed.

    The next file that is opened would get that number, and whatever a C library prints would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free number is this one: those below are open by now
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _harmless(stream: Any) -> io.TextIOWrapper:
    """A text stream to where `stream` leads; None, which Python sets for a closed one, leads nowhere."""
    if stream is None:
        nowhere = _HarmlessFile(os.open(os.devnull, os.O_WRONLY))
        return io.TextIOWrapper(io.BufferedWriter(nowhere), "utf-8", "backslashreplace")
    file: Any = _HarmlessFile(stream.fileno())
    return io.TextIOWrapper(
        file if stream.write_through else io.BufferedWriter(file),  # `python -u` has no buffer
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _HarmlessFile(io.RawIOBase):
    """The end of a stream: whatever the system refuses counts as written.

    Nothing is remembered of a failure: on a disk that has room again, later lines appear. Below the
    buffers, so that the interpreter's last flush ends here, too.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any) -> int:
        rest = memoryview(data)
        while len(rest):
            try:
                rest = rest[os.write(self._number, rest) :]
            except BlockingIOError:
                # a parent made the pipe non-blocking: wait, as for any other
                select.select([], [self._number], [])
            except OSError:
                break
        return len(data)
