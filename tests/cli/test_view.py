"""`solvar view`: what it prints, and what it says when it cannot."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar

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


@pytest.mark.timeout(120)
def test_printed_address_opens_the_page_until_ctrl_c(tmp_path):
    pytest.importorskip("dash", reason="solvar[view] is not installed")
    fit = make_fit(tmp_path)
    folder = tmp_path / "run"
    written(folder, fit)
    process = subprocess.Popen(
        [sys.executable, "-m", "solvar", "view", folder],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += line
        address = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=\S+", printed)
        port = address.group(1)
        assert f"ssh -N -L {port}:127.0.0.1:{port} " in printed
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        browser.open(address.group(), timeout=20).read()
        page = browser.open(f"http://127.0.0.1:{port}/_dash-layout", timeout=20).read()
        assert b"40 particles" in page
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0
