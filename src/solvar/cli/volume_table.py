"""The table that `solvar volume` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from solvar.cli.console import shown
from solvar.cli.tables import plain_table
from solvar.text import with_capital


def volume_table(folder: Path, records: Sequence[dict[str, Any]]) -> Group:
    """One row a volume, and what to open next."""
    many = f"{len(records)} volumes" if len(records) > 1 else "1 volume"
    table: Table = plain_table(f"{many} in {folder}")
    table.add_column("volume")
    table.add_column("z", overflow="fold")
    table.add_column("particles", justify="right")
    table.add_column("resolution (Å)", justify="right")
    for record in records:
        resolution = record["resolution_angstrom"]
        table.add_row(
            shown(record["name"]),
            "  ".join(f"{value:.3g}" for value in record["z"][:4]),
            _particles(record),
            "–" if resolution is None else f"{resolution:.1f}",
        )
    first, last = records[0]["name"], records[-1]["name"]
    series = f"{folder}/{first}.mrc … {last}.mrc as a series"
    what = series if len(records) > 1 else f"{folder}/{first}.mrc"
    hint = f"Look at\n  {shown(what)} in ChimeraX"
    notes = dict.fromkeys(record["bfactor_note"] for record in records if record["bfactor_note"])
    return Group(table, *(shown(with_capital(note) + ".") for note in notes), hint)


def _particles(record: dict[str, Any]) -> str:
    """How many took part, and as how many they count where that is fewer."""
    if not record["particles"]:
        return "–"
    told, effective = f"{record['particles']:,}", record["effective_particles"]
    fewer = effective is not None and round(effective) < record["particles"]
    return f"{told} (as {effective:,.0f})" if fewer else told
