"""Serve a viewer on 127.0.0.1 until it is stopped."""

from __future__ import annotations

import getpass
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from solvar.errors import InputError
from solvar.viewer.app import make_viewer
from solvar.viewer.security import HOST, check_port

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

    from solvar.viewer.app import Viewer


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
        self.viewer: Viewer = make_viewer(run)
        try:
            self._server: BaseWSGIServer = _listen(self.viewer, port)
        except BaseException:
            self.viewer.close()
            raise

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.port)

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{HOST}:{self.port}/?token={self.viewer.guard.token}"

    @property
    def tunnel(self) -> str:
        """The command that brings a remote viewer to the user's own machine."""
        return f"ssh -N -L {self.port}:{HOST}:{self.port} {_user()}@{socket.gethostname()}"

    def serve(self) -> None:
        """Answer requests until `stop` is called or the keyboard interrupts."""
        self._server.serve_forever()

    def stop(self) -> None:
        """End `serve`, which runs in another thread."""
        self._server.shutdown()

    def close(self) -> None:
        """Give the port back and stop reconstructions."""
        self._server.server_close()
        self.viewer.close()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number that has no name
        return "USER"


def _listen(viewer: Viewer, port: int) -> BaseWSGIServer:
    from werkzeug.serving import make_server

    # one line a request would bury what is worth reading, and it holds the token
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # werkzeug leaves the process when a port is taken; a socket of our own can say so instead
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"--port {port}: cannot be used ({reason})", remedy="leave it out to get a free one"
        ) from error
    server = make_server(
        HOST, listener.getsockname()[1], viewer.app.server, threaded=True, fd=listener.fileno()
    )
    listener.close()  # the server holds a copy
    return server


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
