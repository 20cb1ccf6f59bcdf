"""Figures of numbers over components and shells: eigenvalues, Fourier shell correlations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvar.imaging.fsc import HALVES_THRESHOLD, TRUTH_THRESHOLD
from solvar.report import style
from solvar.results.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_eigenvalues(run: Run, path: Path) -> None:
    """How much each component moves, and whether the two halves of the data agree on it."""
    validation = run.validation
    width = max(4.5, 2.5 + 0.35 * run.rank)
    with style.figure(path, width, 4.6 if validation else 3.2) as figure:
        if validation is None:
            upper = figure.add_axes((0.15, 0.16, 0.81, 0.72))
            _bars(upper, run, np.ones(run.rank, bool))
            upper.set_xlabel("Component")
            return
        upper = figure.add_axes((0.15, 0.46, 0.81, 0.46))
        lower = figure.add_axes((0.15, 0.11, 0.81, 0.25), sharex=upper)
        _bars(upper, run, validation.reliable)
        _agreement(lower, validation.reliability, validation.reliable)
        upper.tick_params(labelbottom=False)
        lower.set_xlabel("Component")


def _bars(axes: Axes, run: Run, reliable: np.ndarray) -> None:
    eigenvalues = run.model.eigenvalues
    share = 100 * eigenvalues / max(eigenvalues.sum(), np.finfo(float).tiny)
    number = np.arange(1, run.rank + 1)
    colours = np.where(reliable, style.BLUE, style.PALE)
    axes.bar(number, share, color=colours, width=0.72)
    axes.set_ylim(0, 1.15 * max(share.max(), 1e-9))
    if run.rank <= 16:
        for x, height in zip(number.tolist(), share.tolist(), strict=True):
            eigenvalue = f"{eigenvalues[x - 1]:.3g}"
            axes.text(x, height, eigenvalue, ha="center", va="bottom", fontsize=7, color=style.GREY)
    axes.set_ylabel("Share of the variance (%)")
    axes.set_title("How much each component moves")
    if run.rank <= 16:
        axes.text(
            1, 0.97, "above each bar: eigenvalue", transform=axes.transAxes,
            ha="right", va="top", fontsize=8, color=style.GREY,
        )  # fmt: skip
    step = 1 + run.rank // 16
    axes.set_xticks(number[::step])
    axes.set_xlim(0.4, run.rank + 0.6)


def _agreement(axes: Axes, reliability: np.ndarray, reliable: np.ndarray) -> None:
    number = np.arange(1, len(reliability) + 1)
    for mask, colour, label in (
        (reliable, style.BLUE, "real"),
        (~reliable, style.GREY, "noise, or could be errors"),
    ):
        if mask.any():
            axes.plot(
                number[mask], reliability[mask], "o", ms=6, color=colour, label=label,
                markerfacecolor=colour if colour == style.BLUE else "white",
            )  # fmt: skip
    axes.axhline(0, color=style.PALE, lw=0.8, zorder=0)
    axes.axhline(1, color=style.PALE, lw=0.8, zorder=0)
    axes.set_ylim(min(-0.1, float(np.nanmin(reliability)) - 0.05), 1.08)
    axes.set_ylabel("Half-map\nsimilarity")
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.03), ncols=2, fontsize=8, borderaxespad=0,
        handletextpad=0.1, columnspacing=1.2,
    )  # fmt: skip


def draw_resolution(run: Run, path: Path) -> bool:
    """To what resolution the two halves agree: means, covariance, single components.

    Returns
    -------
    drawn : bool
        False when the run has no half-sets.
    """
    validation = run.validation
    if validation is None:
        return False
    box_angstrom = run.model.box_size * run.pixel_size_angstrom
    with style.figure(path, 11.6, 3.9) as figure:
        _covariance_map(figure, validation.covariance_fsc, box_angstrom)
        curves = figure.add_axes((0.395, 0.15, 0.24, 0.68))
        style.fsc_axes(
            curves, len(validation.mean_fsc), box_angstrom, (HALVES_THRESHOLD, TRUTH_THRESHOLD)
        )
        curves.plot(validation.mean_fsc, color=style.INK, label="mean volume")
        diagonal = np.diag(validation.covariance_fsc)
        curves.plot(diagonal, color=style.VERMILION, label="variability (covariance)")
        curves.set_title("Mean and variability", pad=20)
        curves.set_ylabel("Fourier shell correlation")
        _legend_above(curves, 2)
        components = figure.add_axes((0.68, 0.15, 0.24, 0.68))
        _component_curves(components, run, box_angstrom)
    return True


def _covariance_map(figure: Figure, fsc: np.ndarray, box_angstrom: float) -> None:
    axes = figure.add_axes((0.055, 0.15, 0.229, 0.68))
    image = axes.imshow(
        fsc, origin="lower", vmin=-1, vmax=1, cmap=style.DIVERGING, interpolation="nearest",
        aspect="auto",
    )  # fmt: skip
    positions, labels = style.resolution_ticks(len(fsc), box_angstrom)
    axes.set_xticks(positions, labels)
    axes.set_yticks(positions, labels)
    axes.set_xlabel("Resolution (Å)")
    axes.set_ylabel("Resolution (Å)")
    axes.set_title("Variability between resolutions", pad=20)
    axes.text(
        0, 1.02, "agreement of the halves", transform=axes.transAxes,
        fontsize=8, color=style.GREY, va="bottom",
    )  # fmt: skip
    bar = figure.colorbar(image, cax=figure.add_axes((0.291, 0.15, 0.01, 0.68)))
    bar.outline.set_visible(False)
    bar.set_ticks([-1, 0, 1])


def _component_curves(axes: Axes, run: Run, box_angstrom: float) -> None:
    validation = run.validation
    assert validation is not None
    style.fsc_axes(
        axes, validation.component_fsc.shape[1], box_angstrom, (HALVES_THRESHOLD, TRUTH_THRESHOLD)
    )
    for j, curve in enumerate(validation.component_fsc):
        reliable = bool(validation.reliable[j]) and j < len(style.CYCLE)
        resolution = validation.component_resolution[j]
        reach = f"{resolution:.0f} Å" if np.isfinite(resolution) else "–"
        axes.plot(
            curve,
            color=style.CYCLE[j] if reliable else style.PALE,
            label=f"{j + 1}: {reach}" if reliable else None,
            zorder=2 if reliable else 1,
        )
    axes.set_title("Single components", pad=20)
    if not validation.reliable.all():
        axes.plot([], [], color=style.PALE, label="noise")
    if validation.reliable[: len(style.CYCLE)].any():
        _legend_above(axes, 4)
    else:
        axes.text(0.5, 0.9, "no component passes", transform=axes.transAxes, ha="center")


def _legend_above(axes: Axes, columns: int) -> None:
    """A legend between title and axes (or beside them), where no curve runs beneath it."""
    _, labels = axes.get_legend_handles_labels()
    beside = len(labels) > columns
    place = (1.02, 1.0) if beside else (-0.02, 1.0)
    axes.legend(
        fontsize=8, handlelength=1.2, loc="upper left" if beside else "lower left",
        bbox_to_anchor=place, ncols=1 if beside else columns, borderaxespad=0,
        columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip
