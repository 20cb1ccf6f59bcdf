"""How a first volume was found from images alone: what each start came to, and what followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import crop_volume
from solvar.report import style
from solvar.report.volumes import Grid, show_projection
from solvar.results.run import Run

Float32 = NDArray[np.float32]

_MOST_OTHERS = 6


def formation(run: Run) -> list[tuple[str, Float32]]:
    """Volumes (L, L, L) with what they are: of the best start from random poses on, then other starts."""
    found = run.ab_initio
    assert found is not None  # who else would ask
    steps = [
        ("at random poses", found.first),
        (f"start {found.best + 1}, the best", found.volumes[found.best]),
        ("refined consensus", found.consensus),
        ("final mean", run.model.mean),
    ]
    others = [number for number in range(len(found.volumes)) if number != found.best]
    for number in others[:_MOST_OTHERS]:
        told = "agrees" if found.agree[number] else "does not agree"
        steps.append((f"start {number + 1}, {told}", found.volumes[number]))
    return [(name, _on_box(volume, run.box_size)) for name, volume in steps]


def _on_box(volume: Float32, box: int) -> Float32:
    return volume if len(volume) == box else crop_volume(volume, box)


def draw_consensus(run: Run, path: Path) -> bool:
    """Projections of the starts and of what the best one became, from two sides.

    Returns
    -------
    drawn : bool
        False when poses were given: there is nothing to show.
    """
    if run.ab_initio is None:
        return False
    steps = formation(run)
    with style.figure(path, 1.45 * len(steps) + 0.4, 3.75) as figure:
        figure.text(
            0.02, 0.94, "From images alone: how the volume formed", fontsize=12, weight="bold"
        )
        grid = Grid(figure, rows=2, columns=len(steps), left=0.3, top=0.85)
        for column, (name, volume) in enumerate(steps):
            for row in range(2):
                axes = grid.axes(row, column)
                show_projection(axes, volume, row, run.extent_angstrom)
                if row == 0:
                    axes.set_title(name.replace(", ", ",\n"), fontsize=8, loc="center")
    return True
