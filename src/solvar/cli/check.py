"""`solvar check`: what is wrong with a particle file, before anything long."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from solvar.cli.arguments import AsJson, ParticlesFile
from solvar.cli.options import ReadingOptions, command, spelled
from solvar.commands import command_line
from solvar.fitting.settings import FitSettings

app = typer.Typer(add_completion=False)


@app.command()
@command
def check(
    particles: ParticlesFile,
    settings: FitSettings,
    reading: ReadingOptions,
    every_image: Annotated[
        bool, typer.Option("--all", help="Look at every image instead of a sample.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look for trouble in a particle file before anything long.

    Ends with exit code 2 when the main job would fail or mislead.
    """
    from solvar.cli.console import make_progress, output, print_commands, print_json
    from solvar.cli.tables import findings_table

    table = reading.read(particles, ignore_poses=settings.ab_initio)

    from solvar.preflight.check import check_particles

    report = check_particles(table, settings, every_image=every_image, progress=make_progress())
    if as_json:
        findings = [asdict(finding) for finding in report.findings]
        print_json({"particles": particles, "ok": report.ok, "findings": findings})
    else:
        rows = [(finding.level, finding.topic, finding.text) for finding in report.findings]
        console = output()
        console.print(findings_table(f"{particles}: {len(table):,} particles", rows))
        if report.ok:
            given = [*spelled(settings), *spelled(reading)]
            run = command_line("solvar", "run", particles, "-o", Path("run"), *given)
            console.print("[bold]Next[/bold]")
            print_commands(console, [(run, "mean, eigenvolumes, latents, report")])
    if not report.ok:
        raise typer.Exit(2)
