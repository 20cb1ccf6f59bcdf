"""`solvar evaluate`: a run against the known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from solvar.cli.arguments import AsJson, RunFolder
from solvar.cli.options import command
from solvar.files import owned, write_json

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
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder for metrics.json and figures; an earlier comparison there is replaced.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a run with the known truth of a simulated data set."""
    from solvar.cli.console import output as console_of
    from solvar.cli.console import print_json, shown
    from solvar.cli.metrics import metrics_table, poses_table
    from solvar.evaluation import evaluate as measure

    metrics = measure(run, truth)
    figures = [] if output is None else _write(metrics, output)
    if as_json:
        print_json(metrics)
    else:
        console = console_of()
        console.print(metrics_table(f"{run} against {truth}", metrics))
        if "poses" in metrics:
            console.print(poses_table(metrics["poses"]))
        if output is not None:
            console.print(
                f"Wrote metrics.json and {len(figures)} figures to {shown(output)}", soft_wrap=True
            )


def _write(metrics: dict[str, Any], folder: Path) -> list[Path]:
    """metrics.json and the figures, in a folder that is made if need be."""
    from solvar.report.evaluation import EVALUATION, draw_evaluation

    with owned(folder, "solvar evaluate") as own:
        own.refuse_foreign(EVALUATION)
        own.remove(EVALUATION, first="metrics.json")
        # numbers first: no picture is worth losing them
        write_json(own.file(EVALUATION, "metrics.json"), metrics)
        return draw_evaluation(metrics, own)
