"""`solvar evaluate`: a run against the known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solvar.cli.arguments import AsJson, RunFolder
from solvar.cli.options import command

app = typer.Typer(add_completion=False)


@app.command()
@command
def evaluate(
    run: RunFolder,
    truth: Annotated[
        Path,
        typer.Option(
            "--truth", help="Folder with the truth, as `simulate` writes it.", show_default=False
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Compare a run with the known truth of a simulated data set."""
    from solvar.cli.console import output, print_json
    from solvar.cli.metrics import metrics_table, poses_table
    from solvar.evaluation import evaluate as measure

    metrics = measure(run, truth)
    if as_json:
        print_json(metrics)
    else:
        console = output()
        console.print(metrics_table(f"{run} against {truth}", metrics))
        if "poses" in metrics:
            console.print(poses_table(metrics["poses"]))
