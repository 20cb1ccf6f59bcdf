"""The particles in a plane of two latents: points for many, their density for very many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.report.interactive import raster, theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

Float64 = NDArray[np.float64]
# Limits of x, limits of y.
Window = tuple[tuple[float, float], tuple[float, float]]

# Beyond this a browser is slow to draw points, and they cover each other anyway.
MOST_POINTS = 100_000
MOST_CELLS = 160  # an edge of a picture
_EXTREME = 0.002  # share of the particles at either end that may lie outside
_MARGIN = 0.08


def latent_scatter(
    points: Float64,
    *,
    axes: tuple[str, str],
    color: NDArray[Any] | None = None,
    color_name: str | None = None,
    categorical: bool = False,
    selected: NDArray[np.bool_] | None = None,
    dark: bool = False,
) -> go.Figure:
    """Draw particles in a plane.

    Up to 100,000 are drawn as points (WebGL), more as a picture: their density or, with `color`, the
    mean of the colour in each cell (the most frequent label, if `categorical`).

    Parameters
    ----------
    points : (N, 2) float
        Columns x and y.
    axes : (str, str)
        Titles of the axes.
    color : (N,) array, optional
        Numbers, or labels of any type if `categorical`.
    color_name : str, optional
        Title of the colour bar or legend.
    categorical : bool
        Whether `color` holds labels; each gets a colour of its own and a place in the legend.
    selected : (N,) bool, optional
        Particles to tell apart from the rest, which is drawn in grey.
    dark : bool
        For a dark page.

    Raises
    ------
    ValueError
        If an array does not fit the others.
    """
    import plotly.graph_objects as go

    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points have shape {points.shape}, not (N, 2)")
    for name, values in (("color", color), ("selected", selected)):
        if values is not None and np.shape(values) != (len(points),):
            raise ValueError(f"{name} has shape {np.shape(values)}, not ({len(points)},)")
    rastered = len(points) > MOST_POINTS
    draw = _pictures if rastered else _points
    traces = []
    rest = np.ones(len(points), bool)
    if selected is not None:
        rest = np.asarray(selected, bool)
        traces.append(_left_out(points, ~rest, rastered))
    every = None if color is None else np.asarray(color)
    traces += draw(points, rest, every, color_name, categorical, dark)
    return go.Figure(traces, _layout(points, axes, color_name if categorical else None, dark))


def limits(values: Float64) -> tuple[float, float]:
    """A range that shows all but the extreme 0.4 % of the particles."""
    if len(values) == 0:
        return -1.0, 1.0
    low, high = np.quantile(values, [_EXTREME, 1 - _EXTREME])
    margin = _MARGIN * max(float(high - low), 1e-6)
    return float(low - margin), float(high + margin)


def cells(points: Float64, window: Window, edge: int = MOST_CELLS) -> Float64:
    """Particles in each cell of a grid (edge, edge), axes y, x, over the `window`."""
    grid = raster.Window(*window, edge, edge)
    _, pixel = grid.place(points[:, 0], points[:, 1])
    return _from_below(raster.count(pixel, grid), grid)


def _from_below(pixels: Float64, grid: raster.Window) -> Float64:
    """Rows from bottom to top, as plotly counts them: a picture counts from the top."""
    return pixels.reshape(grid.height, grid.width)[::-1]


def shades(counts: Float64) -> NDArray[np.uint8]:
    """Strength of each cell (G, G) from 0, where nothing is, to 255.

    Smoothed a little; the root shows sparse states beside dense ones.
    """
    from scipy.ndimage import gaussian_filter

    smooth = np.sqrt(gaussian_filter(counts, len(counts) / 60, truncate=3.0))
    top = float(np.quantile(smooth[smooth > 0], 0.998)) if smooth.any() else 1.0
    return np.round(255 * np.minimum(smooth / top, 1)).astype(np.uint8)


def marker_size(count: int) -> float:
    """Diameter in pixels: many points are drawn small."""
    return float(np.clip(60 * (500 / max(count, 1)) ** 0.5, 2.5, 7))


def number_limits(values: NDArray[Any], share: float = 0.01) -> tuple[float, float]:
    """Limits that hold all but `share` of the finite values at either end, never empty.

    Of a million values a tenth tells it as well.
    """
    finite = np.asarray(values)
    finite = finite[np.isfinite(finite)]
    if len(finite) == 0:
        return 0.0, 1.0
    step = max(1, len(finite) // MOST_POINTS)
    low, high = (float(v) for v in np.quantile(finite[::step], [share, 1 - share]))
    if high > low:
        return low, high
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def color_bar(title: str | None) -> dict[str, Any]:
    """A slim colour bar at the right."""
    return {
        "title": {"text": theme.plain(title or ""), "side": "right"}, "thickness": 10, "len": 0.75,
        "outlinewidth": 0, "x": 1.01,
    }  # fmt: skip


def _points(
    points: Float64, rest: NDArray[np.bool_], color: NDArray[Any] | None, name: str | None,
    categorical: bool, dark: bool,
) -> list[go.Scattergl]:  # fmt: skip
    place = points[rest]
    size = marker_size(len(points))
    if color is None:
        return [_cloud(place, "particles", size, {})]
    # scale and colours are those of everybody, so that a selection changes no particle's colour
    chosen = color[rest]
    if not categorical:
        low, high = number_limits(color)
        marker = {
            "color": chosen, "cmin": low, "cmax": high, "colorscale": theme.number_scale(),
            "colorbar": color_bar(name),
        }  # fmt: skip
        return [_cloud(place, name or "particles", size, marker)]
    labels = np.unique(color)
    colours = theme.label_colours(len(labels), dark)
    return [
        _cloud(place[chosen == label], str(label), size, {"color": colour}, legend=True)
        for label, colour in zip(labels, colours, strict=True)
    ]


def _cloud(
    place: Float64, name: str, size: float, marker: dict[str, Any], *, legend: bool = False
) -> go.Scattergl:
    import plotly.graph_objects as go

    return go.Scattergl(
        x=place[:, 0].astype(np.float32), y=place[:, 1].astype(np.float32), mode="markers",
        name=theme.plain(name), showlegend=legend, hoverinfo="skip",
        marker={"size": size, "opacity": 0.6, **marker},
    )  # fmt: skip


def _left_out(points: Float64, rest: NDArray[np.bool_], rastered: bool) -> Any:
    """Particles that were not selected, in grey behind the others."""
    place = points[rest]
    if not rastered:
        grey = {"color": theme.MIDDLE, "opacity": 0.25}
        return _cloud(place, "not selected", marker_size(len(points)), grey)
    window = limits(points[:, 0]), limits(points[:, 1])
    clear = [[0.0, "rgba(138,146,158,0)"], [1.0, "rgba(138,146,158,0.6)"]]
    return _picture(shades(cells(place, window)), window, colorscale=clear, zmin=0, zmax=255)


def _pictures(
    points: Float64, rest: NDArray[np.bool_], color: NDArray[Any] | None, name: str | None,
    categorical: bool, dark: bool,
) -> list[Any]:  # fmt: skip
    import plotly.graph_objects as go

    window = limits(points[:, 0]), limits(points[:, 1])
    place = points[rest]
    if color is None:
        return [_picture(shades(cells(place, window)), window, coloraxis="coloraxis")]
    if not categorical:
        low, high = number_limits(color)
        return [
            _picture(
                _mean(place, np.asarray(color[rest], np.float64), window), window,
                colorscale=theme.number_scale(), zmin=low, zmax=high, showscale=True,
                colorbar=color_bar(name),
            )
        ]  # fmt: skip
    labels, number = np.unique(color, return_inverse=True)
    colours = theme.label_colours(len(labels), dark)
    pictures: list[Any] = [
        _picture(
            _most_frequent(place, number.reshape(-1)[rest], len(labels), window), window,
            colorscale=_steps(colours), zmin=-0.5, zmax=len(labels) - 0.5,
        )
    ]  # fmt: skip
    # a picture has no legend of its own
    legend = [
        go.Scatter(
            x=[None], y=[None], mode="markers", name=theme.plain(label), marker={"color": colour}
        )
        for label, colour in zip(labels, colours, strict=True)
    ]
    return pictures + legend


def _picture(z: NDArray[Any], window: Window, **look: Any) -> go.Heatmap:
    import plotly.graph_objects as go

    (left, right), (bottom, top) = window
    dx, dy = (right - left) / z.shape[1], (top - bottom) / z.shape[0]
    look = {"showscale": False, **look}
    if "coloraxis" in look:
        del look["showscale"]
    return go.Heatmap(
        z=z, x0=left + dx / 2, dx=dx, y0=bottom + dy / 2, dy=dy, hoverinfo="skip", **look
    )


def _mean(place: Float64, color: Float64, window: Window) -> NDArray[np.float32]:
    """Mean colour of the particles in each cell, NaN where there is none."""
    known = np.isfinite(color)
    place, color = place[known], color[known]
    grid = raster.Window(*window, MOST_CELLS, MOST_CELLS)
    inside, pixel = grid.place(place[:, 0], place[:, 1])
    mean = raster.mean(pixel, color[inside], grid)
    return _from_below(mean, grid).astype(np.float32)


def _most_frequent(
    place: Float64, number: NDArray[np.int64], count: int, window: Window
) -> NDArray[np.float32]:
    """The most frequent of `count` labels in each cell, NaN where there is no particle."""
    found = np.full((MOST_CELLS, MOST_CELLS), np.nan, np.float32)
    most = np.zeros((MOST_CELLS, MOST_CELLS))
    for label in range(count):
        here = cells(place[number == label], window)
        found[here > most] = label
        most = np.maximum(most, here)
    return found


def _steps(colours: list[str]) -> list[list[Any]]:
    """A colour scale of flat steps, one a label."""
    edges = np.linspace(0, 1, len(colours) + 1)
    return [
        [float(edge), colour]
        for k, colour in enumerate(colours)
        for edge in (edges[k], edges[k + 1])
    ]


def _layout(
    points: Float64, axes: tuple[str, str], legend_title: str | None, dark: bool
) -> dict[str, Any]:
    return {
        "template": theme.template(dark),
        "xaxis": {"title": {"text": theme.plain(axes[0])}, "range": limits(points[:, 0])},
        "yaxis": {"title": {"text": theme.plain(axes[1])}, "range": limits(points[:, 1])},
        "legend": {
            "title": {"text": theme.plain(legend_title or "")}, "itemsizing": "constant",
            "x": 1.01, "y": 1,
        },
        "margin": {"l": 60, "r": 20, "t": 16, "b": 52},
        "dragmode": "pan",
        "hovermode": False,
    }  # fmt: skip
