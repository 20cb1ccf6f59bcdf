"""Who may talk to the viewer: the person who was given its address, and nobody else.

The server listens on 127.0.0.1, but every other user of the machine and every web page in the user's
browser can reach that address too. So each request must name this machine as its host (a page that
rebinds its own name to 127.0.0.1 does not), must not come from another origin, and must show that its
browser has been here with the token of the printed address.

A cookie alone does not show that. Browsers keep one jar for all ports of a host: whoever runs a server on
another port of 127.0.0.1 and gets the user to look at it is sent our cookie, too, and can send it to us.
Therefore the visit with the token begins a session of two secrets, neither of which is the token:

* the **cookie** (HttpOnly, SameSite=Strict) opens the empty page, its scripts and styles, which are the
  same for everybody and say nothing of the run: the browser asks for these by itself and can add
  nothing else. The name of the run, too, is not in the page but comes with its content.
* the **page secret** lies in the sessionStorage of the page, which browsers keep apart by port, and is
  a header of each request that the page's own script makes (assets/viewer.js). Everything else, all that
  reads data or acts, needs both. A page on another port can neither read it nor send such a header:
  for that browsers first ask this server, which refuses.

Both are random, known to the server alone, forgotten when it ends, and kept for the last few sessions.
The cookie's name is random, too, so that viewers on two ports do not push each other out of the jar.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from solvar.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask, Response

HOST = "127.0.0.1"
_LOCAL_NAMES = (HOST, "localhost")
# A request holds an outline, sliders and names; a lasso of ten thousand corners is below this.
LARGEST_REQUEST = 4 << 20
PAGE_HEADER = "X-Solvar-Page"
# Browsers, not tabs: those of one browser share a session.
_MOST_SESSIONS = 16
_COOKIE_OPENS = ("/assets/", "/_dash-component-suites/")
_COOKIE_OPENS_EXACTLY = ("/", "/_favicon.ico")
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
_WELCOME = """<!doctype html><meta charset="utf-8"><title>solvar</title>
<p>The browser must run scripts and keep cookies of this page.</p>
<script>sessionStorage.setItem("solvar-page", "{secret}"); location.replace("/");</script>
"""

_random = partial(secrets.token_urlsafe, 32)


@dataclass(frozen=True)
class Session:
    """What a browser has that was here with the token.

    Attributes
    ----------
    cookie : str
        Which servers on other ports of this host get to see.
    secret : str
        Which only the page's own script has.
    """

    cookie: str = field(default_factory=_random)
    secret: str = field(default_factory=_random)


class Guard:
    """Refuses what does not come from the person at the keyboard.

    Attributes
    ----------
    token : str
        Secret of the printed address.
    cookie_name : str
    """

    def __init__(self) -> None:
        self.token = _random()
        self.cookie_name = f"solvar-view-{secrets.token_hex(6)}"
        self._sessions: deque[Session] = deque(maxlen=_MOST_SESSIONS)
        self._lock = threading.Lock()

    def protect(self, server: Flask) -> None:
        """Check every request to `server` before anything else, and seal every answer."""
        server.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
        server.before_request_funcs.setdefault(None, []).insert(0, self._check)
        server.after_request(_seal)

    def begin(self) -> Session:
        """A new session; the oldest is forgotten if there are many."""
        session = Session()
        with self._lock:
            self._sessions.append(session)
        return session

    def _check(self) -> Response | None:
        from flask import abort, request

        if not is_local(request.headers.get("Host", "")):
            abort(403, "This viewer answers to 127.0.0.1 and localhost only.")
        if not same_origin(request.headers.get("Origin"), request.headers.get("Host", "")):
            abort(403, "Another page may not use this viewer.")
        if climbs(request.environ.get("REQUEST_URI", "")) or climbs(request.path):
            abort(400, "The address leads outside the viewer.")
        # servers on other ports can set cookies of this name, too, which come beside ours
        cookies = request.cookies.getlist(self.cookie_name)
        known = self._find(cookies, lambda one: one.cookie)
        offered = request.args.get("token")
        if offered is not None and request.path == "/":
            if not _same(offered, self.token):
                abort(403, "The token is wrong: copy the address from the terminal once more.")
            # the tabs of a browser share a session: they share the jar that the cookie is in
            return self._welcome(known or self.begin())
        if known is None:
            abort(403, "Open the address that `solvar view` printed; it holds a token.")
        page = self._find(request.headers.getlist(PAGE_HEADER), lambda one: one.secret)
        if page is None and not opened_by_cookie(request.path):
            abort(403, "This page was not opened by the address that `solvar view` printed.")
        return None

    def _welcome(self, session: Session) -> Response:
        from flask import make_response

        welcome = make_response(_WELCOME.format(secret=session.secret))
        welcome.set_cookie(
            self.cookie_name, session.cookie, httponly=True, samesite="Strict", path="/"
        )
        return welcome

    def _find(self, offered: Iterable[str], secret_of: Callable[[Session], str]) -> Session | None:
        """The session whose secret is offered."""
        with self._lock:
            sessions = tuple(self._sessions)
        found = (one for text in offered for one in sessions if _same(text, secret_of(one)))
        return next(found, None)


def _same(offered: str, secret: str) -> bool:
    """Whether these are equal; takes as long for a near miss as for nonsense."""
    return secrets.compare_digest(offered.encode(), secret.encode())


def opened_by_cookie(path: str) -> bool:
    """Whether at a path there is only what every viewer has, and nothing of the run."""
    return path in _COOKIE_OPENS_EXACTLY or path.startswith(_COOKIE_OPENS)


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
