"""One look for all figures: colours that colour-blind readers tell apart, axes in ångströms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solvar.files import replacing
from solvar.results.words import component_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    from solvar.results.run import Run

# Okabe & Ito's palette, without its yellow, which is too pale for lines on white.
BLUE, VERMILION, GREEN, SKY, ORANGE, PURPLE = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#56B4E9",
    "#E69F00",
    "#CC79A7",
)
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, SKY, ORANGE)
INK, GREY, PALE = "#262626", "#767676", "#C8C8C8"

# Diverging and sequential maps of even lightness.
DIVERGING, DENSITY, GRAYSCALE = "RdBu_r", "Blues", "gray"

_RC: Any = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of `width` × `height` inches that is saved to `path` when the block ends.

    Built without pyplot: nothing global is touched, no window system is asked. Nor is a matplotlibrc: it
    may be anybody's that lies in the working folder, and one that asks for LaTeX would end the drawing.
    """
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context():
        rcdefaults()
        rcParams.update(_RC)
        drawing = Figure(figsize=(width, height), dpi=130, facecolor="white")
        FigureCanvasAgg(drawing)
        yield drawing
        with replacing(path) as temporary:
            drawing.savefig(temporary)


def resolution_axis(axes: Axes, shells: int, box_angstrom: float, label: bool = True) -> None:
    """Label an x axis of Fourier shells with the resolution box/shell in Å."""
    positions, labels = resolution_ticks(shells, box_angstrom)
    axes.set_xticks(positions, labels)
    axes.set_xlim(0, shells - 1)
    if label:
        axes.set_xlabel("Resolution (Å)")


def fsc_axes(axes: Axes, shells: int, box_angstrom: float, thresholds: tuple[float, ...]) -> None:
    """Axes of Fourier shell correlations by resolution, with a line at each threshold."""
    resolution_axis(axes, shells, box_angstrom)
    for height in thresholds:
        axes.axhline(height, color=PALE, lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.axhline(0, color=PALE, lw=0.8, zorder=0)
    axes.set_ylim(-0.15, 1.03)
    ticks = [0, *thresholds, 1]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def resolution_ticks(shells: int, box_angstrom: float) -> tuple[list[float], list[str]]:
    """Round resolutions that are spread evenly over `shells` shells: positions and labels.

    Returns
    -------
    positions : list of float
        In shells.
    labels : list of str
        In Å.
    """
    positions: list[float] = []
    labels: list[str] = []
    nice = [100, 50, 30, 20, 15, 12, 10, 8, 7, 6, 5, 4.5, 4, 3.5, 3, 2.5, 2, 1.5, 1]
    for resolution in nice:
        shell = box_angstrom / resolution
        far_enough = not positions or shell - positions[-1] >= shells / 10
        if shells / 12 <= shell <= shells - 1 and far_enough:
            positions.append(shell)
            labels.append(f"{resolution:g}")
    return positions, labels


def scale_bar(axes: Axes, extent_angstrom: float) -> None:
    """Draw a bar of a round length in the lower left of an image whose axes are in Å."""
    length = next(
        nice for nice in (500, 200, 100, 50, 20, 10, 5, 2, 1, 0) if nice <= 0.4 * extent_angstrom
    )
    x, y = -0.46 * extent_angstrom, -0.44 * extent_angstrom
    axes.plot([x, x + length], [y, y], color="white", lw=3, solid_capstyle="butt")
    axes.text(
        x + length / 2, y + 0.02 * extent_angstrom, f"{length:g} Å",
        color="white", ha="center", va="bottom", fontsize=7,
    )  # fmt: skip


def bare(axes: Axes) -> None:
    """Take ticks and frame away from an image."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def change_scale() -> LinearSegmentedColormap:
    """From what stays to what changes, over black."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("change", ["black", VERMILION])


def percent(part: float, whole: float) -> str:
    """A share of the variance in words, such as ``"34 %"``."""
    share = 100 * part / whole if whole > 0 else 0.0
    return f"{share:.0f} %" if share >= 9.95 or share == 0 else f"{share:.1f} %"


def component_title(run: Run, j: int, real: bool) -> str:
    """The name of component j, with its share of the variance, and a doubt unless it is `real`."""
    eigenvalues = run.record["result"]["eigenvalues"]
    share = percent(eigenvalues[j], sum(eigenvalues))
    return f"Component {component_name(run, j)} ({share}{'' if real else ', noise?'})"


def axis_name(j: int, real: bool = True) -> str:
    """The name of component j along an axis in standard deviations."""
    return f"Component {j + 1}{'' if real else ', noise'} (σ)"


def robust_limit(values: np.ndarray) -> float:
    """The 99.8th percentile of |values|, never 0: a colour limit that one voxel cannot set."""
    return float(np.quantile(np.abs(values), 0.998)) or 1.0
