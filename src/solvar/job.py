"""The main job: estimate, write the run folder, draw the figures, write the report."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import overload

from solvar.files import OwnedFolder
from solvar.fitting.fit import fit
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.notebook import Run
from solvar.parallel import Processes, broadcast, join_processes, refuse_disagreement
from solvar.particles import ParticleSet
from solvar.paths import require_utf8
from solvar.preflight.cost import announce
from solvar.preflight.gate import gate
from solvar.progress import Progress, SilentProgress, harmless
from solvar.report import draw_figures
from solvar.report.html import write_report
from solvar.report.movie import draw_movies
from solvar.results.checkpoint import Checkpoint, is_finished, job_of
from solvar.results.inputs import change_of
from solvar.results.log import logged
from solvar.results.provenance import Provenance, input_paths, record
from solvar.results.writer import LOG, RUN, run_folder, write_run


@overload
def run_job(
    particles: ParticleSet,
    settings: FitSettings | None = None,
    output: None = None,
    *,
    progress: Progress | None = None,
) -> Fit: ...


@overload
def run_job(
    particles: ParticleSet,
    settings: FitSettings | None,
    output: str | Path,
    *,
    progress: Progress | None = None,
    overwrite: bool = False,
    resume: bool = False,
    command: Sequence[str] = (),
) -> Run: ...


def run_job(
    particles: ParticleSet,
    settings: FitSettings | None = None,
    output: str | Path | None = None,
    *,
    progress: Progress | None = None,
    overwrite: bool = False,
    resume: bool = False,
    command: Sequence[str] = (),
) -> Run | Fit:
    """Find the ways the particles differ, in memory or in a run folder that keeps everything found.

    In a folder, the run is finished once `run.json` is there; a figure or report that cannot be made after
    that is told and does not undo it.

    Public as ``solvar.fit``.

    Parameters
    ----------
    particles : ParticleSet
    settings : FitSettings, optional
    output : path, optional
        The run folder; it is created. What it holds is described in docs/file-formats.md. Without it
        nothing is written, and the result lives as long as the variable that holds it.
    progress : Progress, optional
        Who is told of long steps; nobody by default.
    overwrite : bool
        Replace a finished or an interrupted run in `output`.
    resume : bool
        Go on with an interrupted run in `output`, if there is one; of a finished one draw the figures
        and the report again, in case it was stopped at these.
    command : sequence of str
        The command line, kept with the result.

    Returns
    -------
    Run or Fit
        What is in the run folder; without one, the same numbers in memory. `model`, `posterior`,
        `validation`, `settings` and `warnings` are the same in both.

    Raises
    ------
    InputError
        If the particles, the settings or the folder cannot be used, or the interrupted run had others;
        also where `solvar check` finds an error, unless `settings.force` is set.
    ValueError
        If `overwrite` or `resume` is given without a folder.

    Notes
    -----
    Started several times by ``torchrun``, all processes share the work; the first one writes. Without a
    folder it alone gets the posterior; that of the others has no particle.
    """
    progress, settings = harmless(progress), settings or FitSettings()
    if output is not None:
        return _run_in_folder(
            particles, settings, Path(output), progress, (overwrite, resume), tuple(command)
        )
    if overwrite or resume:
        raise ValueError("overwrite and resume need an output folder")
    processes = join_processes(settings.device or "cpu")
    if processes.size > 1:
        _agree(settings, record(particles, settings), (overwrite, resume), processes)
    told = gate(particles, settings, progress, processes)
    found = fit(particles, settings, progress, processes=processes)
    processes.leave()
    return replace(found, warnings=[*told, *found.warnings])


def _run_in_folder(
    particles: ParticleSet,
    settings: FitSettings,
    folder: Path,
    progress: Progress,
    wishes: tuple[bool, bool],
    command: tuple[str, ...],
) -> Run:
    """`run_job` with a folder; `wishes` are whether to overwrite and to resume."""
    overwrite, resume = wishes
    processes = join_processes(settings.device or "cpu")
    inputs = input_paths(particles, settings)
    require_utf8(folder, particles.reading.working_folder, *inputs)
    with (
        _written(folder, overwrite, resume, inputs, processes) as own,
        logged(own.file(LOG, "run.log"), progress, command)
        if own is not None
        else nullcontext(SilentProgress()) as told,
    ):
        provenance = record(particles, settings, command)
        _agree(settings, provenance, wishes, processes)
        checkpoint = Checkpoint(folder, own)
        finished = resume and is_finished(folder, settings, provenance)
        processes.wait()
        if not finished:
            warnings = gate(particles, settings, told, processes)
            provenance = checkpoint.begin(settings, provenance, resume)
            # the others write nothing, and read what belongs to the first one's run
            checkpoint.run_id = broadcast(provenance.run_id.encode(), processes).decode()
            announce(particles, settings, told, processes)
            found = fit(particles, settings, told, checkpoint, processes)
            if own is not None:
                warnings += [*found.warnings, *_changes(provenance)]
                write_run(own, replace(found, warnings=warnings), provenance)
        if own is not None:
            # of a run that was killed once run.json was there, the manifest does not know all yet
            own.adopt(own.unfinished(RUN))
            checkpoint.remove()
            run = Run(folder)
            draw_figures(run, own, told)
            draw_movies(run, own, told)
            write_report(run, own, told)
        processes.leave()
    return Run(folder)


def _changes(provenance: Provenance) -> list[str]:
    """A warning about each input that changed while the run went on."""
    changes = [(each.path, change_of(each, glance=True)) for each in provenance.inputs]
    return [
        f"{path} {change} since the run began: what was read before and after may not belong together."
        for path, change in changes
        if change is not None
    ]


@contextmanager
def _written(
    folder: Path, overwrite: bool, resume: bool, inputs: list[Path], processes: Processes
) -> Iterator[OwnedFolder | None]:
    """The right to write to the run folder, at the first process; None at the others."""
    if processes.rank == 0:
        with run_folder(folder, overwrite, resume, inputs) as own:
            processes.wait()
            yield own
    else:
        processes.wait()
        yield None


def _agree(
    settings: FitSettings, provenance: Provenance, wishes: tuple[bool, bool], processes: Processes
) -> None:
    """Raise SolvarError unless all processes are about to do the same."""
    job = job_of(settings, provenance)
    # files may lie elsewhere on another machine, and copies have other times
    job["inputs"] = [(each.size, each.digest) for each in provenance.inputs]
    del job["run_id"]
    text = repr((sorted(job.items()), wishes))
    refuse_disagreement(hashlib.blake2b(text.encode(), digest_size=16).digest(), processes)
