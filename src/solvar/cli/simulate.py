"""`solvar simulate`: a particle stack with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solvar.cli.arguments import Overwrite
from solvar.cli.options import command
from solvar.simulation.settings import SimulationSettings

app = typer.Typer(add_completion=False)


@app.command()
@command
def simulate(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder to create.", show_default=False)
    ],
    settings: SimulationSettings,
    overwrite: Overwrite = False,
) -> None:
    """Make a particle stack with known truth.

    Writes particles.star and particles.mrcs as RELION 3.1 does, the same with pose errors as
    particles_noisy.star, and the truth that `solvar evaluate` compares with. With --tilts each particle is a
    tilt series, in the files of RELION 5 or, by --tilt-format warp1, with a row a tilt.
    """
    from solvar.cli.console import make_progress, shown
    from solvar.cli.console import output as console
    from solvar.simulation import simulate as draw
    from solvar.simulation.writing import simulation_folder

    progress = make_progress()
    with simulation_folder(output, overwrite) as own:
        star = draw(settings, progress).write_to(own, progress)
    console().print(f"Wrote {settings.particles:,} particles to {shown(star)}", soft_wrap=True)
