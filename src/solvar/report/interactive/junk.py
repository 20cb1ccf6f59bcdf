"""How likely it is that images show a particle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from solvar.report.interactive import theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

_BINS = 40


def particle_probability(probability: NDArray[np.float64], *, dark: bool = False) -> go.Figure:
    """Histogram of the probabilities (N,) that images show a particle, counts on a logarithmic scale."""
    import plotly.graph_objects as go

    counts, edges = np.histogram(probability, _BINS, (0.0, 1.0))
    figure = go.Figure(
        layout={
            "template": theme.template(dark),
            "margin": {"l": 56, "r": 16, "t": 16, "b": 52},
            "dragmode": False,
            "bargap": 0,
            "xaxis": {"title": {"text": "Probability of a particle"}, "range": [0, 1]},
            "yaxis": {"title": {"text": "Images"}, "type": "log"},
        }
    )
    figure.add_bar(
        x=(edges[1:] + edges[:-1]) / 2, y=counts, width=edges[1] - edges[0], showlegend=False,
        hovertemplate="%{x:.2f}: %{y:,} images<extra></extra>",
        marker={"color": theme.SINGLE, "line": {"width": 0}},
    )  # fmt: skip
    figure.add_vline(x=0.5, line={"color": theme.MIDDLE, "width": 1.6, "dash": "dot"})
    return figure
