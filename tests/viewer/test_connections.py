"""Connections that do nothing take nothing from who asks: over real sockets."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest

from solvar.viewer.connections import Connections, Limits

HELLO = b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.0 200 OK\r\n\r\n"
PATIENCE = 20.0

pytestmark = pytest.mark.timeout(60)


def echo(request: bytes) -> bytes:
    return ANSWER + request


@contextmanager
def listening(answer=echo, wrap=lambda listener: listener, **limits):
    """Connections at a free port; yields how to open one."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    place = listener.getsockname()
    served = Connections(wrap(listener), answer, Limits(**limits))
    thread = threading.Thread(target=served.serve, daemon=True)
    thread.start()
    with ExitStack() as opened:
        yield lambda: opened.enter_context(socket.create_connection(place, timeout=PATIENCE))
        served.stop()
        thread.join(timeout=10)
        assert not thread.is_alive()
    served.close()


def everything(wire) -> bytes:
    """What comes until the other side hangs up; fails where it does not."""
    blocks = iter(lambda: wire.recv(1 << 16), b"")
    return b"".join(blocks)


def asked(wire, request=HELLO) -> bytes:
    wire.sendall(request)
    return everything(wire)


def test_who_asks_is_answered_beside_many_that_say_nothing():
    with listening(connections=20) as connect:
        idle = [connect() for _ in range(100)]
        assert asked(connect()) == ANSWER + HELLO
        # the oldest went, the latest may stay
        assert everything(idle[0]) == b""
        assert asked(idle[-1]) == ANSWER + HELLO


def test_who_asks_is_answered_while_others_never_finish():
    """A head that drips, a body that never ends: neither holds a thread."""
    with listening(connections=60) as connect:
        for k in range(50):
            connect().sendall(
                HELLO[:-2] if k % 2 else b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nx"
            )
        assert asked(connect()) == ANSWER + HELLO


@pytest.mark.parametrize(
    ("sent", "limits"),
    [
        (b"", {"head_seconds": 0.2}),
        (HELLO[:-1], {"head_seconds": 0.2}),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf", {"request_seconds": 0.2}),
    ],
)
def test_request_that_does_not_come_in_its_time_ends(sent, limits):
    with listening(**limits) as connect:
        assert asked(connect(), sent) == b""


def test_answer_that_nobody_takes_ends():
    with listening(lambda _: bytes(64 << 20), stall_seconds=0.2) as connect:
        slow = connect()
        slow.sendall(HELLO)
        time.sleep(1.5)
        assert 0 < len(everything(slow)) < 64 << 20


def test_request_in_pieces_and_large_answer_arrive_whole():
    body, large = os.urandom(3 << 20), os.urandom(9 << 20)
    request = b"POST / HTTP/1.1\r\ncontent-LENGTH: %d\r\n\r\n" % len(body) + body
    with listening(lambda request: request + large) as connect:
        assert asked(connect(), request) == request + large


def test_body_that_is_too_large_is_refused_in_words_that_arrive():
    """The whole of it is sent before the answer is read: to hang up earlier would lose the answer."""
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (9 << 20)
    with listening(
        lambda request: b"too large" if request == head else b"", body_bytes=99
    ) as connect:
        wire = connect()
        wire.sendall(head)
        wire.sendall(bytes(9 << 20))
        assert everything(wire) == b"too large"


def test_bodies_together_hold_so_many_bytes_and_no_more():
    head = b"POST / HTTP/1.1\r\nContent-Length: 200000\r\n\r\n"
    with listening(body_bytes=1 << 20, held_bytes=1 << 20) as connect:
        waiting = [connect() for _ in range(10)]
        for wire in waiting:
            wire.sendall(head + bytes(150_000))
            time.sleep(0.02)
        assert everything(waiting[0]) == b""
        assert asked(waiting[-1], bytes(50_000)) == ANSWER + head + bytes(200_000)


def test_answer_that_fails_ends_its_connection_alone(caplog):
    def fail(request: bytes) -> bytes:
        return 1 // 0 if b"fail" in request else ANSWER

    with listening(fail) as connect:
        assert asked(connect(), b"GET /fail HTTP/1.1\r\n\r\n") == b""
        assert "could not be answered" in caplog.text
        assert asked(connect()) == ANSWER


class Exhausted:
    """A listening socket for which there is sometimes no file."""

    def __init__(self, listener: socket.socket, times: int) -> None:
        self._listener, self.left = listener, times

    def __getattr__(self, name):
        return getattr(self._listener, name)

    def accept(self):
        if self.left:
            self.left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()


def test_lack_of_files_passes():
    """It neither ends the viewer nor keeps it busy: 20 attempts take a while."""
    started = time.monotonic()
    with listening(wrap=lambda listener: Exhausted(listener, 20)) as connect:
        assert asked(connect()) == ANSWER + HELLO
    assert time.monotonic() - started > 0.2


_FEW_FILES = """
import resource, sys, threading
from pathlib import Path
from solvar.viewer import ViewerServer
server = ViewerServer(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
print(server.address, flush=True)
threading.Thread(target=server.serve, daemon=True).start()
sys.stdin.read()
"""


def test_owner_is_served_beside_more_idle_connections_than_the_viewer_may_open_files(run):
    pytest.importorskip("dash", reason="solvar[view] is not installed")
    from visitor import visit

    process = subprocess.Popen(
        [sys.executable, "-c", _FEW_FILES, run.folder],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process, ExitStack() as idle:
        address = process.stdout.readline().strip()
        place = "127.0.0.1", int(address.split(":")[2].split("/")[0])
        for _ in range(300):
            idle.enter_context(socket.create_connection(place, timeout=PATIENCE))
        browser = visit(address)
        layout = browser.open(f"http://{place[0]}:{place[1]}/_dash-layout", timeout=PATIENCE).read()
        assert b"500 particles" in layout
        process.stdin.close()
