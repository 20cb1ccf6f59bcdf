"""Tables that more than one command prints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from solvar.cli.console import shown

if TYPE_CHECKING:
    from rich.table import Table

_MARK = {"ok": "[green]✓[/green]", "warning": "[yellow]![/yellow]", "error": "[red]✗[/red]"}


def findings_table(title: str, rows: Iterable[tuple[str, str, str]]) -> Table:
    """Findings (level, topic, text), the level as a mark."""
    table = plain_table(title)
    table.add_column("", width=1)
    table.add_column("about", style="bold", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for level, topic, text in rows:
        table.add_row(_MARK.get(level, level), shown(topic), shown(text))
    return table


def plain_table(title: str) -> Table:
    """The look of all tables: a title on the left, one rule, no box."""
    from rich import box
    from rich.table import Table

    return Table(
        title=shown(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        pad_edge=False,
    )  # fmt: skip
