"""`solvar run`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from solvar.cli.arguments import AsJson, NewRun, Overwrite, ParticlesFile, Resume
from solvar.cli.options import ReadingOptions, command
from solvar.cli.signals import stopped_by_signals
from solvar.fitting.settings import FitSettings

app = typer.Typer(add_completion=False)


@app.command()
@command
def run(
    particles: ParticlesFile,
    output: NewRun,
    settings: FitSettings,
    reading: ReadingOptions,
    overwrite: Overwrite = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Find how the molecule varies: mean, eigenvolumes, latents, report."""
    run_and_tell(particles, output, settings, reading, (overwrite, resume), as_json)


def run_and_tell(
    particles: Path,
    output: Path,
    settings: FitSettings,
    reading: ReadingOptions,
    wishes: tuple[bool, bool],
    as_json: bool,
) -> None:
    """The main job, and what it found, in the terminal; `wishes` are whether to overwrite and to resume."""
    from solvar.cli.console import make_progress, print_json
    from solvar.cli.summary import print_summary
    from solvar.parallel import is_first
    from solvar.results.writer import check_folder

    overwrite, resume = wishes
    leads = is_first()
    if leads:
        check_folder(output, overwrite, resume)  # known before the particles are read
    table = reading.read(particles, ignore_poses=settings.ab_initio)

    from solvar.job import run_job

    with stopped_by_signals():
        found = run_job(
            table,
            settings,
            output,
            progress=make_progress() if leads else None,
            overwrite=overwrite,
            resume=resume,
            command=sys.argv,
        )
    if not leads:
        return
    if as_json:
        print_json(found.summary())
    else:
        print_summary(found)
