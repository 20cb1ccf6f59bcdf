"""Colours and type of the interactive figures, light and dark, and how plotly is told of them.

What may differ between light and dark is in the template alone, never in a trace: a page changes its
appearance by changing the template of each figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.report import style

if TYPE_CHECKING:
    import plotly.graph_objects as go

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
# Readable on white and on black alike: thresholds, guides, what is consistent with noise.
MIDDLE = "#8A929E"
# The same for bars that stand alone.
SINGLE = style.SKY
_TRANSPARENT = "rgba(0,0,0,0)"
_SCALE_STEPS = 16
# More labels than this cannot be told apart by colour; they are shown as numbers in their order.
MOST_LABELS = 24


@dataclass(frozen=True)
class Theme:
    """Colours of one appearance.

    Attributes
    ----------
    ink, quiet, line, paper : str
        Text, axis text, grid, what labels that float above a figure stand on.
    density : tuple of str
        From few particles to many.
    cycle : tuple of str
        Distinct colours that colour-blind readers tell apart, in the order of their use.
    """

    ink: str
    quiet: str
    line: str
    paper: str
    density: tuple[str, ...]
    cycle: tuple[str, ...]


LIGHT = Theme(
    ink=style.INK, quiet="#5B6472", line="#E6E8EC", paper="#FFFFFF",
    density=("#CFE5F5", style.SKY, style.BLUE, "#06335A"), cycle=style.CYCLE,
)  # fmt: skip
DARK = Theme(
    ink="#E7EAF0", quiet="#A3ACBA", line="#2C333F", paper="#1A1F27",
    density=("#17456B", style.BLUE, style.SKY, "#E8F5FF"),
    # Okabe and Ito's blue is too dark on black; their sky takes its place
    cycle=(style.SKY, "#F0803C", "#2BBF94", style.PURPLE, "#8FA9FF", style.ORANGE),
)  # fmt: skip


def theme(dark: bool) -> Theme:
    """The colours of an appearance."""
    return DARK if dark else LIGHT


def template(dark: bool) -> go.layout.Template:
    """Everything about a figure that depends on whether the page is light or dark."""
    import plotly.graph_objects as go

    colours = theme(dark)
    axis = {
        "gridcolor": colours.line, "linecolor": colours.line, "zerolinecolor": colours.line,
        "zeroline": False, "ticks": "", "tickfont": {"color": colours.quiet, "size": 12},
        "title": {"font": {"color": colours.ink, "size": 13}, "standoff": 10},
    }  # fmt: skip
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": colours.ink},
            "paper_bgcolor": _TRANSPARENT, "plot_bgcolor": _TRANSPARENT,
            "colorway": list(colours.cycle), "xaxis": axis, "yaxis": axis,
            "coloraxis": {
                "colorscale": density_scale(dark), "cmin": 0, "cmax": 255, "showscale": False,
            },
            "legend": {"font": {"color": colours.ink, "size": 12}, "bgcolor": _TRANSPARENT},
            "hoverlabel": {
                "bgcolor": colours.paper, "bordercolor": colours.line,
                "font": {"color": colours.ink, "family": FONT},
            },
            "annotationdefaults": {"font": {"color": colours.quiet, "size": 12}},
            "modebar": {
                "bgcolor": _TRANSPARENT, "color": colours.quiet, "activecolor": colours.ink,
            },
        }
    )  # fmt: skip


def density_scale(dark: bool) -> list[list[Any]]:
    """A plotly colour scale for densities: nothing is transparent, much is strong."""
    stops = theme(dark).density
    first = rgb(stops[0])
    scale: list[list[Any]] = [[0.0, "rgba({},{},{},0)".format(*first)]]
    places = np.linspace(0.12, 1, len(stops))
    return scale + [[float(place), stop] for place, stop in zip(places, stops, strict=True)]


def number_scale() -> list[list[Any]]:
    """A plotly colour scale for numbers: viridis without the yellow that vanishes on white."""
    places = np.linspace(0, 1, _SCALE_STEPS)
    return [[float(place), colour] for place, colour in zip(places, _viridis(places), strict=True)]


def label_colours(count: int, dark: bool = False) -> list[str]:
    """One colour for each of `count` labels: distinct ones for up to six, a scale for more."""
    cycle = theme(dark).cycle
    if count <= len(cycle):
        return list(cycle[:count])
    return _viridis(np.linspace(0, 1, count))


def _viridis(places: NDArray[np.float64]) -> list[str]:
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(colour) for colour in colormaps["viridis"](0.08 + 0.84 * places)]


def plain(name: object) -> str:
    """A name from a file as a figure shows it letter by letter: plotly obeys <b> and <a href=…>."""
    return escape(str(name), quote=False)


def rgb(colour: str) -> tuple[int, int, int]:
    """Of "#RRGGBB"."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
