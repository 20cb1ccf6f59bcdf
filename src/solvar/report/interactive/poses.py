"""How far refinement moved the particles, beside what is still unknown of their poses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from solvar.report.interactive import theme
from solvar.results.poses import PARTS, PoseChange, with_unit

if TYPE_CHECKING:
    import plotly.graph_objects as go

_BINS = 60
_GAP = 0.06


def pose_corrections(change: PoseChange, *, dark: bool = False) -> go.Figure:
    """Histograms of the corrections of viewing direction, in-plane angle and shift.

    Dotted lines mark the rms of the posterior spread: a correction within them is no larger than what
    is still unknown.
    """
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(dark))
    width = (1 - 2 * _GAP) / 3
    for k, (name, words, unit) in enumerate(PARTS):
        correction, spread = change.correction[name], change.spread[name]
        reach = 1.08 * float(np.quantile(np.abs(correction), 0.996)) or 1.0
        signed = name == "in_plane"
        counts, edges = np.histogram(correction, _BINS, (-reach if signed else 0.0, reach))
        suffix = "" if k == 0 else str(k + 1)
        left = k * (width + _GAP)
        rms = with_unit(float(np.sqrt((correction**2).mean())), unit)
        figure.add_bar(
            x=(edges[1:] + edges[:-1]) / 2, y=counts, width=edges[1] - edges[0], showlegend=False,
            xaxis=f"x{suffix}", yaxis=f"y{suffix}",
            hovertemplate="%{x:.2g} " + unit + ": %{y:,} particles<extra></extra>",
            marker={"color": theme.SINGLE, "line": {"width": 0}},
        )  # fmt: skip
        typical = float(np.sqrt((spread**2).mean()))
        for place in (-typical, typical) if signed else (typical,):
            figure.add_shape(
                type="line", xref=f"x{suffix}", yref=f"y{suffix} domain", x0=place, x1=place,
                y0=0, y1=1, line={"color": theme.MIDDLE, "width": 1.6, "dash": "dot"},
            )  # fmt: skip
        figure.add_annotation(
            text=f"<b>{words.capitalize()}</b>, {rms} rms", xref="paper", yref="paper", x=left, y=1.05,
            xanchor="left", yanchor="bottom", showarrow=False,
        )  # fmt: skip
        figure.update_layout(
            {
                f"xaxis{suffix}": {
                    "domain": [left, left + width], "anchor": f"y{suffix}",
                    "title": {"text": f"Correction ({unit})"}, "showgrid": False,
                },
                f"yaxis{suffix}": {"anchor": f"x{suffix}", "showticklabels": False, "showgrid": False},
            }
        )  # fmt: skip
    return figure


def _layout(dark: bool) -> dict[str, Any]:
    return {
        "template": theme.template(dark),
        "margin": {"l": 16, "r": 16, "t": 48, "b": 52},
        "dragmode": False,
        "bargap": 0,
    }
