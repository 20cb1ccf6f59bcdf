"""Pages of the site that are made when it is built, so that they cannot drift from the program.

`commands.md` is written from the commands themselves; the changelog, the guide for contributors and the
examples stay where they are in the repository and are brought in; the nav gets what is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
DECISIONS = "decisions/"
# Pages of work that may not have landed yet: shown after the named page as soon as they exist.
OPTIONAL = {"scaling.md": ("GPU", "Scaling")}
FROM_ROOT = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the decisions and the optional pages that exist into the nav."""
    for section in config.nav or []:
        for pages in section.values():
            if isinstance(pages, list):
                pages[:] = list(_with_existing(pages, Path(config.docs_dir)))
    return config


def _with_existing(pages: list[dict[str, Any]], docs: Path) -> Iterator[dict[str, Any]]:
    for page in pages:
        (title, target), *_ = page.items()
        if target == DECISIONS:
            files = sorted((docs / DECISIONS).glob("*.md"))
            yield {title: [{_title(file): DECISIONS + file.name} for file in files]}
            continue
        yield page
        for name, (after, title_of_it) in OPTIONAL.items():
            if title == after and (docs / name).exists():
                yield {title_of_it: name}


def _title(page: Path) -> str:
    return page.read_text().splitlines()[0].removeprefix("# ")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that do not lie in `docs/`."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, "commands.md", content=commands_page()))
    for page, source in FROM_ROOT.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    for example in sorted((ROOT / "examples").glob("*.ipynb")):
        uri = f"examples/{example.name}"
        files.append(File.generated(config, uri, abs_src_path=str(example)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links that lead out of `docs/` in the repository, to what `on_files` brought in."""
    return markdown.replace("](../examples/", "](examples/")


def commands_page() -> str:
    """Every command with its arguments, options, defaults and help, as Markdown."""
    import typer

    from solvar.cli.main import COMMANDS, app

    program = typer.main.get_command(app)
    context = program.make_context("solvar", [], resilient_parsing=True)
    parts = [
        "# Commands",
        "Made from the program when this site is built: what `solvar COMMAND --help` prints.",
        "Exit codes: 0 done, 2 bad input (one sentence says what to change), 1 failed, 130 and 143 stopped.",
    ]
    for name in COMMANDS:
        command = program.get_command(context, name)  # type: ignore[attr-defined]
        parts += _command(command, command.make_context(name, [], context, resilient_parsing=True))
    return "\n\n".join(parts) + "\n"


def _command(command: Any, context: Any) -> Iterator[str]:
    yield f"## solvar {command.name}"
    yield _prose(command.help)
    yield f"```text\n{' '.join(command.get_usage(context).split())}\n```"
    panels: dict[str, list[str]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            panel = "Arguments" if parameter.param_type_name == "argument" else _panel(parameter)
            panels.setdefault(panel, []).append(_row(*record))
    for panel, rows in panels.items():
        table = "\n".join(["| | |", "|---|---|", *rows])
        yield f'**{panel}**\n\n<div class="options" markdown>\n\n{table}\n\n</div>'


def _panel(parameter: Any) -> str:
    return parameter.rich_help_panel or "Options"


def _row(spelling: str, text: str) -> str:
    return f"| {_code(spelling)} | {_prose(text)} |"


def _code(spelling: str) -> str:
    escaped = spelling.strip().replace("|", "&#124;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<code>{escaped}</code>"


def _prose(text: str | None) -> str:
    """Help as Markdown: nothing in it is markup but what stands in backticks."""
    plain = " ".join((text or "").split())
    return re.sub(r"([|*_<\[])", r"\\\1", plain)
