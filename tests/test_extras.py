"""What is missing is installed for this copy of the program, and never by its name from the index."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from report.reports import make_run
from solvar import extras
from solvar.analysis.embedding import require_umap
from solvar.cli.summary import print_summary
from solvar.errors import InputError

ROOT = Path(__file__).parents[1]
# `pip install solvar`, quoted or not, with extras or without.
FROM_INDEX = re.compile(r"pip3? +install(?= )[^\n]*?[ '\"`]solvar(\[[\w,]*\])?['\"`\s]")


class Installed:
    """What a package index or a clone leaves of itself."""

    def __init__(self, url: str | None, editable: bool = True) -> None:
        self.url, self.editable = url, editable

    def read_text(self, name):
        assert name == "direct_url.json"
        if self.url is None:
            return None
        return json.dumps({"url": self.url, "dir_info": {"editable": self.editable}})


def pip(line: str) -> list[str]:
    python, *words = shlex.split(line)
    assert python == sys.executable and words[:3] == ["-m", "pip", "install"]
    return words[3:]


def test_a_clone_is_installed_again_with_the_extra(tmp_path, monkeypatch):
    clone = tmp_path / "my clone's"
    (clone / "src" / "solvar").mkdir(parents=True)
    (clone / "constraints.txt").touch()
    monkeypatch.setattr(extras, "__file__", str(clone / "src" / "solvar" / "extras.py"))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(clone.as_uri()))
    expected = ["-c", str(clone / "constraints.txt"), "-e", f"{clone}[view]"]
    assert pip(extras.install_command("view")) == expected


@pytest.mark.parametrize(
    "installed", [Installed(None), Installed("file:///elsewhere"), Installed("file:///", False)]
)
def test_any_other_copy_gets_the_packages_by_name(tmp_path, monkeypatch, installed):
    site = tmp_path / "lib" / "site-packages" / "solvar" / "extras.py"
    monkeypatch.setattr(extras, "__file__", str(site))
    monkeypatch.setattr(metadata, "distribution", lambda name: installed)
    wanted = ["dash>=4.0; extra == 'view'", 'ski>=1; extra == "view"', "numpy>=2", "x; extra=='cu'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    assert pip(extras.install_command("view")) == ["dash>=4.0", "ski>=1"]
    assert pip(extras.install_command("cu")) == ["x"]


def test_the_line_is_read_by_a_shell_and_names_packages_that_this_copy_declares():
    line = extras.install_command("view").replace(sys.executable, "printf '%s\\n'", 1)
    words = subprocess.run(["bash", "-c", line], capture_output=True, text=True).stdout.split("\n")
    assert "solvar" not in words and not FROM_INDEX.search(line)
    assert any(word.startswith("dash>=") or word.endswith("[view]") for word in words)


def test_the_viewer_is_to_be_installed_only_where_it_is_missing(tmp_path, monkeypatch, capsys):
    run = make_run(tmp_path / "run", rank=2)
    pip_lines = []
    for module in ("dash", None):
        if module is None:
            monkeypatch.setitem(sys.modules, "dash", None)
        print_summary(run)
        printed = capsys.readouterr().out.splitlines()
        pip_lines.append([line for line in printed if "pip install" in line])
    assert pip_lines == [
        [],
        [f"  {extras.install_command('view')}  # the packages that the viewer needs"],
    ]


def test_missing_packages_are_told_with_what_installs_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match=re.escape(extras.install_command("umap"))):
        require_umap()


def test_nothing_tells_to_install_solvar_from_the_index():
    assert FROM_INDEX.search("pip install 'solvar[view]'") and FROM_INDEX.search(
        "pip install solvar "
    )
    assert not FROM_INDEX.search("pip install -e '.[view]'")
    files = [ROOT / "README.md", ROOT / "constraints.txt", ROOT / "Makefile"]
    for folder in ("src", "docs", "examples"):
        files += [p for p in (ROOT / folder).rglob("*") if p.suffix in {".py", ".md", ".ipynb"}]
    told = [p.relative_to(ROOT) for p in files if FROM_INDEX.search(p.read_text(encoding="utf-8"))]
    assert told == []
