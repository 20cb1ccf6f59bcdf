"""`solvar verify`: whether a run folder is whole, unmixed, and its inputs unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from solvar.cli.arguments import AsJson, RunFolder
from solvar.cli.options import command

if TYPE_CHECKING:
    from solvar.results.verify import Finding

app = typer.Typer(add_completion=False)


@app.command()
@command
def verify(run: RunFolder, as_json: AsJson = False) -> None:
    """Make sure that a run folder is whole, of one run, and that its inputs are unchanged.

    Every file that solvar wrote is compared with its size and digest, and every input of the run with what
    it held then. Ends with 0 if all is well and with 2 if anything is not.
    """
    from solvar.cli.console import make_progress, output, print_json
    from solvar.cli.tables import findings_table
    from solvar.results.run import Run
    from solvar.results.verify import verify as compare

    opened = Run(run)
    found = compare(opened, make_progress())
    wrong = [finding for finding in found if finding.problem is not None]
    if as_json:
        problems = [
            {"kind": each.kind, "path": each.path, "problem": each.problem} for each in wrong
        ]
        print_json({"run": run, "run_id": opened.run_id, "files": len(found), "problems": problems})
    else:
        table = findings_table(f"{run} against its manifest and its inputs", _rows(found))
        output().print(table)
    if wrong:
        raise typer.Exit(2)


def _rows(found: list[Finding]) -> Iterator[tuple[str, str, str]]:
    """What is wrong, file by file, and how many files are as they were."""
    for kind in ("file", "input"):
        of_kind = [finding for finding in found if finding.kind == kind]
        wrong = [finding for finding in of_kind if finding.problem is not None]
        yield from (("error", kind, f"{each.path} {each.problem}") for each in wrong)
        level, well = "warning" if wrong else "ok", len(of_kind) - len(wrong)
        yield level, f"{kind}s", f"{well} of {len(of_kind)} as they were"
