"""`solvar demo`: a molecule whose motion is known, from particles to figures in two minutes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from solvar.cli.arguments import AsJson, Overwrite
from solvar.cli.options import command
from solvar.commands import command_line
from solvar.errors import InputError
from solvar.files import Writer, owned
from solvar.machine import MOST_THREADS

if TYPE_CHECKING:
    from solvar.results.run import Run

app = typer.Typer(add_completion=False)

# Some 15 s on two cores, compilation included; large enough that both motions show. Rank 4: each
# motion bends, so that two of them need more than two straight components.
_SIMULATION = {"particles": 3000, "box_size": 48, "pixel_size": 4.0, "snr": 0.1}
_RANK = 4
# Without poses everything takes longer: fewer and coarser images, that say more each and are better centred,
# of a smaller motion.
_WITHOUT_POSES = {
    "particles": 2000, "box_size": 32, "pixel_size": 6.0, "snr": 0.3, "shift_sd": 1.0, "motion": 0.5
}  # fmt: skip
_MOTIONS = ("hinge", "loop")
_DEMO = Writer("demo", ("recovered.png",))


@app.command()
@command
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to create.")] = Path(
        "solvar-demo"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of molecule, images and fit.")] = 0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_THREADS, help="Threads; default: all available cores."),
    ] = None,
    ab_initio: Annotated[
        bool, typer.Option("--ab-initio", help="Find the poses, too: takes some minutes.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Simulate a small stack with a known motion, run everything on it, compare.

    The molecule has a hinge and a loop that move independently. With --ab-initio its poses are found from the
    images alone. Nothing is opened; the last lines say where the figures are.
    """
    from solvar.cli.console import make_progress, print_json
    from solvar.evaluation import Truth, evaluate
    from solvar.fitting.settings import FitSettings
    from solvar.job import run_job
    from solvar.particles import read_particles
    from solvar.report.recovery import draw_recovery
    from solvar.simulation import SimulationSettings, simulate

    started = time.perf_counter()
    truth, folder = output / "particles", output / "run"
    with owned(output, "solvar demo") as own:
        picture = own.file(_DEMO, "recovered.png")
        _make_room(output, overwrite)
        progress = make_progress()
        made = _WITHOUT_POSES if ab_initio else _SIMULATION
        simulation = SimulationSettings(**made, heterogeneity="hinge-loop", seed=seed)
        star = simulate(simulation, progress).write(truth, progress, overwrite=True)
        # the true mask lies as the true poses do
        mask = None if ab_initio else truth / "mask.mrc"
        settings = FitSettings(
            rank=_RANK, mask=mask, ab_initio=ab_initio, seed=seed, threads=threads
        )
        run = run_job(
            read_particles(star, ignore_poses=ab_initio),
            settings,
            folder,
            progress=progress,
            overwrite=True,
            command=sys.argv,
        )
        metrics = evaluate(folder, truth)
        draw_recovery(run, Truth.load(truth), picture, _MOTIONS)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**run.summary(), "truth": metrics, "seconds": seconds})
        return
    _print_result(run, truth, metrics, picture, seconds)


def _make_room(output: Path, overwrite: bool) -> None:
    """Raise InputError unless both folders may be written to; no earlier run looks finished after it."""
    from solvar.results.writer import RUN, run_folder
    from solvar.simulation.writing import simulation_folder

    if (output / "run" / "run.json").exists() and not overwrite:
        raise InputError(
            "already holds a demonstration",
            file=output,
            remedy="choose another --output or pass --overwrite",
        )
    # Neither folder is removed: whatever else they hold may be the user's own.
    with (
        simulation_folder(output / "particles", overwrite),
        run_folder(output / "run", overwrite, purpose="solvar demo") as own,
    ):
        # the run that is there has lost its particles as soon as others are simulated
        own.remove(RUN, first="run.json")


def _print_result(
    run: Run, truth: Path, metrics: dict[str, Any], picture: Path, seconds: float
) -> None:
    from solvar.cli.console import duration, output, print_commands, shown
    from solvar.cli.metrics import HEADLINES, POSED, metrics_table
    from solvar.cli.summary import print_summary

    print_summary(run)
    console = output()
    compare = command_line("solvar", "evaluate", run.folder, "--truth", truth)
    print_commands(console, [(compare, "every metric against the truth")])
    console.print()
    posed = run.ab_initio is not None and run.ab_initio.settled
    headlines = HEADLINES | POSED if posed else HEADLINES
    console.print(metrics_table("What was recovered, against the truth", metrics, headlines))
    motions = " and ".join(f"of the {name}" for name in _MOTIONS)
    told = f"Rank correlations are, in this order, those {motions}. "
    if posed:
        told += "Poses that were found together with the motions follow these, and are as right."
    else:
        told += "Two motions need more than two components because neither is a straight line."
    console.print(
        f"{told}\nThe picture: {shown(picture)}\nThe demonstration took {duration(seconds)}.",
        soft_wrap=True,
    )
