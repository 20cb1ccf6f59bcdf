"""The main job: estimate, write the run folder, draw the figures, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from solvar.estimation.fit import fit
from solvar.estimation.settings import FitSettings
from solvar.notebook import Run
from solvar.parallel import join_processes
from solvar.particles import ParticleSet
from solvar.paths import require_utf8
from solvar.progress import Progress, SilentProgress, harmless
from solvar.report import draw_figures
from solvar.report.html import write_report
from solvar.results.checkpoint import Checkpoint, is_finished
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
    resume: bool = False,
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
        Replace a finished or an interrupted run in `output`.
    resume : bool
        Go on with an interrupted run in `output`, if there is one; of a finished one draw the figures
        and the report again, in case it was stopped at these.
    command : sequence of str
        The command line, kept with the result.

    Raises
    ------
    InputError
        If the particles, the settings or the folder cannot be used, or the interrupted run had others.

    Notes
    -----
    Started several times by ``torchrun``, all processes share the work; the first one writes.
    """
    progress = harmless(progress)
    processes = join_processes(settings.device or "cpu")
    leads = processes.rank == 0
    inputs = _inputs(particles, settings)
    require_utf8(output, particles.reading.working_folder, *inputs)
    if leads:
        prepare_folder(Path(output), overwrite, resume, inputs)
    processes.wait()
    folder = Path(output)
    with (
        logged(folder / "run.log", progress, command)
        if leads
        else nullcontext(SilentProgress()) as told
    ):
        provenance = record(particles, settings, tuple(command))
        checkpoint = Checkpoint(folder, writes=leads)
        finished = resume and is_finished(folder, settings, provenance)
        processes.wait()
        if not finished:
            checkpoint.begin(settings, provenance, resume)
            processes.wait()
            found = fit(particles, settings, told, checkpoint, processes)
            if leads:
                write_run(folder, found, provenance)
        if leads:
            checkpoint.remove()
            run = Run(folder)
            draw_figures(run, told)
            write_report(run, told)
        processes.leave()
    return Run(folder)


def _inputs(particles: ParticleSet, settings: FitSettings) -> list[Path]:
    mask = [] if settings.mask is None else [settings.mask]
    return [particles.source, *particles.stacks, *mask]
