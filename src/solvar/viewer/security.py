"""Who may talk to the viewer: the person who was given its address, and nobody else.

The server listens on 127.0.0.1, but every other user of the machine and every web page in the user's
browser can reach that address too. So each request must name this machine as its host (a page that
rebinds its own name to 127.0.0.1 does not), must not come from another origin, and must carry the token
of the printed address, or the cookie that the first visit with it sets.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from solvar.errors import InputError

if TYPE_CHECKING:
    from flask import Flask, Response

HOST = "127.0.0.1"
_LOCAL_NAMES = (HOST, "localhost")
# A request holds an outline, sliders and names; a lasso of ten thousand corners is below this.
_LARGEST_REQUEST = 4 << 20
_DEEPEST_ENCODING = 4

# Nothing is loaded from elsewhere, whatever a library may try. Dash writes its start into the page, and
# regl (the scatter of plotly.js) compiles its drawing commands; hence 'unsafe-inline' and 'unsafe-eval'.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

# A link in a mail or a notebook makes the browser withhold a strict cookie from a redirect; a page that
# goes on by itself is of the same site. It also takes the token out of the address bar and the history.
_WELCOME = '<!doctype html><meta http-equiv="refresh" content="0;url=/"><title>solvar</title>'


@dataclass(frozen=True)
class Guard:
    """Refuses what does not come from the person at the keyboard.

    Attributes
    ----------
    token : str
        Secret of the printed address.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def cookie_name(self) -> str:
        """Differs between viewers: a browser keeps one jar for all ports of a host."""
        return "solvar-view-" + hashlib.sha256(self.token.encode()).hexdigest()[:12]

    def protect(self, server: Flask) -> None:
        """Check every request to `server` before anything else, and seal every answer."""
        server.config["MAX_CONTENT_LENGTH"] = _LARGEST_REQUEST
        server.before_request_funcs.setdefault(None, []).insert(0, self._check)
        server.after_request(_seal)

    def _check(self) -> Response | None:
        from flask import abort, make_response, request

        if not is_local(request.headers.get("Host", "")):
            abort(403, "This viewer answers to 127.0.0.1 and localhost only.")
        if not same_origin(request.headers.get("Origin"), request.headers.get("Host", "")):
            abort(403, "Another page may not use this viewer.")
        if climbs(request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or "") or (
            climbs(request.path)
        ):
            abort(400, "The address leads outside the viewer.")
        offered = request.args.get("token")
        if offered is not None and request.path == "/":
            if not self.admits(offered):
                abort(403, "The token is wrong: copy the address from the terminal once more.")
            welcome = make_response(_WELCOME)
            welcome.set_cookie(
                self.cookie_name, self.token, httponly=True, samesite="Strict", path="/"
            )
            return welcome
        if not self.admits(request.cookies.get(self.cookie_name, "")):
            abort(403, "Open the address that `solvar view` printed; it holds a token.")
        return None

    def admits(self, offered: str) -> bool:
        """Whether this is the token; takes as long for a near miss as for nonsense."""
        return secrets.compare_digest(offered.encode(), self.token.encode())


def is_local(host: str) -> bool:
    """Whether a Host header names this machine; any port, as a tunnel may have its own."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return False
    return parts.hostname in _LOCAL_NAMES and parts.username is None and parts.path == ""


def same_origin(origin: str | None, host: str) -> bool:
    """Whether an Origin header is this server itself, or absent as in a plain visit."""
    return origin is None or origin == f"http://{host}"


def climbs(address: str) -> bool:
    """Whether the path of an address leaves its folder, however often it is encoded."""
    path = address.split("?", 1)[0]
    for _ in range(_DEEPEST_ENCODING):
        if "\\" in path or "\0" in path or ".." in path.split("/") or "//" in path:
            return True
        path, before = unquote(path), path
        if path == before:
            return False
    return True


def _seal(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if response.mimetype in ("text/html", "application/json"):
        response.headers["Cache-Control"] = "no-store"
    return response


def check_port(port: int) -> None:
    """Raise InputError unless a server may listen on `port`; 0 asks for any free one."""
    if port != 0 and not 1024 <= port <= 65535:
        raise InputError(f"--port {port}: is not a free port", remedy="choose from 1024 to 65535")
