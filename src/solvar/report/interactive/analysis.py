"""What the analysis found: associations with what is not structure, views, the density and its paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.density import DensityMap
from solvar.analysis.diagnostics import COVERAGE_WARNING, R_SQUARED_WARNING
from solvar.analysis.words import PATHS
from solvar.report import style
from solvar.report.interactive import theme
from solvar.report.interactive.latents import limits, shades

if TYPE_CHECKING:
    import plotly.graph_objects as go

Float64 = NDArray[np.float64]

_SHOWN = 6  # components; more bars a factor cannot be told apart


def associations(found: Sequence[Mapping[str, Any]], *, dark: bool = False) -> go.Figure:
    """Share of each component's variance that a factor explains; the dotted line asks for attention.

    Parameters
    ----------
    found : sequence of mapping
        ``factor``, ``component`` (from 1), ``r_squared``, as in ``analysis.json``.
    dark : bool
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(dark, {"l": 130, "r": 16, "t": 40, "b": 52}))
    components = sorted({one["component"] for one in found})[:_SHOWN]
    top = 200 * R_SQUARED_WARNING
    for component in components:
        own = [one for one in found if one["component"] == component]
        values = [max(100 * one["r_squared"], 0.0) for one in own]
        top = max(top, 1.08 * max(values))
        figure.add_bar(
            y=[theme.plain(one["factor"]) for one in own], x=values, orientation="h",
            name=f"component {component}",
            hovertemplate="%{y}: %{x:.1f} %<extra>component " + str(component) + "</extra>",
        )  # fmt: skip
    _threshold(figure, 100 * R_SQUARED_WARNING, vertical=True)
    figure.update_layout(
        xaxis={"title": {"text": "Variance explained (%)"}, "range": [0, top]},
        yaxis={"autorange": "reversed", "showgrid": False, "ticklabelstandoff": 8},
        bargap=0.3, showlegend=True,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    )  # fmt: skip
    return figure


def coverage(evenness: Sequence[float], *, dark: bool = False) -> go.Figure:
    """Evenness of the views of each cluster, in percent of that of the whole set."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(dark, {"l": 64, "r": 16, "t": 40, "b": 52}))
    number = np.arange(1, len(evenness) + 1)
    figure.add_bar(
        x=number, y=100 * np.asarray(evenness), marker={"color": theme.SINGLE},
        hovertemplate="Cluster %{x}: %{y:.0f} %<extra></extra>",
    )  # fmt: skip
    _threshold(figure, 100 * COVERAGE_WARNING, vertical=False)
    figure.update_layout(
        xaxis={"title": {"text": "Cluster"}, "dtick": 1 + len(number) // 16, "showgrid": False},
        yaxis={"title": {"text": "Views (% of the whole set's)"}, "rangemode": "tozero"},
        bargap=0.35,
    )  # fmt: skip
    return figure


def landscape(
    density: DensityMap,
    paths: Mapping[str, Float64],
    spread: Float64,
    *,
    states: Float64 | None = None,
    gaps: Sequence[str] = (),
    real: Sequence[bool] = (True, True),
    dark: bool = False,
) -> go.Figure:
    """The density of the latents with their errors taken out, its states and the paths through it.

    Parameters
    ----------
    density : DensityMap
    paths : mapping of str to (n, r) float64
        Latents in eigenvolume units, by name.
    spread : (r,) float64
        Prior standard deviations: the axes are told in them.
    states : (S, r) float64, optional
        Latents at the tops of separate states, which get numbers.
    gaps : sequence of str
        Paths that lead where hardly a particle is: they are dashed.
    real : pair of bool
        Whether each component is told from noise; the axis of one that is not is grey.
    dark : bool
    """
    import plotly.graph_objects as go

    first, second = density.components
    x, y = density.x / spread[first], density.y / spread[second]
    figure = go.Figure(layout=_layout(dark, {"l": 64, "r": 16, "t": 40, "b": 52}))
    figure.add_heatmap(
        z=shades(density.deconvolved), x0=x[0], dx=x[1] - x[0], y0=y[0], dy=y[1] - y[0],
        coloraxis="coloraxis", hoverinfo="skip", zsmooth="best",
    )  # fmt: skip
    # the first colour is that of the density itself
    colours = theme.theme(False).cycle[1:]
    for k, (name, points) in enumerate(paths.items()):
        place, colour = points / spread, colours[k % len(colours)]
        ends = [9.0] + [5.0] * (len(place) - 2) + [9.0]
        figure.add_scatter(
            x=place[:, first], y=place[:, second], mode="lines+markers",
            name=theme.plain(PATHS.get(name, name)),
            line={"width": 2.4, "color": colour, "dash": "dash" if name in gaps else "solid"},
            marker={"size": ends, "color": ["#FFFFFF"] + [colour] * (len(place) - 1),
                    "line": {"color": colour, "width": 1.6}},
            hovertemplate="point %{pointNumber}: %{x:.2f} σ, %{y:.2f} σ<extra></extra>",
        )  # fmt: skip
    if states is not None and len(states):
        place = states / spread
        figure.add_scatter(
            x=place[:, first], y=place[:, second], mode="markers+text", showlegend=False,
            text=[f"<b>{k}</b>" for k in range(1, len(place) + 1)],
            textfont={"color": "#1A1A1A", "size": 12},
            marker={"size": 20, "color": "#FFFFFF", "line": {"color": "#1A1A1A", "width": 1.4}},
            hovertemplate="state %{text}: %{x:.2f} σ, %{y:.2f} σ<extra></extra>",
        )  # fmt: skip
    (left, right), (bottom, top) = (_held(density.deconvolved, n, a) for n, a in ((x, 0), (y, 1)))
    figure.update_layout(
        xaxis={"title": _axis_title(first, real[0]), "range": [left, right]},
        yaxis={"title": _axis_title(second, real[1]), "range": [bottom, top]},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}, showlegend=True,
    )  # fmt: skip
    return figure


def _axis_title(component: int, real: bool) -> dict[str, Any]:
    title: dict[str, Any] = {"text": style.axis_name(component, real)}
    return title if real else title | {"font": {"color": theme.MIDDLE}}


def _held(values: Float64, nodes: Float64, axis: int) -> tuple[float, float]:
    """A range of nodes that holds nearly all of the density."""
    share = values.sum(axis=axis)
    drawn = np.repeat(nodes, np.round(2000 * share / share.sum()).astype(np.int64))
    return limits(drawn)


def _threshold(figure: go.Figure, value: float, *, vertical: bool) -> None:
    line = {"color": theme.MIDDLE, "width": 1.6, "dash": "dot"}
    (figure.add_vline if vertical else figure.add_hline)(value, line=line)


def _layout(dark: bool, margin: dict[str, int]) -> dict[str, Any]:
    return {"template": theme.template(dark), "margin": margin, "dragmode": False}
