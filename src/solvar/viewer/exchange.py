"""One HTTP request in, one answer out, both as bytes: between the sockets and the application."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote
from wsgiref.handlers import SimpleHandler

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def answering(app: WSGIApplication, host: str, port: int) -> Callable[[bytes], bytes]:
    """What answers whole requests with an application that is served at `host` and `port`."""
    place = {"SERVER_NAME": host, "SERVER_PORT": str(port), "REMOTE_ADDR": host, "SCRIPT_NAME": ""}

    def answer(request: bytes) -> bytes:
        parsed = _Request(request)
        if parsed.understood:
            body, written = parsed.rfile, parsed.wfile
            _Run(body, written, sys.stderr, place | parsed.environ()).run(app)
        return parsed.wfile.getvalue()

    return answer


class _Run(SimpleHandler):
    # variables of this process are no part of a request
    os_environ: dict[str, str] = {}  # noqa: RUF012


class _Request(BaseHTTPRequestHandler):
    """A request as the standard library reads it, without a socket.

    What it cannot read it refuses itself, into `wfile`.
    """

    default_request_version = "HTTP/1.0"  # older ones have no status line
    rfile: BytesIO
    wfile: BytesIO

    def __init__(self, request: bytes) -> None:
        self.rfile, self.wfile = BytesIO(request), BytesIO()
        self.raw_requestline = self.rfile.readline()
        self.understood = self.parse_request()

    def environ(self) -> dict[str, Any]:
        """The request as WSGI tells it to an application."""
        path, _, query = self.path.partition("?")
        told = {
            "REQUEST_METHOD": self.command, "SERVER_PROTOCOL": self.request_version,
            "REQUEST_URI": self.path, "PATH_INFO": unquote(path, "iso-8859-1"),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": self.headers.get("Content-Length", ""),
        }  # fmt: skip
        for name, value in self.headers.items():
            key = "HTTP_" + name.upper().replace("-", "_")
            told[key] = f"{told[key]},{value.strip()}" if key in told else value.strip()
        return told

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: one line a request would bury what is worth reading, and it holds the token."""
