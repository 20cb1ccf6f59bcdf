"""What was looked at and what was seen there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `level`, the `topic` in a word or two, one plain sentence."""

    level: Literal["ok", "warning", "error"]
    topic: str
    text: str


def are_sound(findings: Iterable[Finding]) -> bool:
    """Whether none of them is an error."""
    return all(finding.level != "error" for finding in findings)
