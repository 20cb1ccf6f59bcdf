"""Numbers over components and shells: eigenvalues with the verdict of the half-sets, and FSC curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.fitting.result import has_shape
from solvar.imaging.fsc import HALVES_THRESHOLD, TRUTH_THRESHOLD
from solvar.report import style
from solvar.report.interactive import theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from solvar.fitting.result import HalfsetValidation

Float64 = NDArray[np.float64]

_NOISE = "noise, or could be errors"
_THRESHOLDS = HALVES_THRESHOLD, TRUTH_THRESHOLD
_TINY = float(np.finfo(np.float64).tiny)


def spectrum(
    eigenvalues: Float64, validation: HalfsetValidation | None = None, *, dark: bool = False
) -> go.Figure:
    """Share of the variance of each component; below, how well the half-sets agree on it.

    Parameters
    ----------
    eigenvalues : (r,) float64
    validation : HalfsetValidation, optional
        Without it nothing is said about reliability, and there is no lower panel.
    dark : bool
    """
    import plotly.graph_objects as go

    number = np.arange(1, len(eigenvalues) + 1)
    share = 100 * eigenvalues / max(float(eigenvalues.sum()), _TINY)
    real = np.ones(len(number), bool) if validation is None else validation.reliable
    name = "components" if validation is None else "real"
    figure = go.Figure(layout=_layout(dark))
    for mask, label in ((real, name), (~real, _NOISE)):
        if not mask.any():
            continue
        # every second colour is the theme's own, so that it changes with the page
        look: dict[str, Any] = {} if label != _NOISE else {"color": theme.MIDDLE, "opacity": 0.45}
        figure.add_bar(
            x=number[mask], y=share[mask], name=label, marker=look, legendgroup=label,
            showlegend=validation is not None, customdata=eigenvalues[mask],
            hovertemplate="Component %{x}: %{y:.1f} %<br>eigenvalue %{customdata:.4g}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(
        barmode="overlay", bargap=0.35,
        yaxis={"title": {"text": "Share of the variance (%)"}, "rangemode": "tozero"},
        xaxis={"title": {"text": "Component"}, "dtick": 1 + len(number) // 16, "showgrid": False},
        legend=_LEGEND_ABOVE,
    )  # fmt: skip
    if validation is not None:
        _agreement(figure, number, validation)
    return figure


def _agreement(figure: go.Figure, number: NDArray[np.int64], validation: HalfsetValidation) -> None:
    """The half-map similarity of each component in a panel of its own."""
    figure.add_scatter(
        x=number, y=validation.reliability, mode="markers+lines", yaxis="y2", showlegend=False,
        line={"color": theme.MIDDLE, "width": 1, "dash": "dot"}, marker={"size": 9, "color": theme.MIDDLE},
        hovertemplate="Component %{x}: half-map similarity %{y:.2f}<extra></extra>",
    )  # fmt: skip
    lowest = min(-0.1, float(np.nanmin(validation.reliability)) - 0.05)
    figure.update_layout(
        yaxis={"domain": [0.42, 1]},
        yaxis2={
            "domain": [0, 0.28], "range": [lowest, 1.1], "tickvals": [0, 0.5, 1],
            "title": {"text": "Half-map<br>similarity"}, "anchor": "x",
        },
        xaxis={"anchor": "y2"},
    )  # fmt: skip


def mean_fsc(
    validation: HalfsetValidation, box_angstrom: float, *, dark: bool = False
) -> go.Figure:
    """Fourier shell correlation of the half-sets' means and covariances.

    Parameters
    ----------
    validation : HalfsetValidation
    box_angstrom : float
        Edge of the box, Å: shell s has the resolution box/s.
    dark : bool
    """
    curves = {
        "mean volume": validation.mean_fsc,
        "variability (covariance)": np.diag(validation.covariance_fsc),
    }
    shells = len(validation.mean_fsc)
    return _fsc_figure(curves, np.empty((0, shells)), shells, box_angstrom, dark)


def component_fsc(
    validation: HalfsetValidation, box_angstrom: float, *, dark: bool = False
) -> go.Figure:
    """Fourier shell correlation of each component; arguments as of `mean_fsc`."""
    shown = np.flatnonzero(validation.reliable)[: len(style.CYCLE)]
    curves = {}
    for j in shown:
        reach = validation.component_resolution[j]
        words = f"{reach:.1f} Å" if has_shape(reach) else "shape unknown"
        curves[f"component {j + 1}: {words}"] = validation.component_fsc[j]
    noise = validation.component_fsc[~validation.reliable]
    return _fsc_figure(curves, noise, len(validation.mean_fsc), box_angstrom, dark)


def _fsc_figure(
    curves: dict[str, Float64], noise: Float64, shells: int, box_angstrom: float, dark: bool
) -> go.Figure:
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(dark))
    # shell 0 is a single number, whose correlation is but a sign
    shell = np.arange(1, shells)
    for name, values in curves.items():
        figure.add_scatter(
            x=shell, y=values[1:], mode="lines", name=name, line={"width": 2.2},
            customdata=box_angstrom / shell,
            hovertemplate="%{y:.2f} at %{customdata:.1f} Å<extra>" + name + "</extra>",
        )  # fmt: skip
    for k, values in enumerate(noise):
        figure.add_scatter(
            x=shell, y=values[1:], mode="lines", name=_NOISE, showlegend=k == 0, hoverinfo="skip",
            line={"color": theme.MIDDLE, "width": 1.2}, opacity=0.5, zorder=-1,
        )  # fmt: skip
    positions, labels = style.resolution_ticks(shells, box_angstrom)
    guide = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "layer": "below"}
    line = {"color": theme.MIDDLE, "width": 1, "dash": "dot"}
    figure.update_layout(
        shapes=[{**guide, "y0": level, "y1": level, "line": line} for level in _THRESHOLDS],
        xaxis={
            "title": {"text": "Resolution (Å)"}, "tickvals": positions, "ticktext": labels,
            "range": [0, max(shells - 1, 1)],
        },
        yaxis={
            "title": {"text": "Fourier shell correlation"}, "range": [-0.15, 1.03],
            "tickvals": [0, *_THRESHOLDS, 1],
        },
        legend=_LEGEND_ABOVE,
    )  # fmt: skip
    return figure


def noise_ratio(
    ratio: Float64, box_angstrom: float, *, group: str = "optics group", dark: bool = False
) -> go.Figure:
    """Measured over assumed noise power.

    Parameters
    ----------
    ratio : (G, S) float64
        Of each group of images and shell.
    box_angstrom : float
    group : str
        What a group is.
    dark : bool
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(dark))
    shell = np.arange(1, ratio.shape[1])
    for number, values in enumerate(ratio[:_MOST_GROUPS], 1):
        figure.add_scatter(
            x=shell, y=values[1:], mode="lines", name=f"{group} {number}",
            line={"width": 2.2}, customdata=box_angstrom / shell,
            showlegend=len(ratio) > 1,
            hovertemplate="%{y:.2f} at %{customdata:.1f} Å<extra></extra>",
        )  # fmt: skip
    positions, labels = style.resolution_ticks(ratio.shape[1], box_angstrom)
    guide = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "layer": "below"}
    figure.update_layout(
        shapes=[{**guide, "line": {"color": theme.MIDDLE, "width": 1, "dash": "dot"}}],
        xaxis={"title": {"text": "Resolution (Å)"}, "tickvals": positions, "ticktext": labels},
        yaxis={
            "title": {"text": "Measured over assumed"},
            "range": [min(0.8, 0.95 * ratio.min()), max(1.2, 1.05 * ratio.max())],
        },
        legend=_LEGEND_ABOVE,
    )  # fmt: skip
    return figure


_MOST_GROUPS = 10
_LEGEND_ABOVE = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left"}


def _layout(dark: bool) -> dict[str, Any]:
    return {
        "template": theme.template(dark),
        "margin": {"l": 64, "r": 16, "t": 40, "b": 52},
        "dragmode": False,
    }
