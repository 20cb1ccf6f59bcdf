"""Callbacks of the plane of latents, the point and the path; the work is done elsewhere."""

from __future__ import annotations

from typing import Any

import dash
import numpy as np
from dash import ALL, ClientsideFunction, Input, Output, Patch, State, ctx, no_update

from solvar.report.interactive.raster import Window
from solvar.viewer import figures
from solvar.viewer.data import ViewerData
from solvar.viewer.figures import Look
from solvar.viewer.layout import HINTS
from solvar.viewer.messages import tell
from solvar.viewer.selections import Selector
from solvar.volumes.targets import from_file

SLIDERS = {"type": "component", "index": ALL}


def register(app: dash.Dash, data: ViewerData, chosen: Selector) -> None:
    """Connect the plane, the point and the path."""
    _in_browser(app)
    _plane(app, data, chosen)
    _point(app, data)
    _path(app, data)


def _in_browser(app: dash.Dash) -> None:
    """What needs no server: see assets/viewer.js."""

    def there(function: str, *arguments: Any) -> None:
        app.clientside_callback(ClientsideFunction("solvar", function), *arguments)

    there("entitle", Input("run", "children"))
    there(
        "appearance",
        Output("appearance", "data"),
        Input("appearance-button", "n_clicks"),
        State("appearance", "data"),
    )
    there(
        "painted",
        Output("painted", "data"),
        Input("latents", "figure"),
        State("painted", "data"),
    )
    there("drawn", Output("drawn", "data"), Input("latents", "selectedData"))
    there(
        "shownWindow",
        Output("window", "data"),
        Input("latents", "relayoutData"),
        Input("x-axis", "value"),
        Input("y-axis", "value"),
    )


def _plane(app: dash.Dash, data: ViewerData, chosen: Selector) -> None:
    @app.callback(
        Output("latents", "figure"),
        Input("x-axis", "value"),
        Input("y-axis", "value"),
        Input("colour", "value"),
        Input("asked", "data"),
        Input("appearance", "data"),
        Input("window", "data"),
        State("mode", "value"),
        State("path", "data"),
        State(SLIDERS, "value"),
    )
    def draw(
        x: str, y: str, colour: str | None, asked: Any, appearance: str, window: Any, mode: str,
        path: list[list[float]], point: list[float],
    ) -> Any:  # fmt: skip
        only_moved = set(ctx.triggered_prop_ids) == {"window.data"}
        if only_moved and not data.rastered:
            return no_update
        look = Look(
            (x, y), colour, chosen(asked), appearance == "dark", mode, _window(window, (x, y))
        )
        if only_moved:
            moved = Patch()
            moved["layout"]["images"] = [figures.picture(data, look)]
            return moved
        return figures.latents(data, look, figures.marks(data, look, np.array(point), path))

    @app.callback(
        Output("latents", "figure", allow_duplicate=True),
        Output("latents-card-hint", "children"),
        Input("mode", "value"),
        prevent_initial_call=True,
    )
    def take_up(mode: str) -> Any:
        tool = Patch()
        tool["layout"]["dragmode"] = figures.DRAG[mode]
        return tool, HINTS[mode]


def _window(shown: Any, axes: tuple[str, str]) -> Window | None:
    """The part of the plane that the page says it shows, if that is of these axes."""
    if not shown or tuple(shown["axes"]) != axes:
        return None
    x, y = sorted(map(float, shown["x"])), sorted(map(float, shown["y"]))
    if not np.isfinite([*x, *y]).all() or x[0] == x[1] or y[0] == y[1]:
        return None
    return Window((x[0], x[1]), (y[0], y[1]))


def _point(app: dash.Dash, data: ViewerData) -> None:
    @app.callback(
        Output(SLIDERS, "value"),
        Output("path", "data"),
        Input("clicked", "data"),
        State("mode", "value"),
        State("x-axis", "value"),
        State("y-axis", "value"),
        State("path", "data"),
        State(SLIDERS, "value"),
        prevent_initial_call=True,
    )
    def go(
        clicked: dict[str, Any], mode: str, x: str, y: str,
        path: list[list[float]], now: list[float],
    ) -> Any:  # fmt: skip
        place = float(clicked["x"]), float(clicked["y"])
        if clicked.get("by_key"):
            # in a UMAP a step of a standard deviation has no direction
            shown = data.place_of(np.array(now), (x, y))
            place = shown[0] + place[0], shown[1] + place[1]
        point = [round(float(value), 2) for value in data.point_at((x, y), place, np.array(now))]
        adds = mode == "path" and not clicked.get("by_key")
        return point, [*path, point] if adds else no_update

    @app.callback(
        Output(SLIDERS, "value", allow_duplicate=True),
        Input("centre", "n_clicks"),
        prevent_initial_call=True,
    )
    def back(_: int) -> list[float]:
        return [0.0] * data.rank

    @app.callback(
        Output("latents", "figure", allow_duplicate=True),
        Input(SLIDERS, "value"),
        Input("path", "data"),
        State("x-axis", "value"),
        State("y-axis", "value"),
        State("appearance", "data"),
        prevent_initial_call=True,
    )
    def follow(point: list[float], path: list[list[float]], x: str, y: str, appearance: str) -> Any:
        look = Look((x, y), dark=appearance == "dark")
        moved = Patch()
        for name, drawn in figures.marks(data, look, np.array(point), path).items():
            moved["layout"][name] = drawn
        return moved


def _path(app: dash.Dash, data: ViewerData) -> None:
    @app.callback(
        Output("path", "data", allow_duplicate=True),
        Input("path-undo", "n_clicks"),
        Input("path-clear", "n_clicks"),
        State("path", "data"),
        prevent_initial_call=True,
    )
    def shorten(_: int, __: int, path: list[list[float]]) -> list[list[float]]:
        return path[:-1] if ctx.triggered_id == "path-undo" else []

    @app.callback(
        Output("play", "disabled"), Output("path-words", "children"), Input("path", "data")
    )
    def describe(path: list[list[float]]) -> tuple[bool, str]:
        if len(path) < 2:
            return True, "Choose “Path” and click two or more places."
        length = float(np.linalg.norm(np.diff(np.array(path), axis=0), axis=1).sum())
        return False, f"{len(path)} places, {length:.1f} σ long"

    known = {path.name: path for path in (data.run.folder / "analysis").glob("trajectory_*.csv")}
    if not known:
        return

    @app.callback(
        Output("path", "data", allow_duplicate=True),
        Input("path-known", "value"),
        prevent_initial_call=True,
    )
    def take(name: str | None) -> Any:
        if name not in known:
            return no_update
        tell("The path of the analysis is in the plane: play it, or reconstruct along it.")
        return (from_file(data.run, known[name]).z / data.spread).round(4).tolist()
