"""`solvar analyze`: clusters, densities, paths, outliers and diagnostics of a run's latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from solvar.analysis.settings import AnalysisSettings
from solvar.cli.arguments import AsJson, RunFolder
from solvar.cli.options import command
from solvar.commands import command_line
from solvar.results.words import NO_OTHER_CAUSE, viewing

if TYPE_CHECKING:
    from rich.table import Table

    from solvar.analysis import Analysis

app = typer.Typer(add_completion=False)


@app.command()
@command
def analyze(run: RunFolder, settings: AnalysisSettings, as_json: AsJson = False) -> None:
    """Find clusters, densities, paths and outliers among the particles of a run."""
    from solvar.results.run import Run

    folder = Run(run).folder  # known to be a run before anything long is imported

    from solvar.analysis import analyze as study
    from solvar.analysis import write_analysis
    from solvar.analysis.writing import summary
    from solvar.cli.console import make_progress, print_json
    from solvar.files import owned
    from solvar.report.analysis import draw_analysis
    from solvar.report.html import write_report
    from solvar.report.movie import draw_path_movies
    from solvar.report.movie_files import shown_once

    progress = make_progress()
    with owned(folder, "solvar analyze") as own:
        found = Run(folder)  # once more, now that nobody replaces it
        analysis = study(found, settings, progress)
        written = write_analysis(found, own, analysis)
        with progress.step("Figures", 0):
            figures = draw_analysis(analysis, own)
        paths = {path.name: path.points for path in analysis.trajectories}
        latents = {name: analysis.space.to_latents(points) for name, points in paths.items()}
        figures += shown_once(draw_path_movies(found, latents, own, progress))
        report = write_report(found, own, progress)
    told = summary(found, analysis)
    if as_json:
        print_json(told)
    else:
        _print(analysis, told, written, figures if report is None else [report, *figures])


def _print(analysis: Analysis, told: dict[str, Any], folder: Path, drawn: list[Path]) -> None:
    from solvar.analysis.words import gap_sentence, motion_sentence, states_sentence
    from solvar.cli.console import output, print_commands, shown

    console = output()
    console.print()
    if sentence := states_sentence(told["states"]):
        console.print(sentence)
        console.print()
    console.print(clusters_table(analysis))
    if analysis.trajectories:
        console.print(paths_table(analysis))
    for path in told["trajectories"]:
        if sentence := gap_sentence(path):
            console.print(f"[yellow]![/yellow] {shown(sentence)}")
    for motion in told["rigid_bodies"] or []:
        console.print(shown(motion_sentence(motion)))
    outliers = analysis.outliers
    either = int((outliers.far | outliers.unlikely).sum())
    console.print(
        f"{either:,} of {len(analysis.space):,} particles do not fit the model: "
        f"{int(outliers.far.sum()):,} by their latents, "
        f"{int(outliers.unlikely.sum()):,} by their images."
    )
    for message in analysis.messages:
        console.print(f"[cyan]·[/cyan] {shown(message)}")
    for warning in analysis.warnings:
        console.print(f"[yellow]![/yellow] {shown(warning)}")
    if not analysis.warnings:
        console.print(f"[green]✓[/green] {NO_OTHER_CAUSE}")
    console.print("\n[bold]Look at[/bold]")
    for path in drawn:
        console.print(f"  {shown(path)}  [dim]{_what(path)}[/dim]", soft_wrap=True)
    console.print("\n[bold]Next[/bold]")
    names = {"clusters": "volumes at the centre of each cluster"}
    if analysis.states is not None and len(analysis.states) > 1:
        names["states"] = "volumes at the top of each state"
    for found in analysis.trajectories:
        names[f"trajectory_{found.name}"] = f"volumes along the path {found.name}"
    volumes = [
        (command_line("solvar", "volume", folder.parent, "--at", folder / f"{name}.csv"), what)
        for name, what in names.items()
    ]
    print_commands(console, [*viewing(folder.parent), *volumes])


def _what(path: Path) -> str:
    """What a file shows."""
    return _WORDS.get(path.name, f"the molecule along the path {path.stem.removeprefix('movie_')}")


_WORDS = {
    "report.html": "open it in a browser: everything about the run on one page",
    "clusters.png": "which particles belong together",
    "density.png": "where particles are, states and paths",
    "umap.png": "neighbourhoods of the particles",
    "diagnostics.png": "whether latents follow anything but structure",
}


def clusters_table(analysis: Analysis) -> Table:
    """One row a cluster: particles, share, views, nearest particle, centre in σ."""
    from solvar.cli.tables import plain_table

    clusters, space = analysis.clusters, analysis.space
    how = "by BIC" if clusters.bic else "as asked"
    table = plain_table(
        f"{len(clusters)} clusters ({clusters.method}, number {how}) of {len(space):,} particles"
    )
    for name in ("cluster", "particles", "share", "views", "nearest particle"):
        table.add_column(name, justify="right")
    table.add_column("centre (σ)")
    total = clusters.size.sum()
    for k, size in enumerate(clusters.size):
        centre = " ".join(f"{value:+.1f}" for value in clusters.centre[k, :6])
        table.add_row(
            str(k + 1), f"{size:,}", f"{100 * size / total:.0f} %",
            f"{100 * analysis.coverage[k]:.0f} %", str(clusters.nearest[k]), centre,
        )  # fmt: skip
    return table


def paths_table(analysis: Analysis) -> Table:
    """One row a path: its ends, length and how many particles stand behind its points."""
    from solvar.cli.tables import plain_table

    table = plain_table("Paths where particles are")
    table.add_column("path")
    for name in ("points", "length (σ)", "particles behind a point", "from", "to particle"):
        table.add_column(name, justify="right")
    for path in analysis.trajectories:
        table.add_row(
            path.name, str(len(path.points)), f"{path.length:.1f}",
            f"{path.behind.min():,} to {path.behind.max():,}",
            str(path.nodes[0]), str(path.nodes[-1]),
        )  # fmt: skip
    return table
