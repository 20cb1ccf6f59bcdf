"""The main job: estimate, write the run folder, draw the figures, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from solvar.estimation.fit import fit
from solvar.estimation.settings import FitSettings
from solvar.notebook import Run
from solvar.particles import ParticleSet
from solvar.progress import Progress, SilentProgress
from solvar.report import draw_figures
from solvar.report.html import write_report
from solvar.results.log import logged
from solvar.results.provenance import record
from solvar.results.writer import prepare_folder, write_run


def run_job(
    particles: ParticleSet,
    settings: FitSettings,
    output: str | Path,
    *,
    progress: Progress | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
) -> Run:
    """Find the ways the particles differ and leave everything that was found in a run folder.

    The run is finished once `run.json` is there; a figure or report that cannot be made after that
    is told and does not undo it.

    Public as ``solvar.fit``.

    Parameters
    ----------
    particles : ParticleSet
    settings : FitSettings
    output : path
        The run folder; it is created. What it holds is described in docs/file-formats.md.
    progress : Progress, optional
        Who is told of long steps; nobody by default.
    overwrite : bool
        Replace a finished run in `output`.
    command : sequence of str
        The command line, kept with the result.

    Raises
    ------
    InputError
        If the particles, the settings or the folder cannot be used.
    """
    progress = progress or SilentProgress()
    folder = prepare_folder(Path(output), overwrite)
    with logged(folder / "run.log", progress, command) as told:
        provenance = record(particles, settings, tuple(command))
        found = fit(particles, settings, told)
        write_run(folder, found, provenance)
        run = Run(folder)
        draw_figures(run, told)
        write_report(run, told)
    return run
