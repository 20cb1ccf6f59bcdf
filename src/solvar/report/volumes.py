"""Figures of the volumes: slices, and the motion that each component stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvar.estimation.low_rank import LowRankModel
from solvar.fitting.result import has_shape
from solvar.report import style
from solvar.results.run import Run
from solvar.results.supported import supported_model
from solvar.results.words import component_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 6
_TINY = float(np.finfo(np.float64).tiny)
VIEWS = ("along z", "along y", "along x")


def draw_slices(run: Run, path: Path) -> None:
    """Slices of the mean, the mask around it, and of the first eigenvolumes, each where it is strongest."""
    crop, edge_angstrom = window(run.model)
    mask = run.model.mask[crop]
    shown, model = min(run.rank, _SHOWN), supported_model(run)
    volumes = [model.mean[crop], *(v[crop] for v in model.eigenvolumes[:shown])]
    outline = [np.take(mask, place, axis=axis) for axis, place in strongest_planes(volumes[0])]
    titles = ["Mean", *(_title(run, j) for j in range(shown))]
    with style.figure(path, 1.25 * len(volumes) + 0.7, 4.3) as figure:
        grid = Grid(figure, rows=3, columns=len(volumes), left=0.7, top=0.42)
        for column, (volume, title) in enumerate(zip(volumes, titles, strict=True)):
            slices = strongest_slices(volume)
            limit = float(max(np.abs(plane).max() for plane in slices)) or 1.0
            for row, view in enumerate(VIEWS):
                axes = grid.axes(row, column)
                plane = slices[row]
                if column == 0:
                    show_outlined(axes, plane, outline[row], edge_angstrom, limit)
                    axes.text(
                        -0.08, 0.5, view, transform=axes.transAxes,
                        rotation=90, ha="right", va="center",
                    )  # fmt: skip
                else:
                    _show(axes, plane, edge_angstrom, style.DIVERGING, -limit, limit)
                if row == 0:
                    colour = style.INK if column == 0 else _ink(run, column - 1)
                    axes.set_title(title, fontsize=8, loc="center", color=colour)
                if row == 2 and column == 0:
                    style.scale_bar(axes, edge_angstrom)


def draw_motion(run: Run, path: Path) -> None:
    """Projections of mean ± 2σ along each component, and their difference."""
    shown = min(run.rank, _SHOWN)
    with style.figure(path, 6.4, 0.32 + 1.35 * shown) as figure:
        motion_rows(run, Grid(figure, rows=shown, columns=4, left=1.05, top=0.3))


def motion_rows(run: Run, grid: Grid) -> None:
    """Fill a grid of four columns with one component a row: -2σ, mean, +2σ, what changes."""
    crop, edge_angstrom = window(run.model)
    model = supported_model(run)
    sigma = np.sqrt(np.maximum(model.eigenvalues[: grid.rows], 0))
    mean = model.mean[crop]
    for row in range(grid.rows):
        shift = 2 * sigma[row] * model.eigenvolumes[row][crop]
        axis = _clearest_view(shift)
        states = [(mean + sign * shift).sum(axis=axis) for sign in (-1, 0, 1)]
        top = max(style.robust_limit(np.maximum(state, 0)) for state in states)
        change = states[2] - states[0]
        limit = style.robust_limit(change)
        cells = [grid.axes(row, column) for column in range(4)]
        for axes, state in zip(cells, states, strict=False):
            _show(axes, state, edge_angstrom, style.GRAYSCALE, 0, top)
        _show(cells[3], change, edge_angstrom, style.DIVERGING, -limit, limit)
        if row == 0:
            for axes, title in zip(cells, ("−2σ", "mean", "+2σ", "what changes"), strict=True):
                axes.set_title(title, loc="center")
        if row == grid.rows - 1:
            style.scale_bar(cells[0], edge_angstrom)
        cells[0].text(
            -0.06, 0.5, f"{_title(run, row)}\n{VIEWS[axis]}",
            transform=cells[0].transAxes, ha="right", va="center", fontsize=8,
            color=_ink(run, row),
        )  # fmt: skip


class Grid:
    """Square image cells at fixed places: far quicker than a layout engine. Margins in inches."""

    def __init__(
        self,
        figure: Figure,
        *,
        rows: int,
        columns: int,
        left: float,
        top: float,
        right: float = 0.0,
    ) -> None:
        self.figure, self.rows = figure, rows
        width, height = figure.get_size_inches()
        self.left, self.top = left / width, top / height
        self.cell = (0.995 - self.left - right / width) / columns, (0.99 - self.top) / rows

    def axes(self, row: int, column: int) -> Axes:
        """The cell in this row and column."""
        wide, high = self.cell
        x = self.left + column * wide
        y = 1 - self.top - (row + 1) * high
        return self.figure.add_axes((x, y, 0.97 * wide, 0.97 * high))


def _title(run: Run, j: int) -> str:
    eigenvalues = run.model.eigenvalues
    lines = [f"Component {j + 1}", component_place(run, j)]
    lines.append(style.percent(eigenvalues[j], eigenvalues.sum()))
    title = "\n".join(line for line in lines if line)
    validation = run.validation
    if validation is None:
        return title
    if not validation.reliable[j]:
        return f"{title}, noise?"
    resolution = validation.component_resolution[j]
    return f"{title}, {resolution:.1f} Å" if has_shape(resolution) else title


def _ink(run: Run, j: int) -> str:
    """The colour of a component's words: pale where it is consistent with noise."""
    return style.INK if run.is_real(j) else style.GREY


def _show(
    axes: Axes, plane: np.ndarray, edge_angstrom: float, cmap: str, low: float, high: float
) -> None:
    half = edge_angstrom / 2
    axes.imshow(
        plane, origin="lower", cmap=cmap, vmin=low, vmax=high,
        interpolation="bicubic", extent=(-half, half, -half, half),
    )  # fmt: skip
    style.bare(axes)


def show_outlined(
    axes: Axes, plane: np.ndarray, mask: np.ndarray, edge_angstrom: float, top: float
) -> None:
    """A slice of density up to `top`, and where that of a mask is one half, if anywhere."""
    _show(axes, plane, edge_angstrom, style.GRAYSCALE, 0, top)
    if mask.min() < 0.5 < mask.max():
        half = edge_angstrom / 2
        extent = (-half, half, -half, half)
        axes.contour(mask, [0.5], colors=style.VERMILION, linewidths=0.8, extent=extent)


def show_projection(axes: Axes, volume: np.ndarray, axis: int, edge_angstrom: float) -> None:
    """A volume in projection, as bright as it is anywhere."""
    plane = volume.sum(axis=axis)
    _show(axes, plane, edge_angstrom, style.GRAYSCALE, 0, style.robust_limit(np.maximum(plane, 0)))


def show_plane(axes: Axes, plane: np.ndarray, edge_angstrom: float) -> None:
    """A slice in colours (K, K, 3)."""
    half = edge_angstrom / 2
    axes.imshow(plane, origin="lower", interpolation="bilinear", extent=(-half, half, -half, half))
    style.bare(axes)


def _clearest_view(shift: np.ndarray) -> int:
    """The axis along which the projected change has most power."""
    return int(np.argmax([np.sum(shift.sum(axis=axis) ** 2) for axis in range(3)]))


def strongest_slices(volume: np.ndarray) -> list[np.ndarray]:
    """The plane across z, y and x in which `volume` has most power: what it shows lies there."""
    return [np.take(volume, place, axis=axis) for axis, place in strongest_planes(volume)]


def strongest_planes(volume: np.ndarray) -> list[tuple[int, int]]:
    """Axis and place of each of these planes."""
    power = volume**2
    planes = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        planes.append((axis, int(np.argmax(power.sum(axis=others)))))
    return planes


def window(model: LowRankModel) -> tuple[tuple[slice, slice, slice], float]:
    """A cube around the molecule, with its edge in Å: pictures without wide empty margins.

    Its half edge is 1.15 times the radius that holds 98 % of the power of mean and eigenvolumes, so
    that a sphere as a mask does not make the molecule small.
    """
    variance = np.einsum("j,jzyx->zyx", model.eigenvalues, model.eigenvolumes**2)
    power = np.square(model.mean, dtype=np.float64)
    power /= max(float(power.sum()), _TINY)
    power += variance / max(float(variance.sum()), _TINY)
    grid = np.indices(power.shape)
    total = max(float(power.sum()), _TINY)
    centre = (grid * power).sum(axis=(1, 2, 3)) / total
    radius = np.sqrt(((grid - centre[:, None, None, None]) ** 2).sum(axis=0)).ravel()
    order = np.argsort(radius)
    held = int(np.searchsorted(np.cumsum(power.ravel()[order]), 0.98 * total))
    reach = float(radius[order[min(held, len(order) - 1)]])
    edge = int(np.clip(2 * np.ceil(1.15 * reach), 4, model.box_size))
    start = np.clip(np.rint(centre).astype(int) - edge // 2, 0, model.box_size - edge)
    z, y, x = (slice(int(s), int(s) + edge) for s in start)
    return (z, y, x), edge * model.pixel_size_angstrom
