"""The pages on Python do what they say, from top to bottom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib

import pytest

import solvar
from docs_pages import DOCS, blocks, execute
from made_up import distribution


def sections(page: str) -> dict[str, str]:
    """What stands below each public name of the page on Python, up to the next one or a heading."""
    found = re.findall(r"^::: solvar\.(\w+)$(.*?)(?=^:::|^#|\Z)", page, re.MULTILINE | re.DOTALL)
    return dict(found)


def test_every_public_name_has_an_example_that_uses_it():
    page = (DOCS / "api.md").read_text()
    examples = {
        name: "".join(block.code for block in blocks(text)) for name, text in sections(page).items()
    }
    assert set(examples) | {"__version__"} == set(solvar.__all__)
    unused = [name for name in examples if not re.search(rf"\bsolvar\.{name}\b", examples[name])]
    assert unused == []
    assert "solvar.__version__" in page


@pytest.mark.slow
def test_examples_of_the_page_on_python_give_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    claims = [execute(block.code, names) for block in blocks((DOCS / "api.md").read_text())]
    assert sum(claims) > 40


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The blocks of the page on objectives, and a folder with its package as pip would leave it."""
    found = blocks((DOCS / "own-objective.md").read_text())
    (module,) = (block for block in found if block.title == "maybe_empty.py")
    (project,) = (block for block in found if block.title == "pyproject.toml")
    declared = tomllib.loads(project.code)["project"]
    entries = "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in members.items())
        for group, members in declared["entry-points"].items()
    )
    distribution(tmp_path, "maybe_empty", module.code, entries)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.chdir(tmp_path)
    return found, module


@pytest.mark.slow
def test_page_on_objectives_does_what_it_says(page):
    found, module = page
    code = [line for line in module.code.splitlines() if line.strip()]
    assert len(code) <= 40
    (check,) = (block.code for block in found if block.language == "python" and not block.title)
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (command,) = (block.code.split() for block in found if block.language == "bash")
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert solvar.Run("run").settings.objective == "maybe-empty"
