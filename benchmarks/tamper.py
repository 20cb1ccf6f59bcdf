"""A run folder with every file damaged in every way, through every command that reads what was damaged.

The tables of `tests/hostile/tampering.py`, all rows with all their commands: each does its work or refuses in
one sentence with exit code 2. Exit code 1 unless all do.

    nice python benchmarks/tamper.py [--table NAME] [--stride 1] [--processes 2]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hostile.project import make_project
from hostile.tampering import TABLES, unsound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=TABLES, action="append", help="this one alone")
    parser.add_argument("--stride", type=int, default=1, help="rows from one taken to the next")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    bad = 0
    with ProcessPoolExecutor(options.processes) as pool:
        for table in options.table or TABLES:
            started = time.perf_counter()
            shares = range(options.processes)
            gone = partial(go_through, table, options.stride, options.processes)
            counts, found = zip(*pool.map(gone, shares), strict=True)
            told = [line for lines in found for line in lines]
            print(f"{table}: {sum(counts):,} commands, {len(told)} unsound,", end=" ")
            print(f"{time.perf_counter() - started:.0f} s", *told, sep="\n  ", flush=True)
            bad += len(told)
    sys.exit(int(bad > 0))


def go_through(table: str, stride: int, shares: int, share: int) -> tuple[int, list[str]]:
    """How many commands met the rows of this share, and what went wrong."""
    count, found = 0, []
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        rows = list(TABLES[table](project))[::stride]
        for row in rows[share::shares]:
            for command in row.readers:
                count += 1
                told = unsound(project, Path(folder) / "copy", row, command)
                found += [told] if told else []
    return count, found


if __name__ == "__main__":
    main()
