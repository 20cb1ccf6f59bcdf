"""What `solvar run` says when it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from solvar.cli.console import duration, output, print_commands, shown
from solvar.cli.tables import plain_table
from solvar.commands import command_line
from solvar.fitting.own_mask import mask_words
from solvar.results.poses import PARTS
from solvar.results.run import Run
from solvar.results.words import (
    component_name,
    counted,
    headline,
    pose_advice,
    resolution_text,
    short_verdict,
    viewing,
)

if TYPE_CHECKING:
    from rich.table import Table


def print_summary(run: Run) -> None:
    """Components, costs, warnings in plain words, and what to look at next."""
    console = output()
    console.print()
    console.print(components_table(run))
    console.print(f"[bold]{headline(run)}[/bold]\n")
    if run.record["result"].get("poses"):
        console.print(poses_table(run))
    console.print(costs_table(run))
    if run.record["result"]["inverted"]:
        console.print("The particles are dark in the images; everything here shows them bright.")
    for warning in run.warnings:
        console.print(f"[yellow]![/yellow] {shown(warning)}")
    console.print("\n[bold]Look at[/bold]")
    for path, what in _worth_a_look(run):
        console.print(f"  {shown(path)}  [dim]{shown(what)}[/dim]", soft_wrap=True)
    console.print("\n[bold]Next[/bold]")
    print_commands(console, _next_steps(run))


def components_table(run: Run) -> Table:
    """One row a component: eigenvalue, share, half-set agreement, resolution."""
    table = plain_table(f"{counted(run)} in {run.folder}")
    for name in ("component", "eigenvalue", "share of variance found"):
        table.add_column(name, justify="right")
    validation = run.validation
    if validation is not None:
        table.add_column("half-map similarity", justify="right")
        table.add_column("resolution (Å)", justify="right")
        table.add_column("verdict")
    eigenvalues = run.model.eigenvalues
    total = max(float(eigenvalues.sum()), np.finfo(float).tiny)
    for j, eigenvalue in enumerate(eigenvalues):
        row = [component_name(run, j), f"{eigenvalue:.4g}", f"{100 * eigenvalue / total:.1f} %"]
        if validation is not None:
            row += [
                f"{validation.reliability[j]:.2f}",
                resolution_text(run, validation.component_resolution[j]),
                _coloured(short_verdict(run, j), bool(validation.reliable[j])),
            ]
        table.add_row(*row)
    return table


def _coloured(words: str, real: bool) -> str:
    return f"[{'green' if real else 'dim'}]{words}[/]"


def poses_table(run: Run) -> Table:
    """One row a part of the pose: how far it was moved, and what is still unknown of it."""
    told = run.record["result"]["poses"]
    table = plain_table(
        f"Refined poses (prior: {told['prior_rotation_degree']:.2g}° and "
        f"{told['prior_shift_angstrom']:.2g} Å per axis)"
    )
    table.add_column("")
    for name in ("correction, median", "rms", "posterior spread, median", "rms"):
        table.add_column(name, justify="right")
    for name, words, unit in PARTS:
        part = told[f"{name}_{'angstrom' if unit == 'Å' else 'degree'}"]
        keys = ("correction_median", "correction_rms", "spread_median", "spread_rms")
        table.add_row(f"{words} ({unit})", *(f"{part[key]:.3g}" for key in keys))
    if (tilts := run.record["result"].get("tilts")) is not None:
        table.add_row("tilt images per axis (Å)", "", f"{tilts['shift_rms_angstrom']:.3g}", "", "")
    return table


def costs_table(run: Run) -> Table:
    """One row a stage: wall and CPU time, peak memory."""
    table = plain_table("Time and memory")
    table.add_column("stage")
    for name in ("wall", "CPU", "peak memory"):
        table.add_column(name, justify="right")
    for cost in run.costs:
        table.add_row(
            cost.name,
            duration(cost.wall_seconds),
            duration(cost.cpu_seconds),
            f"{cost.peak_memory_mib:,.0f} MiB",
        )
    if len(run.costs) > 1:
        table.add_section()
        table.add_row(
            "all",
            duration(sum(cost.wall_seconds for cost in run.costs)),
            duration(sum(cost.cpu_seconds for cost in run.costs)),
            f"{max(cost.peak_memory_mib for cost in run.costs):,.0f} MiB",
        )
    return table


def _next_steps(run: Run) -> list[tuple[str, str]]:
    folder = run.folder
    return [
        *pose_advice(run),
        (command_line("solvar", "analyze", folder), "density, states, paths, clusters"),
        (
            command_line("solvar", "volume", folder),
            "volumes along the first component, with half-maps",
        ),
        *viewing(folder),
    ]


def _worth_a_look(run: Run) -> list[tuple[str, str]]:
    folder = run.folder
    change = run.pose_change
    refined = change is not None and change.applied
    report = folder / "report.html"
    page = [(str(report), "open it in a browser: everything on one page")]
    poses = [(str(folder / "figures" / "7_poses.png"), change.sentence())] if change else []
    movies = sorted(folder.glob("movie_component_*.gif"))
    change_map = folder / "figures" / "9_change.png"
    mask = []
    if not run.settings.names_mask:
        words = mask_words(run.settings, run.model.mask, run.pixel_size_angstrom)
        mask = [(str(folder / "mask.mrc"), f"the mask, {words}")]
    return [
        *(page if report.is_file() else []),
        *((str(movie), "the molecule along a component") for movie in movies[:1]),
        *([(str(change_map), "where it changes")] if change_map.is_file() else []),
        (str(folder / "figures" / "2_motion.png"), "what moves along each component"),
        (str(folder / "figures" / "1_eigenvalues.png"), "how much, and whether it is real"),
        *(poses if refined else []),
        *mask,
        (str(folder / "mean.mrc"), "with eigenvolume_001.mrc … in ChimeraX"),
        (
            str(folder / "particles.star"),
            "every particle with its latents" + (", refined poses" if refined else ""),
        ),
        (str(folder / "run.log"), "what was done, step by step"),
    ]
