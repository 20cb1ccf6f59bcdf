"""Nobody gets in but who was given the address: by Flask's test client and over a real socket."""

from __future__ import annotations

import re
import socket
import threading
import urllib.error

import pytest

from solvar.errors import InputError

pytest.importorskip("dash", reason="solvar[view] is not installed")

from solvar.viewer import ViewerServer, make_viewer
from solvar.viewer.security import PAGE_HEADER, climbs, is_local, same_origin
from visitor import page_secret, visit

HOST = "127.0.0.1:5005"
SHELL = ("/", "/assets/viewer.js", "/_favicon.ico")
RUN = ("/_dash-layout", "/_dash-dependencies", "/_reload-hash", "/anything-else")
PLACES = (*SHELL, *RUN)


@pytest.fixture
def viewer(run):
    made = make_viewer(run)
    yield made
    made.close()


@pytest.fixture
def stranger(viewer):
    """A client that knows nothing."""
    return viewer.app.server.test_client()


@pytest.fixture
def thief(viewer):
    """A client that has the cookie alone, as a server on another port gets to see it."""
    client = viewer.app.server.test_client()
    welcome(client, viewer)
    return client


@pytest.fixture
def friend(viewer):
    """A client that came with the token, as a browser does."""
    client = viewer.app.server.test_client()
    client.environ_base["HTTP_X_SOLVAR_PAGE"] = page_secret(welcome(client, viewer).text)
    return client


def welcome(client, viewer):
    return ask(client, f"/?token={viewer.guard.token}")


def ask(client, path, **headers):
    return client.get(path, headers={"Host": HOST, **headers})


@pytest.mark.parametrize("path", PLACES)
def test_without_token_nothing_is_told(stranger, path):
    answer = ask(stranger, path)
    assert answer.status_code == 403
    assert b"dash" not in answer.data


@pytest.mark.parametrize("path", PLACES)
def test_first_visit_opens_the_rest(friend, path):
    assert ask(friend, path).status_code == 200


@pytest.mark.parametrize("path", SHELL)
def test_cookie_alone_opens_what_every_viewer_has(thief, path):
    assert ask(thief, path).status_code == 200


@pytest.mark.parametrize(
    "name", ["{%scripts%}", "{%app_entry%}", "{%title%}", "<script>alert(1)<script>", "a&lt;b"]
)
def test_name_of_the_folder_is_text_and_not_in_the_page_that_the_cookie_opens(run, friend, name):
    moved = run.folder.rename(run.folder.with_name(name))
    viewer = make_viewer(moved)
    client = viewer.app.server.test_client()
    client.environ_base["HTTP_X_SOLVAR_PAGE"] = page_secret(welcome(client, viewer).text)
    assert page_of(client) == page_of(friend)
    header = ask(client, "/_dash-layout").json["props"]["children"][0]["props"]["children"]
    assert header[1]["props"]["children"] == name
    viewer.close()


def page_of(client) -> str:
    """Without what Dash draws by lot for each visit."""
    return re.sub('"end_id":"[^"]*"', "", ask(client, "/").text)


@pytest.mark.parametrize("secret", [None, "", "x" * 43, "token", "cookie"])
def test_cookie_that_another_port_has_seen_neither_reads_nor_acts(thief, viewer, secret):
    known = {"token": viewer.guard.token, "cookie": cookie_of(thief, viewer)}
    headers = {} if secret is None else {PAGE_HEADER: known.get(secret, secret)}
    for path in RUN:
        assert ask(thief, path, **headers).status_code == 403
    posted = thief.post("/_dash-update-component", json={}, headers={"Host": HOST, **headers})
    assert posted.status_code == 403


def test_secret_of_the_page_alone_opens_nothing(stranger, thief, viewer):
    secret = page_secret(welcome(thief, viewer).text)
    for path in PLACES:
        assert ask(stranger, path, **{PAGE_HEADER: secret}).status_code == 403


def cookie_of(client, viewer) -> str:
    return client.get_cookie(viewer.guard.cookie_name, domain="127.0.0.1").value


def test_cookie_is_random_strict_and_out_of_reach_of_scripts(viewer, stranger, friend):
    answer = welcome(stranger, viewer)
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Path=/" in cookie
    assert viewer.guard.token not in cookie + answer.text
    assert cookie_of(stranger, viewer) not in (answer.text, cookie_of(friend, viewer))
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_tabs_of_one_browser_share_a_session_and_browsers_do_not(viewer, stranger, friend):
    first, second, third = (
        page_secret(welcome(one, viewer).text) for one in (stranger, stranger, friend)
    )
    assert first == second != third


def test_cookie_that_another_port_sets_does_not_hide_ours(viewer, friend):
    cookies = (
        f"{viewer.guard.cookie_name}=x; {viewer.guard.cookie_name}={cookie_of(friend, viewer)}"
    )
    headers = {"Cookie": cookies, PAGE_HEADER: friend.environ_base["HTTP_X_SOLVAR_PAGE"]}
    client = viewer.app.server.test_client(use_cookies=False)
    assert ask(client, "/_dash-layout", **headers).status_code == 200


def test_oldest_of_many_sessions_is_forgotten(viewer, friend):
    for _ in range(15):
        welcome(viewer.app.server.test_client(), viewer)
    assert ask(friend, "/_dash-layout").status_code == 200
    welcome(viewer.app.server.test_client(), viewer)
    assert ask(friend, "/_dash-layout").status_code == 403
    welcome(friend, viewer)
    assert ask(friend, "/").status_code == 200


@pytest.mark.parametrize("token", ["", "x", "ü", "a" * 43])
def test_wrong_token_is_refused_and_sets_nothing(stranger, token):
    answer = ask(stranger, f"/?token={token}")
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


def test_token_of_another_viewer_is_refused(run, viewer, stranger):
    other = make_viewer(run)
    assert ask(stranger, f"/?token={other.guard.token}").status_code == 403
    assert other.guard.cookie_name != viewer.guard.cookie_name
    other.close()


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:5005", "127.0.0.1.evil.example", "", "127.0.0.2", "a@localhost"],
)
def test_foreign_host_is_refused_even_with_the_cookie(friend, host):
    assert friend.get("/", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1:5005", "http://127.0.0.1:5006"]
)
def test_other_origin_is_refused_even_with_the_cookie(friend, origin):
    assert ask(friend, "/_dash-layout", Origin=origin).status_code == 403
    posted = friend.post(
        "/_dash-update-component", json={}, headers={"Host": HOST, "Origin": origin}
    )
    assert posted.status_code == 403


def test_own_origin_is_welcome(friend):
    assert ask(friend, "/_dash-layout", Origin=f"http://{HOST}").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/app.py",
        "/assets/..%2fapp.py",
        "/assets/%252e%252e%252fapp.py",
        "/assets/..\\app.py",
        "/assets/%5c..%5capp.py",
        "/assets/viewer.js%00.css",
    ],
)
def test_path_that_climbs_is_refused_even_with_the_cookie(friend, path):
    assert ask(friend, path).status_code == 400


def test_every_answer_is_sealed(friend, stranger):
    for answer in (ask(friend, "/"), ask(stranger, "/")):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"


def test_page_names_no_other_server(friend):
    page = ask(friend, "/").get_data(as_text=True)
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_endless_request_is_refused(friend):
    answer = friend.post(
        "/_dash-update-component", data=b"x" * (5 << 20), headers={"Host": HOST},
        content_type="application/json",
    )  # fmt: skip
    assert answer.status_code == 413


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:1", "127.0.0.1:65535"])
def test_this_machine_is_local(host):
    assert is_local(host)


def test_small_judgements():
    assert not is_local("localhost:port") and not is_local("[::1") and not is_local("localhost/x")
    assert same_origin(None, HOST) and same_origin(f"http://{HOST}", HOST)
    assert not climbs("/assets/viewer.js?m=1..2") and climbs("/a/%25252525252e")


@pytest.fixture
def server(run):
    opened = ViewerServer(run)
    thread = threading.Thread(target=opened.serve, daemon=True)
    thread.start()
    yield opened
    opened.stop()
    thread.join(timeout=10)
    opened.close()


def raw(server, request: bytes) -> bytes:
    """The first line that a real socket answers."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as wire:
        wire.sendall(request)
        return wire.recv(200).split(b"\r\n")[0]


@pytest.mark.timeout(60)
def test_real_server_listens_on_this_machine_alone_and_checks_every_request(server):
    with socket.socket() as everywhere, pytest.raises(ConnectionRefusedError):
        everywhere.connect(("127.0.0.2", server.port))
    host = f"Host: 127.0.0.1:{server.port}\r\n".encode()
    assert b"403" in raw(server, b"GET / HTTP/1.1\r\n" + host + b"\r\n")
    for path in (b"/../../etc/passwd", b"/assets/%2e%2e/app.py"):
        assert b"400" in raw(server, b"GET " + path + b" HTTP/1.1\r\n" + host + b"\r\n")
    assert b"403" in raw(server, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert b"400" in raw(server, b"GET http://evil.example/ HTTP/1.1\r\n" + host + b"\r\n")
    browser, base = visit(server.address), f"http://127.0.0.1:{server.port}"
    assert b"500 particles" in browser.open(f"{base}/_dash-layout", timeout=10).read()
    browser.addheaders.clear()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        browser.open(f"{base}/_dash-layout", timeout=10)
    assert server.tunnel.startswith(f"ssh -N -L {server.port}:127.0.0.1:{server.port} ")
    assert server.viewer.guard.token not in server.tunnel


def test_taken_port_is_told(run, server):
    with pytest.raises(InputError, match="cannot be used"):
        ViewerServer(run, server.port)
    with pytest.raises(InputError, match="not a free port"):
        ViewerServer(run, 80)
