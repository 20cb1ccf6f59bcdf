"""Results on disk, as the commands write them."""

from __future__ import annotations

from pathlib import Path

from solvar.analysis import Analysis, write_analysis
from solvar.files import owned
from solvar.fitting.result import Fit
from solvar.progress import Progress
from solvar.report.html import write_report
from solvar.results.provenance import record
from solvar.results.run import Run
from solvar.results.writer import run_folder, write_run


def written(folder: Path, fit: Fit, command: tuple[str, ...] = ()) -> Run:
    """A finished run of a fit, in place of an earlier one."""
    with run_folder(folder, overwrite=True) as own:
        write_run(own, fit, record(fit.particles, fit.settings, command))
    return Run(folder)


def written_analysis(run: Run, analysis: Analysis) -> Path:
    """The folder of an analysis, in place of an earlier one."""
    with owned(run.folder, "test") as own:
        return write_analysis(run, own, analysis)


def written_report(run: Run, progress: Progress | None = None) -> Path | None:
    """The report of a run, in place of an earlier one."""
    with owned(run.folder, "test") as own:
        return write_report(run, own, progress)
