"""`solvar mask`: a soft mask from a map or two half-maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solvar.cli.arguments import Overwrite
from solvar.cli.options import command
from solvar.volumes.mask_making import MaskSettings

app = typer.Typer(add_completion=False)


@app.command()
@command
def mask(
    maps: Annotated[
        list[Path],
        typer.Argument(metavar="MAP [HALF2]", help="A map, or two half-maps.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="MRC file to write.", show_default=False)
    ],
    settings: MaskSettings,
    overwrite: Overwrite = False,
) -> None:
    """Make a soft mask from a map, or from what two half-maps agree on.

    A picture of the map and the outline of the mask is written beside it (.png).
    """
    from solvar.cli.console import output as console
    from solvar.cli.console import print_commands, shown
    from solvar.commands import command_line
    from solvar.errors import InputError
    from solvar.files import check_destination
    from solvar.imaging.masks import share_of_box
    from solvar.report.mask import draw_mask
    from solvar.volume_file import write_volume
    from solvar.volumes.mask_making import make_mask

    if output.suffix != ".mrc":
        raise InputError("is no name of an MRC file", file=output, remedy="end it with .mrc")
    picture = output.with_suffix(".png")
    check_destination([output, picture], maps, overwrite)
    made = make_mask(maps, settings)
    write_volume(output, made.mask, made.pixel_size_angstrom)
    draw_mask(made, picture)
    console().print(f"Wrote {shown(output)}: {share_of_box(made.mask)}", soft_wrap=True)
    console().print(f"Look at {shown(picture)}", soft_wrap=True)
    run = command_line("solvar", "run", "particles.star", "-o", "run", "--mask", output)
    print_commands(console(), [(run, "volumes within it")])
