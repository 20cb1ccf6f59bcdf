"""Distributions that nobody installed: a module and what pip would leave beside it, on the path."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent


def distribution(folder: Path, name: str, source: str, entries: str) -> Path:
    """A distribution whose one module holds `source`; `entries` is its entry_points.txt."""
    (folder / f"{name}.py").write_text(dedent(source))
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(dedent(entries))
    return folder
