"""What goes out: the particles and volumes of a run, as other programs read them.

A new target is a module with a `TARGET` and one line in `TARGETS`.
"""

from __future__ import annotations

from pathlib import Path

from solvar.analysis.selection import Selection
from solvar.errors import InputError
from solvar.export import challenge, chimerax, cryodrgn, cryosparc, relion
from solvar.export.job import export_to
from solvar.export.target import Exported, ExportOptions, Target
from solvar.files import OwnedFolder
from solvar.progress import Progress
from solvar.results.run import Run

TARGETS: tuple[Target, ...] = (
    relion.TARGET,
    cryosparc.TARGET,
    cryodrgn.TARGET,
    chimerax.TARGET,
    challenge.TARGET,
)


def program_of(run: Run) -> str:
    """The target of the program that wrote the input of a run."""
    return str(run.record["particles"]["source_format"])


def export(
    run: Run | str | Path,
    to: str,
    output: str | Path,
    options: ExportOptions | None = None,
    *,
    own: OwnedFolder | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write the particles or volumes of a run for another program.

    Parameters
    ----------
    run : Run or path
        A finished run.
    to : str
        Name of a target: "relion", "cryosparc", "cryodrgn", "chimerax" or "challenge".
    output : path
        A folder, which is created; or the file itself, for a target of one file.
    options : ExportOptions, optional
        The whole set, by default, with refined poses if the run has any.
    own : OwnedFolder, optional
        The right to write there, of who holds it already.
    progress : Progress, optional
        Silent by default; told of images that are written.

    Returns
    -------
    Exported
        The files and how many particles they hold.

    Raises
    ------
    InputError
        If there is no such target, or as `export_to`.
    """
    known = {target.name: target for target in TARGETS}
    if to not in known:
        raise InputError(
            f"--to {to}: there is no such target", remedy=f"choose from {', '.join(known)}"
        )
    opened = run if isinstance(run, Run) else Run(run)
    return export_to(known[to], opened, Path(output), options or ExportOptions(), own, progress)


__all__ = ["TARGETS", "ExportOptions", "Exported", "Selection", "export", "program_of"]
