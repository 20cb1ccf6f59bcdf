"""`solvar expand`: symmetry copies of every particle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solvar.cli.arguments import Overwrite, ParticlesFile
from solvar.cli.options import ReadingOptions, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def expand(
    particles: ParticlesFile,
    symmetry: Annotated[
        str,
        typer.Option(
            "--symmetry",
            help="Point group (C4, D2, T, O, I2 …), axes as in RELION.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Star file to write.", show_default=False),
    ],
    reading: ReadingOptions,
    overwrite: Overwrite = False,
) -> None:
    """Write every particle at all the poses that a symmetry makes alike (symmetry expansion).

    With a focus mask around one subunit `solvar run` then places each subunit of each particle for itself.
    """
    from solvar.cli.console import output as console
    from solvar.cli.console import print_commands, shown
    from solvar.commands import command_line
    from solvar.errors import InputError
    from solvar.files import check_destination
    from solvar.imaging.point_groups import PointGroup
    from solvar.particles import write_star
    from solvar.particles.expansion import expanded

    if output.suffix != ".star":
        raise InputError("is no name of a star file", file=output, remedy="end it with .star")
    try:
        group = PointGroup.named(symmetry)
    except ValueError as error:
        raise InputError(str(error), column="--symmetry") from None
    check_destination([output], [particles], overwrite)
    found = reading.read(particles)
    write_star(output, expanded(found, group))
    console().print(
        f"Wrote {shown(output)}: {len(group)} copies of {len(found):,} particles ({group.name})",
        soft_wrap=True,
    )
    run = command_line("solvar", "run", output, "-o", "run", "--focus-mask", "subunit.mrc")
    print_commands(console(), [(run, "each subunit for itself, in a mask around one of them")])
