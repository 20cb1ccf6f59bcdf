"""`solvar volume`: volumes at points in latent space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from solvar.cli.arguments import AsJson, Overwrite, RunFolder
from solvar.cli.options import ReadingOptions, command
from solvar.errors import InputError
from solvar.volumes.settings import VolumeSettings

app = typer.Typer(add_completion=False)


@app.command()
@command
def volume(
    run: RunFolder,
    settings: VolumeSettings,
    reading: ReadingOptions,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", help="A point z1,z2,… or a CSV file of points; may be repeated."),
    ] = None,
    clusters: Annotated[
        int | None, typer.Option("--clusters", "-k", min=1, help="Centres of this many clusters.")
    ] = None,
    cluster: Annotated[
        list[int],
        typer.Option("--cluster", help="Exactly the particles of a cluster; may be repeated."),
    ] = [],  # noqa: B006 - Typer makes the list
    state: Annotated[
        list[int],
        typer.Option("--state", help="Exactly the particles of a state; may be repeated."),
    ] = [],  # noqa: B006 - Typer makes the list
    all_clusters: Annotated[
        bool, typer.Option("--all-clusters", help="Every cluster of `solvar analyze`.")
    ] = False,
    all_states: Annotated[
        bool, typer.Option("--all-states", help="Every state of `solvar analyze`.")
    ] = False,
    selection: Annotated[
        str | None,
        typer.Option(
            "--selection",
            help="Exactly the particles of a selection of `solvar view`, or of a file of rows.",
        ),
    ] = None,
    component: Annotated[
        int,
        typer.Option(
            "--component", "-c", min=1, help="Walk along this component, where particles are."
        ),
    ] = 1,
    points: Annotated[
        int, typer.Option("--points", min=1, help="Volumes along the component.")
    ] = 10,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder; default: a new one in RUN/volumes."),
    ] = None,
    particles: Annotated[
        Path | None,
        typer.Option(
            "--particles", help="The same particles at their original box size (.star, .cs)."
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Volumes at points, of sets of particles or along a component, with half-maps and resolution.

    Images are read as the run read them, unless --particles names another file. Each call has a folder of
    its own; the same call once more is refused without --overwrite, which makes its volumes again.
    """
    from solvar.cli.console import make_progress, print_json
    from solvar.cli.console import output as console
    from solvar.cli.volume_table import volume_table
    from solvar.particles import read_as
    from solvar.results.run import Run
    from solvar.volumes.folder import volume_folder
    from solvar.volumes.reconstruct import make_volumes
    from solvar.volumes.sets import labelled, selected
    from solvar.volumes.targets import choose_targets

    if particles is None and reading.ind is not None:
        raise InputError("--ind has no meaning without --particles", remedy="leave it out")
    opened = Run(run, reading.given)
    sets = {
        "--cluster": bool(cluster),
        "--state": bool(state),
        "--all-clusters": all_clusters,
        "--all-states": all_states,
        "--selection": selection is not None,
    }
    given = [name for name, is_given in sets.items() if is_given]
    others = [name for name, value in (("--at", at), ("--clusters", clusters)) if value]
    if len(given + others) > 1 and given:
        raise InputError(
            f"{' and '.join(given + others)} exclude each other", remedy="pass one of them"
        )
    if selection is not None:
        targets = selected(opened, selection)
    elif given:
        kind = "cluster" if cluster or all_clusters else "state"
        targets = labelled(opened, kind, cluster or state)
    else:
        targets = choose_targets(opened, at or [], clusters, component, points)
    settings = targets.suited(settings)
    original = None
    if particles is not None:
        original = read_as(
            particles, opened.reading_of(particles).updated(reading.given), reading.ind
        )
    with volume_folder(
        opened, targets, settings, output, particles=original, overwrite=overwrite
    ) as folder:
        records = make_volumes(
            opened, targets, settings, folder.begin, folder.own.root, original, make_progress()
        )
    if as_json:
        print_json({"folder": str(folder.path), "volumes": records})
    else:
        console().print(volume_table(folder.path, records))
