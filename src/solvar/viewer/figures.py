"""What is drawn, as plain plotly figures: the latents, the volume, the half-map FSC.

Dictionaries, not `plotly.graph_objects`: validating every array would take longer than making it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.report import style
from solvar.viewer import palette, raster
from solvar.viewer.columns import Column, robust_range
from solvar.viewer.data import ViewerData
from solvar.viewer.jobs import Arrived
from solvar.viewer.meshes import DisplayVolume, Surface, isosurface, packed
from solvar.viewer.palette import Theme

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Figure = dict[str, Any]

# Traces of the latent figure that follow every click; they are replaced one by one.
PATH_TRACE, POINT_TRACE = 0, 1
# "look" and "path" move the plane when dragged, the others draw.
DRAG = {"look": "pan", "path": "pan", "lasso": "lasso", "box": "select"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_MARGIN = 0.06
_SCENE = 1.65


@dataclass(frozen=True, eq=False)
class Look:
    """How the latents are looked at.

    Attributes
    ----------
    axes : (str, str)
    colour : str or None
        Key of a property; None for the density.
    chosen : (M,) int64
        Selected particles; none are told apart if it is empty.
    dark : bool
    mode : str
        Key of `DRAG`.
    window : Window or None
        The part that is shown; None for all.
    """

    axes: tuple[str, str]
    colour: str | None = None
    chosen: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    dark: bool = False
    mode: str = "look"
    window: raster.Window | None = None

    @property
    def theme(self) -> Theme:
        """Colours of this appearance."""
        return palette.DARK if self.dark else palette.LIGHT


def latents(data: ViewerData, look: Look, marks: list[dict[str, Any]]) -> Figure:
    """The particles in a plane: points, or a picture of many; `marks` as `marks` gives them."""
    column = None if look.colour is None else data.column(look.colour)
    whole = full_window(data, look.axes)
    figure: Figure = {
        "data": list(marks),
        "layout": _plane(data, look, whole),
    }
    if data.rastered:
        figure["layout"]["images"] = [picture(data, look)]
        figure["data"] += _legend(column, look.theme)
    else:
        figure["data"] += _points(data, look, column)
    return figure


def full_window(data: ViewerData, axes: tuple[str, str]) -> raster.Window:
    """All of a plane but its most remote particles, with a margin."""
    limits = []
    for key in axes:
        low, high = robust_range(data.axis(key), 0.0005)
        margin = _MARGIN * (high - low)
        limits.append((low - margin, high + margin))
    return raster.Window(limits[0], limits[1])


def picture(data: ViewerData, look: Look) -> dict[str, Any]:
    """The particles of a window as one image in the coordinates of the plane."""
    window = look.window or full_window(data, look.axes)
    inside, pixel = window.place(data.axis(look.axes[0]), data.axis(look.axes[1]))
    rgba = _painted(data, look, inside, pixel, window)
    return {
        "source": raster.png(rgba, window),
        "xref": "x", "yref": "y", "layer": "below", "sizing": "stretch",
        "x": window.x[0], "y": window.y[1],
        "sizex": window.x[1] - window.x[0], "sizey": window.y[1] - window.y[0],
    }  # fmt: skip


def _painted(
    data: ViewerData, look: Look, inside: Int64, pixel: Int64, window: raster.Window
) -> raster.Uint8:
    """The picture: selected particles in colour, the others grey behind them."""
    theme = look.theme
    everybody = raster.count(pixel, window)
    back = None
    if len(look.chosen):
        grey = np.tile(np.array(palette.rgb(theme.left_out), np.uint8), (len(everybody), 1))
        back = np.column_stack([grey, (150 * raster.opacity(everybody)).astype(np.uint8)])
        is_chosen = np.zeros(len(data), dtype=bool)
        is_chosen[look.chosen] = True
        kept = is_chosen[inside]
        inside, pixel = inside[kept], pixel[kept]
    if look.colour is None:
        front = raster.by_density(raster.count(pixel, window), palette.ramp(theme.density))
    else:
        front = raster.by_colour(pixel, palette.colours(data.column(look.colour))[inside], window)
    return front if back is None else raster.over(front, back)


def _points(data: ViewerData, look: Look, column: Column | None) -> list[dict[str, Any]]:
    """Every particle as a point; one trace a label, so that a legend tells them."""
    size = float(np.clip(60 * (500 / max(len(data), 1)) ** 0.5, 2.5, 7))
    groups: list[tuple[str, Int64, dict[str, Any]]] = []
    everybody = np.arange(len(data))
    if column is None:
        groups.append(("particles", everybody, {"color": look.theme.density[2]}))
    elif column.labels is None:
        low, high = robust_range(column.values)
        numbers = {"color": packed(column.values), "cmin": low, "cmax": high}
        groups.append((column.title, everybody, numbers | _bar(column, look.theme)))
    else:
        shades = palette.label_colours(len(column.labels))
        for k, label in enumerate(column.labels):
            members = np.flatnonzero(column.values == k)
            groups.append((label, members, {"color": "rgb({},{},{})".format(*shades[k])}))
    return [_cloud(data, look, *group, size, len(groups) > 1) for group in groups]


def _cloud(
    data: ViewerData, look: Look, name: str, members: Int64, marker: dict[str, Any],
    size: float, in_legend: bool,
) -> dict[str, Any]:  # fmt: skip
    x, y = (packed(data.axis(key)[members].astype(np.float32)) for key in look.axes)
    trace: dict[str, Any] = {
        "type": "scattergl", "mode": "markers", "name": name, "x": x, "y": y,
        "marker": {"size": size, "opacity": 0.6, **marker}, "showlegend": in_legend,
        "hoverinfo": "skip",
        "unselected": {"marker": {"opacity": 0.12, "color": look.theme.left_out}},
    }  # fmt: skip
    if len(look.chosen):
        trace["selectedpoints"] = np.flatnonzero(np.isin(members, look.chosen)).tolist()
    return trace


def _legend(column: Column | None, theme: Theme) -> list[dict[str, Any]]:
    """Traces without points that bring the scale or the legend of a picture."""
    if column is None:
        return []
    nothing = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "hoverinfo": "skip"}
    if column.labels is None:
        low, high = robust_range(column.values)
        marker = {"color": [low], "cmin": low, "cmax": high, **_bar(column, theme)}
        return [{**nothing, "marker": marker, "showlegend": False}]
    shades = palette.label_colours(len(column.labels))
    return [
        {**nothing, "name": label, "marker": {"size": 9, "color": "rgb({},{},{})".format(*shade)}}
        for label, shade in zip(column.labels, shades, strict=True)
    ]


def _bar(column: Column, theme: Theme) -> dict[str, Any]:
    title = {"text": column.title, "side": "right", "font": {"size": 12, "color": theme.quiet}}
    return {
        "colorscale": palette.scale(),
        "showscale": True,
        "colorbar": {
            "title": title, "thickness": 10, "len": 0.7, "outlinewidth": 0, "x": 1.01,
            "tickfont": {"color": theme.quiet, "size": 11},
        },
    }  # fmt: skip


def _plane(data: ViewerData, look: Look, window: raster.Window) -> dict[str, Any]:
    theme = look.theme
    axis = {
        "gridcolor": theme.line, "zeroline": False, "linecolor": theme.line,
        "tickfont": {"color": theme.quiet, "size": 11}, "ticks": "",
    }  # fmt: skip
    titles = [
        data.axes[key] + (", σ" if key.startswith("z") else "") for key in look.axes
    ]
    font = {"size": 13, "color": theme.ink}
    return {
        **_frame(theme, {"l": 54, "r": 12, "t": 8, "b": 46}),
        "xaxis": {**axis, "title": {"text": titles[0], "font": font}, "range": list(window.x)},
        "yaxis": {**axis, "title": {"text": titles[1], "font": font}, "range": list(window.y)},
        "dragmode": DRAG[look.mode],
        "hovermode": False,
        "uirevision": "-".join(look.axes),
        "legend": {"font": {"color": theme.ink}, "itemsizing": "constant", "x": 1.01, "y": 1},
        "newselection": {"line": {"color": theme.here, "width": 2, "dash": "solid"}},
    }


def _frame(theme: Theme, margin: dict[str, int]) -> dict[str, Any]:
    return {
        "margin": margin,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "color": theme.ink, "size": 12},
        "showlegend": True,
    }


def marks(
    data: ViewerData, look: Look, point: Float64, path: list[list[float]]
) -> list[dict[str, Any]]:
    """The path drawn so far and the point that is shown, in the order of their trace numbers."""
    theme = look.theme
    corners = [data.place_of(np.asarray(corner), look.axes) for corner in path]
    x, y = data.place_of(point, look.axes)
    common = {"type": "scatter", "hoverinfo": "skip", "showlegend": False, "cliponaxis": False}
    edge = {"color": "white" if not look.dark else "#12161D", "width": 2}
    return [
        {
            **common, "mode": "lines+markers+text",
            "x": [c[0] for c in corners], "y": [c[1] for c in corners],
            "text": [str(k + 1) for k in range(len(corners))],
            "textfont": {"color": "white" if not look.dark else "#12161D", "size": 10},
            "textposition": "middle center",
            "line": {"color": theme.path, "width": 3, "shape": "linear"},
            "marker": {"size": 17, "color": theme.path, "line": edge},
        },
        {
            **common, "mode": "markers", "x": [x], "y": [y],
            "marker": {"size": 15, "color": theme.here, "line": edge, "symbol": "circle"},
        },
    ]  # fmt: skip


def surfaces(volume: DisplayVolume, levels: list[float]) -> list[Surface]:
    """Inner and, if there is a second level, outer contour; levels in grey values."""
    return [isosurface(volume, level) for level in levels]


def molecule(drawn: list[Surface], radius: float, dark: bool, revision: str = "keep") -> Figure:
    """The contours of a volume; the camera stays where the user put it.

    Parameters
    ----------
    drawn : list of Surface
    radius : float
        Half the edge of the cube that is shown, Å.
    """
    theme = palette.DARK if dark else palette.LIGHT
    shades = [(theme.molecule, 1.0), (theme.outline, 0.22)]
    empty = Surface(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint16))
    axis = {"visible": False, "range": [-radius, radius], "autorange": False}
    return {
        "data": [
            {
                "type": "mesh3d", **surface.packed(), "color": colour, "opacity": opacity,
                "hoverinfo": "skip", "flatshading": False,
                "lighting": {
                    "ambient": 0.38, "diffuse": 0.85, "specular": 0.2, "roughness": 0.6,
                    "fresnel": 0.15, "vertexnormalsepsilon": 0, "facenormalsepsilon": 0,
                },
                "lightposition": {"x": 10000, "y": 10000, "z": 10000},
            }
            for surface, (colour, opacity) in zip([*drawn, empty][:2], shades, strict=True)
        ],
        "layout": {
            **_frame(theme, {"l": 0, "r": 0, "t": 0, "b": 0}),
            "scene": {
                "xaxis": axis, "yaxis": axis, "zaxis": axis,
                "aspectmode": "manual", "aspectratio": dict.fromkeys("xyz", _SCENE),
                "dragmode": "orbit", "uirevision": revision,
                "camera": {
                    # plotly.js lights nothing in an orthographic scene
                    "eye": {"x": 1.0, "y": -1.0, "z": 0.55}, "projection": {"type": "perspective"},
                },
            },
            "uirevision": revision,
        },
    }  # fmt: skip


def half_map_fsc(shown: Arrived | None, dark: bool) -> Figure:
    """The half-map FSC of a reconstruction by resolution; an empty frame where there is none."""
    theme = palette.DARK if dark else palette.LIGHT
    fsc = np.asarray(shown.fsc if shown is not None and shown.fsc is not None else [1.0, 0.0])
    extent = 2 * len(fsc) * (shown.pixel_size_angstrom if shown is not None else 1.0)
    places, words = style.resolution_ticks(len(fsc), extent)
    axis = {
        "zeroline": False, "gridcolor": theme.line, "tickfont": {"color": theme.quiet, "size": 10},
        "fixedrange": True,
    }  # fmt: skip
    curve = {
        "type": "scatter", "mode": "lines", "y": fsc.tolist(), "showlegend": False,
        "line": {"color": theme.molecule, "width": 2.5}, "hoverinfo": "y",
        "fill": "tozeroy", "fillcolor": "rgba(86,180,233,0.14)",
    }  # fmt: skip
    threshold = {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0.143, "y1": 0.143,
        "line": {"color": theme.here, "width": 1.2, "dash": "dash"},
    }  # fmt: skip
    return {
        "data": [curve] if shown is not None and shown.fsc is not None else [],
        "layout": {
            **_frame(theme, {"l": 36, "r": 8, "t": 6, "b": 34}),
            "xaxis": {**axis, "tickvals": places, "ticktext": words, "range": [0, len(fsc) - 1],
                      "title": {"text": "Resolution (Å)", "font": {"size": 11}}},
            "yaxis": {**axis, "range": [-0.08, 1.04], "tickvals": [0, 0.5, 1]},
            "shapes": [threshold],
        },
    }  # fmt: skip
