"""Pages of the documentation as tests execute them: their blocks of code, in order."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r'^```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code; a title is the name of the file that it is."""

    language: str
    title: str | None
    code: str


def blocks(page: str) -> list[Block]:
    """The blocks of a page that name a language."""
    return [Block(*found) for found in _BLOCK.findall(page)]


def execute(code: str, names: dict[str, Any]) -> int:
    """Run statements in a namespace; a value that a comment claims for an expression must be its own.

    Returns the number of claims.
    """
    claims = 0
    for statement in ast.parse(code).body:
        if not isinstance(statement, ast.Expr):
            exec(compile(ast.Module([statement], []), "<page>", "exec"), names)
            continue
        value = eval(compile(ast.Expression(statement.value), "<page>", "eval"), names)
        line = code.splitlines()[statement.end_lineno - 1]
        _, mark, said = line.encode()[statement.end_col_offset :].decode().partition("#")
        if mark:
            claims += 1
            assert value == ast.literal_eval(said.strip()), f"{line}: it is {value!r}"
    return claims
