"""Tables that more than one command prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_MARK = {"ok": "[green]✓[/green]", "warning": "[yellow]![/yellow]", "error": "[red]✗[/red]"}


def findings_table(title: str, rows: Iterable[tuple[str, str, str]]) -> Table:
    """Findings (level, topic, text), the level as a mark."""
    from rich.markup import escape

    table = plain_table(title)
    table.add_column("", width=1)
    table.add_column("about", style="bold", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for level, topic, text in rows:
        table.add_row(_MARK.get(level, level), escape(topic), escape(text))
    return table


def metrics_table(title: str, metrics: Mapping[str, Any]) -> Table:
    """Metrics by name; nested ones carry the names of their groups."""
    from rich.markup import escape

    table = plain_table(title)
    table.add_column("metric", style="bold", overflow="fold")
    table.add_column("value", overflow="fold")
    for name, value in _flat(metrics):
        table.add_row(escape(name.replace("_", " ")), escape(_shown(value)))
    return table


def plain_table(title: str) -> Table:
    """The look of all tables: a title on the left, one rule, no box."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    return Table(
        title=escape(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        pad_edge=False,
    )  # fmt: skip


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}, ")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return "  ".join(_shown(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "–" if value is None else str(value)
