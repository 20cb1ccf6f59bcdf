"""The documentation site: what the program makes of it is whole; what is written by hand names it all."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import typer

import solvar
from solvar.cli.main import COMMANDS, app
from solvar.fitting.settings import FitSettings

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def commands_page():
    spec = importlib.util.spec_from_file_location("site_hook", ROOT / "docs/hooks/site.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook.commands_page()


@pytest.mark.parametrize("name", COMMANDS)
def test_page_of_commands_has_every_option(commands_page, name):
    section = re.search(rf"^## solvar {name}$(.*?)(?=^## |\Z)", commands_page, re.M | re.S).group(1)
    command = typer.main.get_command(app).get_command(None, name)
    spellings = [opt for p in command.params for opt in p.opts if opt.startswith("--")]
    assert spellings
    assert [s for s in spellings if not re.search(rf"<code>[^\n]*{s}\b", section)] == []


def test_page_of_commands_tells_defaults_and_meaning(commands_page):
    run = commands_page.split("## solvar run")[1].split("\n## ")[0]
    description = FitSettings.model_fields["halfsets"].description
    assert f"{description} \\[default: halfsets]" in run


def test_python_page_has_the_public_names_and_no_other():
    page = (ROOT / "docs/api.md").read_text()
    named = re.findall(r"^::: solvar\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(set(solvar.__all__) - {"__version__"})


def test_every_command_of_a_tutorial_is_executed_or_says_why_not():
    for page in sorted((ROOT / "docs").glob("tutorial-*.md")):
        outside = re.sub(r"^```bash\n.*?^```$", "", page.read_text(), flags=re.M | re.S)
        assert not re.findall(r"^ *\$? ?solvar \w+ .*$", outside, re.M), page.name


def test_site_asks_nothing_of_the_net():
    config = (ROOT / "mkdocs.yml").read_text()
    assert "font: false" in config
    assert not re.search(r"https?://", config)
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    # a drawing in mermaid's language makes the theme load its program from elsewhere
    assert [p.name for p in pages if "```mermaid" in p.read_text()] == []
    assert [p.name for p in pages if re.search(r"!\[[^\]]*\]\(https?://", p.read_text())] == []
