"""Every file of a run folder, damaged in every way, through the commands that read it.

Each does its work or says one sentence. The tables are long: every seventeenth row is gone through, another
command at each. `benchmarks/tamper.py` goes through all rows with all commands.
"""

from __future__ import annotations

from itertools import cycle
from pathlib import Path

import pytest

from hostile.project import COMMANDS, Project, make_project, told_by
from hostile.tampering import TABLES, unsound

# rows from one that is taken to the next
_STRIDE = 17


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return make_project(tmp_path_factory.mktemp("hostile"))


_TABLES = [
    pytest.param(table, marks=pytest.mark.slow if table in ("json", "arrays") else ())
    for table in TABLES
]


@pytest.mark.parametrize("table", _TABLES)
def test_a_damaged_run_folder_is_used_or_refused_in_one_sentence(
    project: Project, tmp_path: Path, table: str
) -> None:
    rows = list(TABLES[table](project))
    assert len(rows) > 20
    turn = {row.readers: cycle(row.readers) for row in rows}
    taken = [(row, next(turn[row.readers])) for row in rows[::_STRIDE]]
    found = [unsound(project, tmp_path / "copy", row, command) for row, command in taken]
    assert [told for told in found if told] == []


def test_the_run_that_is_damaged_was_sound(project: Project, tmp_path: Path) -> None:
    for name in COMMANDS:
        with project.copied(tmp_path / "copy") as run:
            assert told_by(name, run, project).code == 0, name
