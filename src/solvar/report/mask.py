"""A mask around the map that it was made of, in slices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from solvar.report import style
from solvar.report.volumes import VIEWS, Grid, show_outlined, strongest_planes
from solvar.volumes.mask_making import MadeMask


def draw_mask(made: MadeMask, path: Path) -> None:
    """Slices of the map where it is strongest, and the outline of the mask."""
    edge_angstrom = len(made.density) * made.pixel_size_angstrom
    with style.figure(path, 6.4, 2.4) as figure:
        grid = Grid(figure, rows=1, columns=3, left=0.05, top=0.3)
        top = style.robust_limit(np.maximum(made.density, 0))
        for column, (axis, place) in enumerate(strongest_planes(made.density)):
            axes = grid.axes(0, column)
            plane, outline = (np.take(v, place, axis=axis) for v in (made.density, made.mask))
            show_outlined(axes, plane, outline, edge_angstrom, top)
            axes.set_title(f"slice {VIEWS[column]}", loc="center")
            if column == 0:
                style.scale_bar(axes, edge_angstrom)
