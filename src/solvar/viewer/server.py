"""Serve a viewer on 127.0.0.1 until it is stopped."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from solvar.commands import command_line
from solvar.errors import InputError
from solvar.viewer.app import Viewer, make_viewer
from solvar.viewer.connections import Connections, Limits
from solvar.viewer.exchange import answering
from solvar.viewer.redirect import redirect
from solvar.viewer.security import HOST, LARGEST_REQUEST, check_port

# So many may come at once before the system refuses any.
_BACKLOG = 1024


class ViewerServer:
    """A viewer that listens; its address holds the token.

    Parameters
    ----------
    run : path
    port : int
        0 for any free one.

    Raises
    ------
    InputError
        If the run cannot be read or the port is taken.
    """

    def __init__(self, run: str | Path, port: int = 0) -> None:
        check_port(port)
        self._kept = ExitStack()
        self.viewer: Viewer = make_viewer(run)
        self._kept.callback(self.viewer.close)
        try:
            listener = _listen(port)
        except BaseException:
            self._kept.close()
            raise
        self.port: int = listener.getsockname()[1]
        answer = answering(self.viewer.app.server, HOST, self.port)
        self._connections = Connections(listener, answer, Limits(body_bytes=LARGEST_REQUEST))
        self._kept.callback(self._connections.close)

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.port}/?token={self.viewer.guard.token}"

    @property
    def tunnel(self) -> str:
        """The command that brings a remote viewer to the user's own machine."""
        user, machine = user_name(), socket.gethostname()
        there = machine if user is None else f"{user}@{machine}"
        return command_line("ssh", "-N", "-L", f"{self.port}:{HOST}:{self.port}", there)

    @property
    def tunnel_words(self) -> str:
        """What to know about that command."""
        named = user_name() is not None
        return "leave it running" if named else "your user name and @ go before the machine"

    def redirect(self) -> str:
        """The file:// address of a page that leads to `address`; it is there until `close`.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        return self._kept.enter_context(redirect(self.address))

    def serve(self) -> None:
        """Answer requests until `stop` is called or the keyboard interrupts."""
        self._connections.serve()

    def stop(self) -> None:
        """End `serve`, which runs in another thread."""
        self._connections.stop()

    def close(self) -> None:
        """Give the port back and stop reconstructions."""
        self._kept.close()


def user_name() -> str | None:
    """Of who runs this; None where the system has no name for them, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"--port {port}: cannot be used ({reason})", remedy="leave it out to get a free one"
        ) from error
    return listener


def serve(run: str | Path, port: int, announce: Callable[[ViewerServer], None]) -> None:
    """Serve a run until Ctrl-C; `announce` is told once it listens."""
    server = ViewerServer(run, port)
    try:
        announce(server)
        server.serve()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()
