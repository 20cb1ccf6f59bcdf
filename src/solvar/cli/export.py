"""`solvar export`: a run, or a part of its particles, for another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solvar.cli.arguments import AsJson, Overwrite, RunFolder
from solvar.cli.options import ReadingOptions, command
from solvar.errors import InputError
from solvar.particles.picks import TOLERANCE_PIXEL
from solvar.text import visible

app = typer.Typer(add_completion=False)

_WHICH, _WHAT = "Which particles", "What is written"
_LISTED = 10  # more files than these are counted


@app.command()
@command
def export(
    run: RunFolder,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Folder to create, or the .star or .cs file itself.",
            show_default=False,
        ),
    ],
    reading: ReadingOptions,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            help="relion, cryosparc, cryodrgn, chimerax or challenge; default: where the input came from.",
            show_default=False,
        ),
    ] = None,
    cluster: Annotated[
        list[int],
        typer.Option(
            "--cluster",
            help="Label of a cluster of `solvar analyze`; may be repeated.",
            rich_help_panel=_WHICH,
        ),
    ] = [],  # noqa: B006 - Typer copies it
    state: Annotated[
        list[int],
        typer.Option(
            "--state",
            help="Number of a state of `solvar analyze`; may be repeated.",
            rich_help_panel=_WHICH,
        ),
    ] = [],  # noqa: B006 - Typer makes the list
    polygon: Annotated[
        Path | None,
        typer.Option(
            "--polygon",
            help="Vertices x,y in a plane of latents, one a line (.csv).",
            rich_help_panel=_WHICH,
        ),
    ] = None,
    components: Annotated[
        str,
        typer.Option(
            "--components", help="The two components of --polygon.", rich_help_panel=_WHICH
        ),
    ] = "1,2",
    invert: Annotated[
        bool,
        typer.Option("--not", help="The particles that are not selected.", rich_help_panel=_WHICH),
    ] = False,
    keep: Annotated[
        float | None,
        typer.Option(
            "--keep",
            help="Least probability that an image shows a particle, as 0.5, of what is selected "
            "otherwise; alone with --not: the images below it.",
            rich_help_panel=_WHICH,
            show_default=False,
        ),
    ] = None,
    particles: Annotated[
        Path | None,
        typer.Option(
            "--particles",
            help="Take the rows from this file instead of the input of the run, "
            "matched by image name or uid, else by micrograph and coordinates.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    pick_tolerance: Annotated[
        float,
        typer.Option(
            "--pick-tolerance",
            min=0,
            help="Micrograph pixels by which coordinates may differ, as after recentring.",
            rich_help_panel=_WHAT,
        ),
    ] = TOLERANCE_PIXEL,
    refined_poses: Annotated[
        bool | None,
        typer.Option(
            "--refined-poses/--input-poses",
            help="Poses of the run, or of the file; default: those of the run where it refined them.",
            rich_help_panel=_WHAT,
            show_default=False,
        ),
    ] = None,
    flip_hand: Annotated[
        bool,
        typer.Option(
            "--flip-hand",
            help="Poses of the mirror image: images alone do not tell the hand (after solvar abinitio).",
            rich_help_panel=_WHAT,
        ),
    ] = False,
    latents: Annotated[
        bool,
        typer.Option("--latents", help="Add latents as columns (RELION).", rich_help_panel=_WHAT),
    ] = False,
    component: Annotated[
        int,
        typer.Option(
            "--component", help="Eigenvolume to move along (ChimeraX).", rich_help_panel=_WHAT
        ),
    ] = 1,
    volumes: Annotated[
        Path | None,
        typer.Option(
            "--volumes",
            help="Folder with the maps to show in order (ChimeraX).",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    subtract: Annotated[
        Path | None,
        typer.Option(
            "--subtract",
            help="Mask of what is to stay: write new stacks, without what the model has elsewhere "
            "(RELION, cryoSPARC).",
            rich_help_panel=_WHAT,
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a run, or a part of its particles, for another program.

    Rows of a RELION or cryoSPARC file keep every column and their order. Of --cluster, --state,
    --polygon and --ind (rows of the input of the run) one can be given, and --keep beside it. The input is
    read as the run read it. Every file is read back before it gets its name.
    """
    from solvar.cli.console import make_progress, print_json
    from solvar.cli.console import output as console
    from solvar.export import ExportOptions, Selection, program_of
    from solvar.export import export as write
    from solvar.results.run import Run

    selection = Selection(
        tuple(cluster), polygon, _pair(components), reading.ind, invert, keep, tuple(state)
    )
    options = ExportOptions(
        selection,
        particles,
        refined_poses,
        latents,
        volumes,
        component,
        flip_hand,
        overwrite,
        reading.given,
        pick_tolerance,
        subtract,
    )
    opened = Run(run)
    to = to or program_of(opened)
    exported = write(opened, to, output, options, progress=make_progress())
    poses = "refined" if exported.refined_poses else "input"
    if as_json:
        content = {"particles": exported.particles, "poses": poses if exported.particles else None}
        print_json({"target": to, "files": [str(path) for path in exported.files], **content})
        return
    told = f"{exported.particles:,} particles with {poses} poses" if exported.particles else ""
    names = [str(path) for path in exported.files]
    if len(names) > _LISTED:
        names = [f"{len(names)} files in {exported.files[0].parent}"]
    *first, last = (visible(f"Wrote {name}") for name in names)
    lines = [f"{last}: {told}"] if told and not first else [*first, last, told]
    for line in filter(None, lines):
        console().print(line, soft_wrap=True, markup=False)


def _pair(text: str) -> tuple[int, int]:
    try:
        first, second = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--components {text}: are not two numbers", remedy="write them as 1,2"
        ) from None
    return first, second
