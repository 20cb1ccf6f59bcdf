"""From a run to the files of another program: choose, check where they go, write, read back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from solvar.errors import InputError
from solvar.export.matching import choose
from solvar.export.new_stacks import NewStacks
from solvar.export.subtraction import Subtraction
from solvar.export.target import Chosen, Exported, ExportOptions, Job, Target
from solvar.files import OwnedFolder, check_destination, inside, owned, replacing
from solvar.paths import require_utf8
from solvar.progress import Progress, harmless
from solvar.results.run import Run


def export_to(
    target: Target,
    run: Run,
    output: Path,
    options: ExportOptions,
    own: OwnedFolder | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write what `target` needs, after every input was found to be good.

    The files get their names when all of them have been read back; until then an earlier export stays as
    it was.

    Parameters
    ----------
    target : Target
    run : Run
    output : Path
        A folder, which is created; or the file itself, for a target of one file.
    options : ExportOptions
    own : OwnedFolder, optional
        The right to write there, of who holds it already.
    progress : Progress, optional

    Returns
    -------
    Exported

    Raises
    ------
    InputError
        If an option does not fit the target, the particles cannot be found, a file is in the way, or
        another process writes there, or what was written does not load.
    """
    require_utf8(output)
    _check_options(target, options)
    chosen = choose(run, options, target.whole_file) if target.takes_particles else None
    job = Job(run, options, chosen, _new_stacks(run, options, chosen, output, harmless(progress)))
    writers = target.files(job)
    paths = _paths(target, output, list(writers))
    with _owned(run, paths) if own is None else nullcontext():
        check_destination(paths, _inputs(job), options.overwrite)
        with _staged(paths) as temporary:
            for path, write in zip(temporary, writers.values(), strict=True):
                write(path)
            count = target.read_back(job, dict(zip(writers, temporary, strict=True)))
    refined = chosen is not None and chosen.poses is not None
    return Exported(tuple(paths), count, refined)


def _new_stacks(
    run: Run, options: ExportOptions, chosen: Chosen | None, output: Path, progress: Progress
) -> NewStacks | None:
    """The stacks that are to be written beside the particles, if any."""
    if options.subtract is None or chosen is None:
        return None
    subtraction = Subtraction.of(run, options.subtract)
    folder = output.absolute()
    return NewStacks(subtraction, chosen.particles, chosen.in_run, folder, progress)


@contextmanager
def _staged(paths: list[Path]) -> Iterator[list[Path]]:
    """Temporary names in the folder of `paths`, which become these when the block succeeds.

    What is said of a temporary file is said of the one that it was to become.
    """
    with ExitStack() as opened:
        # the last one that is opened gets its name first
        temporary = [opened.enter_context(replacing(path)) for path in reversed(paths)][::-1]
        final = {one.absolute(): path for one, path in zip(temporary, paths, strict=True)}
        try:
            yield temporary
            if len(paths) > 1:
                # the last one speaks of the others: of an earlier export it would not speak of these
                paths[-1].unlink(missing_ok=True)
        except InputError as error:
            ours = None if error.file is None else final.get(Path(error.file).absolute())
            problem = f"{error.problem}, so {paths[0]} was not written"
            if ours is not None:
                problem = f"was not written: {error.problem}"
            raise InputError(
                problem,
                file=ours or error.file,
                row=error.row,
                column=error.column,
                remedy=error.remedy,
            ) from error


@contextmanager
def _owned(run: Run, paths: list[Path]) -> Iterator[None]:
    """Be the only one who writes in the folder of `paths`, which is made, and replace no result in there.

    Below the run folder it is that folder which has one owner.
    """
    folder = paths[0].parent
    below = inside(run.folder, folder)
    root, prefix = (folder, "") if below is None else (run.folder, f"{below}/".removeprefix("./"))
    with owned(root, "solvar export") as own:
        own.unlisted(prefix + path.name for path in paths)
        yield


def _check_options(target: Target, options: ExportOptions) -> None:
    """Refuse what would be ignored."""
    about_particles = {
        "a selection": not options.selection.is_everything,
        "--particles": options.particles is not None,
        "--refined-poses": options.refined_poses is True,
        "--input-poses": options.refined_poses is False,
        "--flip-hand": options.flip_hand,
    }
    misplaced = [
        *(name for name, given in about_particles.items() if given and not target.takes_particles),
        *(["--latents"] if options.latents and target.name != "relion" else []),
        *(["--subtract"] if options.subtract is not None and not target.takes_images else []),
        *(["--volumes"] if options.volumes is not None and target.name != "chimerax" else []),
        *(["--component"] if options.component != 1 and target.name != "chimerax" else []),
    ]
    if misplaced:
        remedy = "leave it out"
        if misplaced[0] == "--subtract" and target.takes_particles:
            remedy = "choose --to relion or --to cryosparc"
        raise InputError(f"{misplaced[0]} has no meaning with --to {target.name}", remedy=remedy)


def _paths(target: Target, output: Path, names: list[str]) -> list[Path]:
    if target.suffix is not None and output.suffix == target.suffix and not output.is_dir():
        if len(names) == 1:
            return [output]
        raise InputError(
            "would be one file, and stacks are written beside it",
            file=output,
            remedy="pass a folder with --output",
        )
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
    if job.options.subtract is not None:
        inputs.append(job.options.subtract)
    if job.options.volumes is not None:
        inputs += job.options.volumes.glob("*.mrc")
    return inputs
