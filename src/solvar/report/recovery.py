"""What a run found beside what is true: the picture of the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvar.evaluation import Truth
from solvar.report import style
from solvar.report.volumes import Grid, motion_rows
from solvar.results.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAP = "viridis"


def draw_recovery(run: Run, truth: Truth, path: Path, names: tuple[str, ...]) -> None:
    """The first two components, and the particles along them coloured by their true states.

    Parameters
    ----------
    run : Run
        Of rank 2 or more.
    truth : Truth
        With a state coordinate of at least as many columns as there are names.
    path : Path
    names : one or two str
        What the columns of the true state are called.
    """
    coordinate = truth.state_coordinate
    assert coordinate is not None
    true = coordinate[run.particles["row"]]
    sigma = np.sqrt(np.maximum(run.model.eigenvalues[:2], np.finfo(float).tiny))
    z = run.posterior.z[:, :2] / sigma
    with style.figure(path, 11.4, 3.1) as figure:
        motion_rows(run, Grid(figure, rows=2, columns=4, left=1.05, top=0.3, right=4.95))
        for number, name in enumerate(names):
            axes = figure.add_axes((0.605 + 0.19 * number, 0.165, 0.165, 0.61))
            _coloured(axes, z, true[:, number], f"true {name}")
            if number == 0:
                axes.set_ylabel("Component 2 (σ)")
            else:
                axes.tick_params(labelleft=False)
        figure.text(
            0.605, 0.925, "Every particle, coloured by the truth", fontsize=10, weight="bold"
        )
        bar = figure.add_axes((0.972, 0.165, 0.008, 0.61))
        _colour_key(bar)


def _coloured(axes: Axes, z: np.ndarray, true: np.ndarray, title: str) -> None:
    axes.scatter(z[:, 0], z[:, 1], c=true, s=5, lw=0, cmap=_MAP, alpha=0.8, rasterized=True)
    limit = 1.05 * np.quantile(np.abs(z), 0.995)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    axes.set_xlabel("Component 1 (σ)")
    axes.set_title(title, fontsize=9, weight="normal")


def _colour_key(axes: Axes) -> None:
    """A bar from one end of the motion to the other."""
    axes.imshow(np.linspace(0, 1, 64)[:, None], origin="lower", aspect="auto", cmap=_MAP)
    axes.set_xticks([])
    axes.set_yticks([-0.5, 63.5], ["start", "end"], rotation=90, va="center", fontsize=7)
    axes.yaxis.tick_right()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
