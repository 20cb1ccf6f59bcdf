"""Where the molecule changes: the mean in grey, and over it how much density differs between particles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.contour import contour_level
from solvar.report import style
from solvar.report.volumes import VIEWS, Grid, show_plane, strongest_planes, window
from solvar.results.run import Run

Float64 = NDArray[np.float64]

# where density differs by as much as the contour of the molecule is high, it comes and goes as a whole
_WHOLE = 1.0


def draw_change(run: Run, path: Path) -> bool:
    """Draw slices of the mean with what changes; False where nothing certain is known of it."""
    planes = change_planes(run)
    if planes is None:
        return False
    edge_angstrom = window(run.model)[1]
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    with style.figure(path, 7.2, 2.55) as figure:
        grid = Grid(figure, rows=1, columns=3, left=0.05, top=0.25, right=0.85)
        for column, (view, plane) in enumerate(zip(VIEWS, planes, strict=True)):
            axes = grid.axes(0, column)
            show_plane(axes, plane, edge_angstrom)
            axes.set_title(f"Slice {view}", loc="center")
            if column == 0:
                style.scale_bar(axes, edge_angstrom)
        shades = ScalarMappable(Normalize(0, _WHOLE), style.change_scale())
        bar = figure.add_axes((0.895, 0.12, 0.02, 0.68))
        figure.colorbar(shades, cax=bar, extend="max")
        bar.set_title("σ / contour", fontsize=7, loc="center")
    return True


def change_planes(run: Run) -> list[Float64] | None:
    """Slices (K, K, 3) along z, y and x where the molecule changes most, from 0 to 1; None if nowhere.

    Grey is the mean; vermilion the standard deviation between particles, in full where it is as large as the
    contour of the molecule is high.
    """
    spread = None if run.change is None else run.change.spread
    if spread is None or not spread.any():
        return None
    crop, _ = window(run.model)
    mean = run.model.mean
    level = contour_level(mean)
    planes = strongest_planes(spread[crop])
    greys = [np.take(mean[crop], place, axis=axis) for axis, place in planes]
    top = max(style.robust_limit(np.maximum(grey, 0)) for grey in greys)
    shares = [np.take(spread[crop], place, axis=axis) / (_WHOLE * level) for axis, place in planes]
    return [_coloured(grey / top, share) for grey, share in zip(greys, shares, strict=True)]


def _coloured(grey: Float64, share: Float64) -> Float64:
    from matplotlib.colors import to_rgb

    opacity = np.clip(share, 0, 1)[..., None]
    below = np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=2)
    return np.asarray((1 - opacity) * below + opacity * np.array(to_rgb(style.VERMILION)))
