"""The sockets of the viewer: one thread reads and writes all of them, a few others answer.

Every user of the machine may connect, so a connection that does nothing must cost nothing that the owner
needs. None has a thread: its request is gathered until it is whole, and only then does one of a few
threads answer it. The number of connections stays below the files that the process may open; where there
are too many, the one that has waited longest for its request goes. Each has a time in which its request
must have come, and in which its answer must be taken. A connection brings one request, as a browser on
the same machine gains nothing by keeping it.
"""

from __future__ import annotations

import logging
import re
import resource
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from queue import Empty, SimpleQueue

_MOST_CONNECTIONS = 256
_FEWEST_CONNECTIONS = 8
# A browser asks by six connections at once.
_THREADS = 16
_MOST_HEAD = 64 << 10
_BLOCK = 256 << 10
_ACCEPTED_AT_ONCE = 32
_LOOK_SECONDS = 0.5
_PAUSE_SECONDS = 0.02
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r", re.IGNORECASE)


def most_connections() -> int:
    """How many may be open at once: a quarter of the files that the process may open, at most 256."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    share = _MOST_CONNECTIONS if files == resource.RLIM_INFINITY else files // 4
    return max(_FEWEST_CONNECTIONS, min(_MOST_CONNECTIONS, share))


@dataclass(frozen=True)
class Limits:
    """What connections may take.

    Attributes
    ----------
    connections : int
        Open at once.
    body_bytes : int
        Of one request; of a larger one only the head is read.
    held_bytes : int
        Of all requests that are not whole yet.
    head_seconds, request_seconds : float
        From the beginning until the head of the request, and all of it, must have come.
    stall_seconds : float
        How long an answer may find no taker.
    """

    connections: int = field(default_factory=most_connections)
    body_bytes: int = 4 << 20
    held_bytes: int = 64 << 20
    head_seconds: float = 20.0  # browsers keep a connection ready for ten
    request_seconds: float = 60.0
    stall_seconds: float = 30.0


class _Stage(Enum):
    COMING = auto()  # the request
    ANSWERING = auto()
    GOING = auto()  # the answer
    LEAVING = auto()  # until the other side has hung up


@dataclass(eq=False)
class _Connection:
    wire: socket.socket
    since: float
    until: float
    stage: _Stage = _Stage.COMING
    request: bytearray = field(default_factory=bytearray)
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


class Connections:
    """Answers requests at a socket.

    Parameters
    ----------
    listener : socket
        Bound and listening; closed with the rest.
    answer : callable
        From a whole request to a whole answer, bytes both; called by several threads.
    limits : Limits
    """

    def __init__(
        self, listener: socket.socket, answer: Callable[[bytes], bytes], limits: Limits
    ) -> None:
        self._listener, self._answer, self._limits = listener, answer, limits
        self._open: dict[socket.socket, _Connection] = {}  # the oldest first
        self._whole: SimpleQueue[_Connection | None] = SimpleQueue()
        self._answered: SimpleQueue[_Connection] = SimpleQueue()
        self._stopping = False
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for wire, turn in ((listener, self._accept), (self._woken, self._take_answers)):
            wire.setblocking(False)
            self._selector.register(wire, selectors.EVENT_READ, turn)
        self._waker.setblocking(False)
        for _ in range(_THREADS):
            threading.Thread(target=self._work, name="solvar-viewer", daemon=True).start()

    def serve(self) -> None:
        """Answer until `stop` is called."""
        while not self._stopping:
            for key, _ in self._selector.select(_LOOK_SECONDS):
                # an earlier turn may have closed it
                if not isinstance(key.fileobj, int) and key.fileobj.fileno() >= 0:
                    key.data()
            self._close_late()

    def stop(self) -> None:
        """End `serve`, which runs in another thread."""
        self._stopping = True
        self._wake()

    def close(self) -> None:
        """Close every socket; requests that are being answered are not waited for."""
        for _ in range(_THREADS):
            self._whole.put(None)
        for wire in (*self._open, self._listener, self._waker, self._woken):
            wire.close()
        self._open.clear()
        self._selector.close()

    def _wake(self) -> None:
        with suppress(OSError):  # it is full, which wakes as well, or closed
            self._waker.send(b"\0")

    # -- who may stay -----------------------------------------------------------------------------

    def _accept(self) -> None:
        full = len(self._open) >= self._limits.connections
        if full and all(one.stage is _Stage.ANSWERING for one in self._open.values()):
            time.sleep(_PAUSE_SECONDS)  # the others wait in the system's queue
            return
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                wire, _ = self._listener.accept()
            except (BlockingIOError, ConnectionError):
                return
            except OSError:
                # no file is left: it would be offered again at once, for ever
                if not self._close_oldest():
                    time.sleep(_PAUSE_SECONDS)
                return
            wire.setblocking(False)
            now = time.monotonic()
            one = _Connection(wire, now, now + self._limits.head_seconds)
            self._open[wire] = one
            self._selector.register(wire, selectors.EVENT_READ, partial(self._read, one))
            self._read(one)  # who asks at once is not the one to go
            if len(self._open) > self._limits.connections:
                self._close_oldest()

    def _close_oldest(self) -> bool:
        """Close who has waited longest, rather one without a request; whether there was any."""
        ones = self._open.values()
        idle = (one for one in ones if one.stage in (_Stage.COMING, _Stage.LEAVING))
        going = (one for one in ones if one.stage is _Stage.GOING)
        oldest = next(idle, None) or min(going, key=lambda one: one.until, default=None)
        if oldest is not None:
            self._close(oldest)
        return oldest is not None

    def _close_late(self) -> None:
        now = time.monotonic()
        for one in tuple(self._open.values()):
            if one.until < now and one.stage is not _Stage.ANSWERING:
                self._close(one)

    def _close(self, one: _Connection) -> None:
        del self._open[one.wire]
        self._selector.unregister(one.wire)
        one.wire.close()

    # -- a request comes, its answer goes ---------------------------------------------------------

    def _read(self, one: _Connection) -> None:
        try:
            block = one.wire.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            self._close(one)
        elif one.stage is _Stage.COMING:
            one.request += block
            self._look(one)

    def _look(self, one: _Connection) -> None:
        """Have a request answered when it is whole."""
        length = _length(one.request, self._limits.body_bytes)
        if length is not None and len(one.request) >= length:
            self._selector.unregister(one.wire)
            del one.request[length:]
            one.stage = _Stage.ANSWERING
            self._whole.put(one)
            return
        if length is not None:
            one.until = one.since + self._limits.request_seconds
        coming = (other for other in self._open.values() if other.stage is _Stage.COMING)
        if sum(len(other.request) for other in coming) > self._limits.held_bytes:
            self._close_oldest()

    def _work(self) -> None:
        """What each of the threads does."""
        while (one := self._whole.get()) is not None:
            try:
                one.answer = memoryview(self._answer(bytes(one.request)))
            # whatever it was: the connection ends, the viewer lives on
            except Exception:
                logging.getLogger(__name__).exception("a request could not be answered")
            one.request.clear()
            self._answered.put(one)
            self._wake()

    def _take_answers(self) -> None:
        self._woken.recv(_BLOCK)
        with suppress(Empty):
            while True:
                one = self._answered.get_nowait()
                one.stage = _Stage.GOING
                one.until = time.monotonic() + self._limits.stall_seconds
                self._selector.register(one.wire, selectors.EVENT_WRITE, partial(self._write, one))

    def _write(self, one: _Connection) -> None:
        try:
            sent = one.wire.send(one.answer[:_BLOCK])
            one.answer = one.answer[sent:]
            one.until = time.monotonic() + self._limits.stall_seconds
            if not one.answer:
                # who closes with something unread takes back what was sent: let the other hang up
                one.wire.shutdown(socket.SHUT_WR)
                one.stage = _Stage.LEAVING
                turn = partial(self._read, one)
                self._selector.modify(one.wire, selectors.EVENT_READ, turn)
        except BlockingIOError:
            return
        except OSError:
            self._close(one)


def _length(request: bytearray, most_body: int) -> int | None:
    """Bytes of the whole request that begins with these; None while its head is not whole.

    Of a body that is too large none is awaited, as the application refuses it by its announced length. A
    head that is too large is passed on as it is, to be refused, too.
    """
    end = request.find(_HEAD_END)
    if end < 0:
        return len(request) if len(request) > _MOST_HEAD else None
    found = _LENGTH.search(request, 0, end + len(_HEAD_END))
    body = 0 if found is None else int(found[1])
    return end + len(_HEAD_END) + (body if body <= most_body else 0)
