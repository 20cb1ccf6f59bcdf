"""From a run to the files of another program: choose, check where they go, write."""

from __future__ import annotations

from pathlib import Path

from solvar.errors import InputError
from solvar.export.matching import choose
from solvar.export.target import ExportOptions, Job, Target
from solvar.particles.picks import TOLERANCE_PIXEL
from solvar.paths import require_utf8
from solvar.results.run import Run


def export_to(target: Target, run: Run, output: Path, options: ExportOptions) -> list[Path]:
    """Write what `target` needs; nothing is written before every input was found to be good.

    Parameters
    ----------
    target : Target
    run : Run
    output : Path
        A folder, which is created; or the file itself, for a target of one file.
    options : ExportOptions

    Returns
    -------
    list of Path
        The files, in the order they were written.

    Raises
    ------
    InputError
        If an option does not fit the target, the particles cannot be found, or a file is in the way.
    """
    require_utf8(output)
    _check_options(target, options)
    chosen = choose(run, options, target.whole_file) if target.takes_particles else None
    job = Job(run, options, chosen)
    writers = target.files(job)
    paths = _paths(target, output, list(writers))
    _check_destination(paths, _inputs(job), options.overwrite)
    _make_folder(paths[0].parent)
    for path, write in zip(paths, writers.values(), strict=True):
        write(path)
    return paths


def _check_options(target: Target, options: ExportOptions) -> None:
    """Refuse what would be ignored."""
    about_particles = {
        "a selection": not options.selection.is_everything,
        "--particles": options.particles is not None,
        "--refined-poses": options.refined_poses,
    }
    misplaced = [
        *(name for name, given in about_particles.items() if given and not target.takes_particles),
        *(["--latents"] if options.latents and target.name != "relion" else []),
        *(["--volumes"] if options.volumes is not None and target.name != "chimerax" else []),
        *(["--component"] if options.component != 1 and target.name != "chimerax" else []),
    ]
    if misplaced:
        raise InputError(
            f"{misplaced[0]} has no meaning with --to {target.name}", remedy="leave it out"
        )
    if options.refined_poses and options.pick_tolerance > TOLERANCE_PIXEL:
        # the images of a recentred particle have another origin, and its shift counts from there
        raise InputError(
            f"--refined-poses would be off by up to --pick-tolerance {options.pick_tolerance:g} px",
            remedy=f"leave one of them out, or allow at most {TOLERANCE_PIXEL:g}",
        )


def _paths(target: Target, output: Path, names: list[str]) -> list[Path]:
    if target.suffix is not None and output.suffix == target.suffix and not output.is_dir():
        return [output]
    if output.is_file():
        wanted = f"a folder or a {target.suffix} file" if target.suffix else "a folder"
        raise InputError("is a file", file=output, remedy=f"pass {wanted} with --output")
    return [output / name for name in names]


def _inputs(job: Job) -> list[Path]:
    """Files that must survive: the particle file and what belongs to it, the run, the maps."""
    inputs = [job.run.source, *job.run.reading.files]
    inputs += [path for path in job.run.folder.iterdir() if path.is_file()]
    if job.chosen is not None:
        original = job.chosen.original
        inputs += [original.source, *original.reading.files, *original.stacks]
    if job.options.volumes is not None:
        inputs += job.options.volumes.glob("*.mrc")
    return inputs


def _check_destination(paths: list[Path], inputs: list[Path], overwrite: bool) -> None:
    kept = {path.resolve() for path in inputs}
    for path in paths:
        if path.resolve() in kept:
            raise InputError(
                "is an input and is never replaced", file=path, remedy="choose another --output"
            )
        if path.exists() and not overwrite:
            raise InputError(
                "is there already", file=path, remedy="choose another --output or pass --overwrite"
            )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"cannot be created ({reason})", file=folder, remedy="choose another --output"
        ) from error
