"""Figures of the particles: where they lie along the components, and their contrast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvar.report import style
from solvar.results.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 4  # components in the corner plot; more are unreadable on a page


def draw_latents(run: Run, path: Path) -> None:
    """Density of the particles along pairs of components, in standard deviations."""
    shown = min(run.rank, _SHOWN)
    spread = np.sqrt(np.maximum(run.model.eigenvalues[:shown], np.finfo(float).tiny))
    z = run.posterior.z[:, :shown] / spread
    limits = [_limits(z[:, j]) for j in range(shown)]
    real = np.ones(shown, bool) if run.validation is None else run.validation.reliable[:shown]
    size = 1.2 + 1.9 * max(shown, 2)
    with style.figure(path, size, size) as figure:
        low, span, gap = 0.11, 0.83, 0.02
        cell = (span - gap * (shown - 1)) / shown
        for row in range(shown):
            for column in range(row + 1):
                box = (low + column * (cell + gap), low + (shown - 1 - row) * (cell + gap))
                axes = figure.add_axes((*box, cell, cell))
                if row == column:
                    marginal(axes, z[:, row], limits[row], noise=not real[row])
                    axes.set_title(
                        style.component_title(run, row, real[row]), fontsize=8,
                        color=style.INK if real[row] else style.GREY,
                    )  # fmt: skip
                else:
                    noise = not (real[row] and real[column])
                    pair(axes, z[:, column], z[:, row], limits[column], limits[row], noise=noise)
                _edge_labels(axes, row, column, shown)
        if shown > 1:
            figure.text(
                0.98, 0.955, "Where the particles lie", ha="right", fontsize=12, weight="bold"
            )
            figure.text(
                0.98, 0.93, _explanation(bool(real.all())),
                ha="right", va="top", fontsize=9, color=style.GREY,
            )  # fmt: skip


def _explanation(all_real: bool) -> str:
    text = "in standard deviations of each component"
    return text if all_real else f"{text};\ngrey: consistent with noise"


def _edge_labels(axes: Axes, row: int, column: int, shown: int) -> None:
    if row == shown - 1:
        axes.set_xlabel(f"Component {column + 1} (σ)")
    else:
        axes.tick_params(labelbottom=False)
    if column == 0 and row > 0:
        axes.set_ylabel(f"Component {row + 1} (σ)")
    elif row != column:
        axes.tick_params(labelleft=False)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """A range that shows all but the extreme 0.4 % of particles."""
    low, high = np.quantile(values, [0.002, 0.998])
    margin = 0.08 * max(high - low, 1e-6)
    return float(low - margin), float(high + margin)


def marginal(
    axes: Axes, values: np.ndarray, limits: tuple[float, float], *, noise: bool = False
) -> None:
    """A histogram without a scale: the shape of a distribution."""
    bins = int(np.clip(np.sqrt(len(values)), 12, 60))
    counts, edges = np.histogram(values, bins=bins, range=limits)
    axes.stairs(counts, edges, fill=True, color=style.PALE if noise else style.SKY, alpha=0.5)
    axes.stairs(counts, edges, color=style.GREY if noise else style.BLUE, lw=1.2)
    axes.set_xlim(limits)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def pair(
    axes: Axes, x: np.ndarray, y: np.ndarray,
    x_limits: tuple[float, float], y_limits: tuple[float, float], *, noise: bool = False,
) -> None:  # fmt: skip
    """Points for few particles, their density for many."""
    if len(x) < 2_000:
        colour = style.GREY if noise else style.BLUE
        axes.plot(x, y, "o", ms=2.2, mew=0, alpha=0.45, color=colour)
    else:
        _density(axes, x, y, x_limits, y_limits, "Greys" if noise else style.DENSITY)
    axes.set_xlim(x_limits)
    axes.set_ylim(y_limits)


def _density(
    axes: Axes, x: np.ndarray, y: np.ndarray,
    x_limits: tuple[float, float], y_limits: tuple[float, float], cmap: str,
) -> None:  # fmt: skip
    """A smoothed histogram as an image: constant cost, where a million points would not draw."""
    from scipy.ndimage import gaussian_filter

    bins = int(np.clip(np.sqrt(len(x)), 40, 160))
    counts, _, _ = np.histogram2d(y, x, bins=bins, range=(y_limits, x_limits))
    counts = np.sqrt(gaussian_filter(counts, bins / 35))  # the root shows sparse states too
    # greys are darker than blues: held back, so that noise does not look like the main thing
    top = counts.max() * (1.8 if cmap == "Greys" else 1)
    axes.imshow(
        counts, vmin=0, vmax=top, origin="lower", aspect="auto",
        extent=(*x_limits, *y_limits), cmap=cmap, interpolation="bilinear",
    )  # fmt: skip


def draw_contrast(run: Run, path: Path) -> None:
    """The contrast factor of each particle: a narrow peak around 1 is what good images give."""
    contrast = run.posterior.contrast
    with style.figure(path, 4.8, 3.2) as figure:
        axes = figure.add_axes((0.06, 0.17, 0.90, 0.70))
        low, high = np.quantile(contrast, [0.001, 0.999])
        limits = (min(0.5, float(low)), max(1.5, float(high)))
        marginal(axes, contrast, limits)
        axes.axvline(1, color=style.VERMILION, lw=1, ls=(0, (4, 3)))
        axes.set_xlabel("Contrast (1 = average particle; near 0 = ice or false pick)")
        axes.set_title(f"Contrast of {len(contrast):,} particles, spread {contrast.std():.2f}")
