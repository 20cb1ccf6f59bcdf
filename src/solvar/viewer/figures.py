"""What is drawn, as plain plotly figures: the latents, the volume, the half-map FSC.

Dictionaries, not `plotly.graph_objects`: validating every array would take longer than making it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fsc import HALVES_THRESHOLD
from solvar.report import style
from solvar.report.interactive import raster, theme
from solvar.report.interactive.latents import color_bar, latent_scatter, number_limits
from solvar.viewer import palette
from solvar.viewer.columns import Column
from solvar.viewer.data import ViewerData
from solvar.viewer.jobs import Arrived
from solvar.viewer.meshes import DisplayVolume, Surface, isosurface

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Figure = dict[str, Any]

# "look" and "path" move the plane when dragged, the others draw.
DRAG = {"look": "pan", "path": "pan", "lasso": "lasso", "box": "select"}
_MARGIN = 0.06
_SCENE = 1.4


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


def latents(data: ViewerData, look: Look, marked: dict[str, Any]) -> Figure:
    """The particles in a plane: points, or a picture of many; `marked` is what `marks` gives."""
    column = None if look.colour is None else data.column(look.colour)
    layout = {**_plane(data, look, full_window(data, look.axes)), **marked}
    if not data.rastered:
        return {"data": _points(data, look, column), "layout": layout}
    # a trace without points: a plane of pictures alone would take no lasso
    empty = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "showlegend": False}
    layout["images"] = [picture(data, look)]
    return {"data": [empty, *_legend(column, look.dark)], "layout": layout}


def full_window(data: ViewerData, axes: tuple[str, str]) -> raster.Window:
    """All of a plane but its most remote particles, with a margin."""
    limits = []
    for key in axes:
        low, high = number_limits(data.axis(key), 0.0005)
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
    back = None
    if len(look.chosen):
        everybody = raster.count(pixel, window)
        left_out = theme.rgb(palette.marks(look.dark).left_out)
        grey = np.tile(np.array(left_out, np.uint8), (len(everybody), 1))
        back = np.column_stack([grey, (150 * raster.opacity(everybody)).astype(np.uint8)])
        kept = is_chosen(data, look)[inside]
        inside, pixel = inside[kept], pixel[kept]
    if look.colour is None:
        front = raster.by_density(raster.count(pixel, window), palette.density(look.dark))
    else:
        colours = palette.colours(data.column(look.colour), look.dark)
        front = raster.by_colour(pixel, colours[inside], window)
    return front if back is None else raster.over(front, back)


def is_chosen(data: ViewerData, look: Look) -> NDArray[np.bool_]:
    """(N,) whether each particle is selected."""
    inside = np.zeros(len(data), dtype=bool)
    inside[look.chosen] = True
    return inside


def _points(data: ViewerData, look: Look, column: Column | None) -> list[dict[str, Any]]:
    """Every particle as a point, drawn as in the report."""
    points = np.stack([data.axis(key) for key in look.axes], axis=1)
    drawn = latent_scatter(
        points,
        axes=look.axes,
        color=None if column is None else _as_drawn(column),
        color_name=None if column is None else column.title,
        categorical=column is not None and column.labels is not None,
        selected=is_chosen(data, look) if len(look.chosen) else None,
        dark=look.dark,
    )
    traces: list[dict[str, Any]] = drawn.to_dict()["data"]
    return traces


def _as_drawn(column: Column) -> NDArray[Any]:
    """Values, or labels that sort as their indices do."""
    if column.labels is None:
        return column.values
    names = np.array(column.labels)
    if all(name.isdecimal() for name in column.labels):
        names = names.astype(np.int64)
    return names[column.values.astype(np.int64)]


def _legend(column: Column | None, dark: bool) -> list[dict[str, Any]]:
    """Traces without points that bring the scale or the legend of a picture."""
    if column is None:
        return []
    nothing = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "hoverinfo": "skip"}
    if column.labels is None:
        low, high = number_limits(column.values)
        marker = {
            "color": [low], "cmin": low, "cmax": high, "showscale": True,
            "colorscale": theme.number_scale(), "colorbar": color_bar(column.title),
        }  # fmt: skip
        return [{**nothing, "marker": marker, "showlegend": False}]
    shades = theme.label_colours(len(column.labels), dark)
    return [
        {
            **nothing,
            "name": theme.plain(label),
            "marker": {"size": 9, "color": shade},
            "showlegend": True,
        }
        for label, shade in zip(column.labels, shades, strict=True)
    ]


def _plane(data: ViewerData, look: Look, window: raster.Window) -> dict[str, Any]:
    titles = [
        theme.plain(data.axes[key] + (", σ" if key.startswith("z") else "")) for key in look.axes
    ]
    selected = palette.marks(look.dark).here
    return {
        **_frame(look.dark, {"l": 54, "r": 12, "t": 8, "b": 46}),
        "xaxis": {"title": {"text": titles[0]}, "range": list(window.x)},
        "yaxis": {"title": {"text": titles[1]}, "range": list(window.y)},
        "dragmode": DRAG[look.mode],
        "hovermode": False,
        "uirevision": "-".join(look.axes),
        "legend": {"itemsizing": "constant", "x": 1.01, "y": 1},
        "newselection": {"line": {"color": selected, "width": 2, "dash": "solid"}},
        # the particles themselves show what is selected
        "activeselection": {"opacity": 0.0},
    }


def _frame(dark: bool, margin: dict[str, int]) -> dict[str, Any]:
    return {"template": template(dark), "margin": margin, "showlegend": True}


@cache
def template(dark: bool) -> dict[str, Any]:
    """What a figure takes from the appearance; the first call imports plotly, which takes a while."""
    made: dict[str, Any] = theme.template(dark).to_plotly_json()
    return made


def marks(data: ViewerData, look: Look, point: Float64, path: list[list[float]]) -> dict[str, Any]:
    """The path drawn so far and, as the last shape, the point that is shown: parts of a layout.

    Shapes lie above all particles, and moving them draws no particle again.
    """
    colours = palette.marks(look.dark)
    corners = [data.place_of(np.asarray(corner), look.axes) for corner in path]
    shapes = [_disc(place, 10, colours.path, colours.edge) for place in corners]
    if len(corners) > 1:
        way = "M" + "L".join(f"{x:.6g},{y:.6g}" for x, y in corners)
        line = {"color": colours.path, "width": 3}
        shapes.insert(0, {"type": "path", "path": way, "line": line})
    shapes.append(_disc(data.place_of(point, look.axes), 8, colours.here, colours.edge))
    numbers = [
        {
            "x": x, "y": y, "text": str(k), "showarrow": False,
            "font": {"color": colours.edge, "size": 11},
        }
        for k, (x, y) in enumerate(corners, 1)
    ]  # fmt: skip
    return {"shapes": shapes, "annotations": numbers}


def _disc(place: tuple[float, float], radius: float, fill: str, edge: str) -> dict[str, Any]:
    """A disc of so many pixels at a place in the plane."""
    return {
        "type": "circle", "xsizemode": "pixel", "ysizemode": "pixel",
        "xanchor": place[0], "yanchor": place[1],
        "x0": -radius, "x1": radius, "y0": -radius, "y1": radius,
        "fillcolor": fill, "line": {"color": edge, "width": 2},
    }  # fmt: skip


def surfaces(
    volume: DisplayVolume, levels: list[float], spread: Float32 | None = None
) -> list[Surface]:
    """Inner and, if there is a second level, outer contour; levels in grey values.

    The inner one knows where it changes if `spread` (L, L, L) does.
    """
    inner, *others = levels
    return [isosurface(volume, inner, spread), *(isosurface(volume, each) for each in others)]


def molecule(drawn: list[Surface], radius: float, dark: bool, revision: str = "keep") -> Figure:
    """The contours of a volume; the camera stays where the user put it.

    Parameters
    ----------
    drawn : list of Surface
    radius : float
        Half the edge of the cube that is shown, Å.
    """
    colours = palette.marks(dark)
    shades = [(colours.molecule, 1.0), (colours.outline, 0.22)]
    empty = Surface(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint16))
    axis = {"visible": False, "range": [-radius, radius], "autorange": False}
    return {
        "data": [
            {
                "type": "mesh3d", **surface.packed(), "color": colour, "opacity": opacity,
                "colorscale": [[0, colour], [1, style.VERMILION]], "cmin": 0, "cmax": 1, "showscale": False,
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
            **_frame(dark, {"l": 0, "r": 0, "t": 0, "b": 0}),
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
    colours = palette.marks(dark)
    fsc = np.asarray(shown.fsc if shown is not None and shown.fsc is not None else [1.0, 0.0])
    extent = 2 * len(fsc) * (shown.pixel_size_angstrom if shown is not None else 1.0)
    places, words = style.resolution_ticks(len(fsc), extent)
    axis = {"tickfont": {"size": 10}, "fixedrange": True}
    curve = {
        "type": "scatter", "mode": "lines", "y": fsc.tolist(), "showlegend": False,
        "line": {"color": colours.molecule, "width": 2.5}, "hoverinfo": "y",
        "fill": "tozeroy", "fillcolor": "rgba(86,180,233,0.14)",
    }  # fmt: skip
    threshold = {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": HALVES_THRESHOLD, "y1": HALVES_THRESHOLD,
        "line": {"color": theme.MIDDLE, "width": 1.2, "dash": "dash"},
    }  # fmt: skip
    return {
        "data": [curve] if shown is not None and shown.fsc is not None else [],
        "layout": {
            **_frame(dark, {"l": 36, "r": 8, "t": 6, "b": 34}),
            "xaxis": {**axis, "tickvals": places, "ticktext": words, "range": [0, len(fsc) - 1],
                      "title": {"text": "Resolution (Å)", "font": {"size": 11}}},
            "yaxis": {**axis, "range": [-0.08, 1.04], "tickvals": [0, 0.5, 1]},
            "shapes": [threshold],
        },
    }  # fmt: skip
