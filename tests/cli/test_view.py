"""`solvar view`: what it prints, and what it says when it cannot."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from solvar.cli.main import app
from solvar.extras import install_command
from synthetic import make_fit
from written import written


def sentence(*arguments) -> str:
    result = CliRunner().invoke(app, ["view", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_folder_without_a_run_is_one_sentence(tmp_path):
    pytest.importorskip("dash", reason="solvar[view] is not installed")
    assert "holds no finished run" in sentence(tmp_path)


@pytest.mark.parametrize("package", ["dash", "skimage"])
def test_missing_extra_is_one_sentence(tmp_path, monkeypatch, package):
    for name in [n for n in sys.modules if n.startswith(("solvar.viewer", package))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert install_command("view") in sentence(tmp_path)


# What is started as the browser: it notes what others can see of it, and what it is to open.
BROWSER = """#!/bin/sh
tr '\\0' ' ' < /proc/$$/cmdline > seen
page="${1#file://}"
stat -c '%a' "$page" "$(dirname "$page")" > modes
cp "$page" page && touch done
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_address_opens_the_page_is_in_no_command_line_and_leaves_nothing(tmp_path, ending):
    pytest.importorskip("dash", reason="solvar[view] is not installed")
    from visitor import visit

    fit = make_fit(tmp_path)
    folder, temporary, browser = (tmp_path / n for n in ("[red]a:smile:", "tmp", "browser"))
    temporary.mkdir()
    browser.write_text(BROWSER)
    browser.chmod(0o755)
    written(folder, fit)
    process = subprocess.Popen(
        [sys.executable, "-m", "solvar", "view", "--browser", folder],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": str(temporary),
             "BROWSER": f"{browser} %s"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += line
        assert f"{folder} is open at" in printed
        address = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=(\S+)", printed)
        port, token = address.groups()
        [tunnel] = [line for line in printed.splitlines() if "ssh" in line]
        assert f"ssh -N -L {port}:127.0.0.1:{port} " in tunnel and token not in tunnel
        layout = visit(address[0]).open(f"http://127.0.0.1:{port}/_dash-layout", timeout=20)
        assert b"40 particles" in layout.read()
        while not (tmp_path / "done").exists():
            time.sleep(0.05)
        seen = (tmp_path / "seen").read_text()
        assert "file://" in seen and token not in seen
        assert (tmp_path / "modes").read_text().split() == ["600", "700"]
        assert f'url={address[0]}"' in (tmp_path / "page").read_text()
    finally:
        process.send_signal(ending)
        process.communicate(timeout=30)
    assert process.returncode == 0
    assert list(temporary.glob("solvar*")) == []


def test_user_without_a_name_is_told_in_words(monkeypatch):
    pytest.importorskip("dash", reason="solvar[view] is not installed")
    from solvar.viewer.server import ViewerServer, user_name

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    assert user_name() is None
    nameless = ViewerServer.__new__(ViewerServer)
    nameless.port = 5005
    assert nameless.tunnel == f"ssh -N -L 5005:127.0.0.1:5005 {socket.gethostname()}"
    assert "your user name" in nameless.tunnel_words
