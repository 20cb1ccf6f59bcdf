"""Figures of the analysis: clusters, density and paths, UMAP, and what a reviewer asks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from solvar.analysis.analyze import Analysis
from solvar.analysis.diagnostics import COVERAGE_WARNING, KS_WARNING, R_SQUARED_WARNING
from solvar.analysis.neighbours import sample
from solvar.analysis.words import PATHS
from solvar.analysis.writing import ANALYSIS, FOLDER
from solvar.files import OwnedFolder
from solvar.report import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_SHOWN = 4  # components in the corner plot
_POINTS = 20_000  # more points cover each other
_PATH_COLOURS = (style.VERMILION, style.GREEN, style.PURPLE, style.ORANGE)


def draw_analysis(analysis: Analysis, own: OwnedFolder) -> list[Path]:
    """Draw every figure of `analysis` to the folder ``analysis`` of its run, of which `own` is the owner.

    Returns
    -------
    paths : list of Path
        clusters.png and diagnostics.png; density.png if there is a plane, umap.png if it was asked for.
    """
    figures = {"clusters": draw_clusters}
    if analysis.density is not None:
        figures["density"] = draw_density
    if analysis.umap is not None:
        figures["umap"] = draw_umap
    figures["diagnostics"] = draw_diagnostics
    paths = own.claim(ANALYSIS, [f"{FOLDER}/{name}.png" for name in figures])
    for path, draw in zip(paths, figures.values(), strict=True):
        draw(analysis, path)
    return paths


def cluster_colours(analysis: Analysis) -> list[Any]:
    """One colour a cluster: distinct ones for up to six, else a scale along the first component."""
    count = len(analysis.clusters)
    if count <= len(style.CYCLE):
        return list(style.CYCLE[:count])
    from matplotlib import colormaps

    rank = np.argsort(np.argsort(analysis.clusters.centre[:, 0]))
    return [tuple(colour) for colour in colormaps["viridis"](0.94 * rank / (count - 1))]


def draw_clusters(analysis: Analysis, path: Path) -> None:
    """Pairs of components, particles coloured by cluster, centres numbered."""
    points = analysis.space.whitened
    shown = min(points.shape[1], _SHOWN)
    colours = cluster_colours(analysis)
    if shown == 1:
        _draw_cluster_histogram(analysis, colours, path)
        return
    cells = shown - 1
    edge = 3.6 if cells == 1 else 2.7
    rows = sample(len(points), _POINTS, 0)
    limits = [_limits(points[:, j]) for j in range(shown)]
    with style.figure(path, cells * edge + 0.9, cells * edge + 1.0) as figure:
        grid = figure.subplots(cells, cells, squeeze=False)
        for i in range(cells):
            for j in range(cells):
                axes = grid[i, j]
                if j > i:
                    axes.set_axis_off()
                    continue
                _scatter(axes, points[rows][:, [j, i + 1]], analysis.clusters.label[rows], colours)
                _numbers(axes, analysis.clusters.centre[:, [j, i + 1]], colours)
                axes.set_xlim(limits[j])
                axes.set_ylim(limits[i + 1])
                if i == cells - 1:
                    axes.set_xlabel(_axis_name(analysis, j))
                if j == 0:
                    axes.set_ylabel(_axis_name(analysis, i + 1))
        figure.suptitle(_cluster_title(analysis), x=0.02, ha="left", fontsize=12, weight="bold")
        figure.tight_layout(rect=(0, 0, 1, 0.99))


def _draw_cluster_histogram(analysis: Analysis, colours: list[Any], path: Path) -> None:
    values, label = analysis.space.whitened[:, 0], analysis.clusters.label
    edges = [float(edge) for edge in np.linspace(*_limits(values), 61)]
    parts = [values[label == k] for k in range(len(colours))]
    with style.figure(path, 5.2, 3.4) as figure:
        axes = figure.add_subplot()
        axes.hist(parts, edges, stacked=True, color=colours)
        axes.set_xlabel(_axis_name(analysis, 0))
        axes.set_ylabel("Particles")
        axes.set_title(_cluster_title(analysis))
        figure.tight_layout()


def _cluster_title(analysis: Analysis) -> str:
    return f"{len(analysis.clusters)} clusters of {len(analysis.space):,} particles"


def _axis_name(analysis: Analysis, place: int) -> str:
    return style.axis_name(int(analysis.space.active[place]))


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [0.002, 0.998])
    margin = 0.08 * max(float(high - low), 1e-6)
    return float(low - margin), float(high + margin)


def _scatter(axes: Axes, points: np.ndarray, label: np.ndarray, colours: Sequence[Any]) -> None:
    """Points in the colours of their clusters, in an order that lets none cover another."""
    from matplotlib.colors import to_rgba_array

    order = np.random.default_rng(0).permutation(len(points))
    size = float(np.clip(60 * (500 / len(points)) ** 0.7, 1.5, 14))
    axes.scatter(
        points[order, 0], points[order, 1], s=size, alpha=0.55, lw=0,
        c=to_rgba_array(list(colours))[label[order]],
    )  # fmt: skip


def _numbers(axes: Axes, centres: np.ndarray, colours: Sequence[Any]) -> None:
    """Numbered discs at the centres of the clusters (K, 2)."""
    for k, (x, y) in enumerate(centres):
        # each disc above the number before it, so that no two numbers run into each other
        above = 5 + 0.1 * k
        axes.plot(x, y, "o", ms=12, mfc="white", mec=colours[k], mew=1.6, zorder=above)
        axes.text(
            x, y, str(k + 1), ha="center", va="center_baseline", fontsize=7, weight="bold",
            zorder=above + 0.05,
        )  # fmt: skip


def draw_density(analysis: Analysis, path: Path) -> None:
    """The density as measured, and with the errors taken out; states and paths on the latter."""
    density = analysis.density
    assert density is not None  # asked for only if there is one
    first, second = density.components
    x = density.x / analysis.space.spread[first]
    y = density.y / analysis.space.spread[second]
    limits = [
        _span(density.raw + density.deconvolved, nodes, axis) for nodes, axis in ((x, 0), (y, 1))
    ]
    with style.figure(path, 9.4, 4.7) as figure:
        pair = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, values, title in (
            (pair[0], density.raw, "As measured"),
            (pair[1], density.deconvolved, "Errors of the latents taken out"),
        ):
            _map(axes, x, y, values)
            axes.set_title(title)
            _name_axis(axes.xaxis, analysis, first)
            axes.set_xlim(limits[0])
            axes.set_ylim(limits[1])
        _name_axis(pair[0].yaxis, analysis, second)
        _paths(pair[1], analysis, (first, second))
        _states(pair[1], analysis, (first, second))
        figure.tight_layout()


def _name_axis(axis: Axis, analysis: Analysis, component: int) -> None:
    """The name of a component; that of noise is grey."""
    real = component in analysis.space.active
    axis.set_label_text(style.axis_name(component, real), color=style.INK if real else style.GREY)


def _states(axes: Axes, analysis: Analysis, plane: tuple[int, int]) -> None:
    """Numbered discs at the tops of separate states."""
    if analysis.states is None or len(analysis.states) < 2:
        return
    tops = analysis.space.to_latents(analysis.states.centre) / analysis.space.spread
    _numbers(axes, tops[:, plane], [style.INK] * len(tops))


def _span(values: np.ndarray, nodes: np.ndarray, axis: int) -> tuple[float, float]:
    """The range of the nodes that holds all but a thousandth of the density on either side."""
    share = np.cumsum(values.sum(axis=axis))
    low, high = np.searchsorted(share / share[-1], [0.001, 0.999])
    return float(nodes[max(low - 2, 0)]), float(nodes[min(high + 2, len(nodes) - 1)])


def _map(axes: Axes, x: np.ndarray, y: np.ndarray, values: np.ndarray) -> None:
    """A density as an image with contours that hold 90, 70, 50, 30 and 10 % of the particles."""
    # the root shows sparse states beside dense ones
    top = float(np.quantile(values, 0.999)) or 1.0
    dx, dy = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
    axes.imshow(
        np.sqrt(np.clip(values / top, 0, 1)), origin="lower", aspect="auto", cmap=style.DENSITY,
        extent=(x[0] - dx, x[-1] + dx, y[0] - dy, y[-1] + dy), interpolation="bicubic", vmin=0, vmax=1.12,
    )  # fmt: skip
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(values, 0.8)
    ordered = np.sort(smooth.ravel())[::-1]
    share = np.cumsum(ordered) / ordered.sum()
    levels = np.unique(
        [ordered[np.searchsorted(share, part)] for part in (0.9, 0.7, 0.5, 0.3, 0.1)]
    )
    axes.contour(x, y, smooth, levels=levels, colors=style.INK, linewidths=0.5, alpha=0.55)


def _paths(axes: Axes, analysis: Analysis, plane: tuple[int, int]) -> None:
    """The paths in the plane, from an open to a filled end."""
    if not analysis.trajectories:
        return
    from matplotlib.patheffects import Normal, Stroke

    for k, path in enumerate(analysis.trajectories):
        latents = analysis.space.to_latents(path.points) / analysis.space.spread
        x, y = latents[:, plane[0]], latents[:, plane[1]]
        colour = _PATH_COLOURS[k % len(_PATH_COLOURS)]
        axes.plot(
            x, y, "--o" if path.crosses_gap else "-o", color=colour, ms=3.5, lw=1.8,
            label=PATHS.get(path.name, path.name),
            path_effects=[Stroke(linewidth=3.6, foreground="white"), Normal()],
        )  # fmt: skip
        axes.plot(x[0], y[0], "o", ms=8, mfc="white", mec=colour, mew=2, zorder=5)
        axes.plot(x[-1], y[-1], "o", ms=8, mfc=colour, mec="white", mew=1.2, zorder=5)
    axes.legend(
        loc="best", title="Paths (open: start)", fontsize=7, title_fontsize=7,
        frameon=True, framealpha=0.85, edgecolor="none",
    )  # fmt: skip


def draw_umap(analysis: Analysis, path: Path) -> None:
    """UMAP coloured by cluster and by the first component."""
    assert analysis.umap is not None  # asked for only if there is one
    rows = sample(len(analysis.umap), _POINTS, 0)
    place, label = analysis.umap[rows], analysis.clusters.label
    colours = cluster_colours(analysis)
    first = analysis.space.whitened[rows, 0]
    with style.figure(path, 9.4, 4.7) as figure:
        left, right = figure.subplots(1, 2)
        _scatter(left, place, label[rows], colours)
        middle = [np.median(analysis.umap[label == k], axis=0) for k in range(len(colours))]
        _numbers(left, np.array(middle), colours)
        left.set_title("UMAP, by cluster")
        limit = style.robust_limit(first)
        size = float(np.clip(60 * (500 / len(rows)) ** 0.7, 1.5, 14))
        dots = right.scatter(
            *place.T, s=size, c=first, cmap="coolwarm", vmin=-limit, vmax=limit, lw=0, alpha=0.8
        )
        right.set_title(f"UMAP, by component {analysis.space.active[0] + 1}")
        figure.colorbar(dots, ax=right, shrink=0.6, label="σ").outline.set_visible(False)  # type: ignore[operator]
        for axes in (left, right):
            style.bare(axes)
        figure.tight_layout()


def draw_diagnostics(analysis: Analysis, path: Path) -> None:
    """Associations with what is not structure, views by cluster, half-sets, outliers."""
    with style.figure(path, 9.4, 7.0) as figure:
        grid = figure.subplots(2, 2)
        _association_bars(grid[0, 0], analysis)
        _coverage_bars(grid[0, 1], analysis)
        _half_bars(grid[1, 0], analysis)
        _outlier_plane(grid[1, 1], analysis)
        figure.tight_layout(h_pad=2.2, w_pad=2.5)


def _association_bars(axes: Axes, analysis: Analysis) -> None:
    factors = list(dict.fromkeys(one.factor for one in analysis.associations))
    shown = [int(j) + 1 for j in analysis.space.active[:6]]
    height = 0.8 / len(shown)
    for k, component in enumerate(shown):
        values = {a.factor: a.r_squared for a in analysis.associations if a.component == component}
        where = np.arange(len(factors)) - 0.4 + (k + 0.5) * height
        widths = [max(100 * values[name], 0) for name in factors]
        axes.barh(where, widths, 0.9 * height, color=style.CYCLE[k], label=f"component {component}")
    axes.set_yticks(range(len(factors)), factors)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    _threshold(axes, 100 * R_SQUARED_WARNING, vertical=True)
    axes.set_xlim(0, max(2.0 * 100 * R_SQUARED_WARNING, axes.get_xlim()[1]))
    axes.set_xlabel("Variance explained (%)")
    axes.set_title("Do the latents follow anything but structure?")
    axes.legend(fontsize=7, loc="best")


def _coverage_bars(axes: Axes, analysis: Analysis) -> None:
    count = len(analysis.coverage)
    axes.bar(
        np.arange(1, count + 1), 100 * analysis.coverage, 0.75, color=cluster_colours(analysis)
    )
    _threshold(axes, 100 * COVERAGE_WARNING, vertical=False)
    axes.set_xlabel("Cluster")
    axes.set_ylabel("Views, % of the whole set's")
    axes.set_xticks(np.arange(1, count + 1, 1 + count // 13))
    axes.set_title("Does each cluster see all views?")


def _half_bars(axes: Axes, analysis: Analysis) -> None:
    axes.set_title("Are the latents alike in both half-sets?")
    if not analysis.halves:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "The run had no half-sets", ha="center", color=style.GREY)
        return
    names = [str(one.component) for one in analysis.halves]
    axes.bar(names, [one.ks_distance for one in analysis.halves], 0.6, color=style.BLUE)
    _threshold(axes, KS_WARNING, vertical=False)
    axes.set_ylim(0, max(2 * KS_WARNING, axes.get_ylim()[1]))
    axes.set_xlabel("Component")
    axes.set_ylabel("Kolmogorov–Smirnov distance")


def _outlier_plane(axes: Axes, analysis: Analysis) -> None:
    found = analysis.outliers
    bad = found.far | found.unlikely
    few = sample(len(bad), _POINTS, 0)
    rows, flagged = few[~bad[few]], np.flatnonzero(bad)[:_POINTS]
    axes.plot(
        found.distance[rows], found.score[rows], "o", ms=2, mew=0, alpha=0.35, color=style.BLUE
    )
    axes.plot(
        found.distance[flagged], found.score[flagged], "o", ms=3.5, mew=0, color=style.VERMILION
    )
    axes.set_xlabel("Mahalanobis distance of the latents")
    axes.set_ylabel("Log-likelihood (robust σ)")
    axes.set_title(f"{int(bad.sum()):,} particles do not fit the model")


def _threshold(axes: Axes, value: float, *, vertical: bool) -> None:
    draw = axes.axvline if vertical else axes.axhline
    draw(value, color=style.GREY, lw=1, ls=(0, (4, 3)), zorder=0)
