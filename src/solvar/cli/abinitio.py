"""`solvar abinitio`: the main job for particles without poses."""

from __future__ import annotations

from typing import Literal

import typer
from pydantic import Field

from solvar.cli.arguments import AsJson, NewRun, Overwrite, ParticlesFile, Resume
from solvar.cli.options import ReadingOptions, command
from solvar.cli.run import run_and_tell
from solvar.fitting.settings import FitSettings

app = typer.Typer(add_completion=False)


class _Settings(FitSettings):
    """Those of the main job, but for what this command has chosen."""

    ab_initio: Literal[True] = Field(True, description="Find poses from the images alone.")  # type: ignore[assignment]
    refine_pose: Literal[True] = Field(True, description="Refine them.")  # type: ignore[assignment]
    refine_tilts: Literal[False] = Field(False, description="Of tilt series.")  # type: ignore[assignment]
    tilt_contrast: Literal[False] = Field(False, description="Of tilt series.")  # type: ignore[assignment]


@app.command()
@command
def abinitio(
    particles: ParticlesFile,
    output: NewRun,
    settings: _Settings,
    reading: ReadingOptions,
    overwrite: Overwrite = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Find poses from images alone, and how the molecule varies.

    The same run folder as that of solvar run, and everything after it works. Poses in the file are not used.
    Images do not tell the hand of the molecule.
    """
    chosen = FitSettings(**settings.model_dump())
    run_and_tell(particles, output, chosen, reading, (overwrite, resume), as_json)
