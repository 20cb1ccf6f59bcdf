"""Callbacks of the molecule and of reconstructions; the work is done in `viewing` and `jobs`."""

from __future__ import annotations

import base64
from typing import Any

import dash
import numpy as np
from dash import ALL, ClientsideFunction, Input, Output, State, ctx, no_update

from solvar.viewer import figures, jobs, saving, viewing
from solvar.viewer.callbacks_latents import SLIDERS
from solvar.viewer.data import ViewerData
from solvar.viewer.jobs import JobQueue
from solvar.viewer.layout import FRAMES, LIVE, MOST_ALONG, job_lines, volume_options
from solvar.viewer.messages import tell
from solvar.viewer.saving import SavedFile
from solvar.viewer.viewing import Contour


def register(app: dash.Dash, data: ViewerData, queue: JobQueue) -> None:
    """Connect the molecule, the player and the reconstructions."""
    _molecule(app, data)
    _player(app, data)
    _saving(app, data)
    _orders(app, data, queue)
    _arrivals(app, data, queue)


def contour(level: float, looks: list[str], outer: float) -> Contour:
    """From the controls of the page."""
    second = float(outer) if "outer" in looks else None
    return Contour(float(level), second, "masked" in looks, "changes" in looks)


def _molecule(app: dash.Dash, data: ViewerData) -> None:
    @app.callback(
        Output("molecule", "figure"),
        Output("molecule-words", "children"),
        Output("outer-row", "hidden"),
        Input(SLIDERS, "value"),
        Input("level", "value"),
        Input("looks", "value"),
        Input("outer", "value"),
        Input("shown", "value"),
        Input("appearance", "data"),
        Input("painted", "data"),
    )
    def draw(
        point: list[float], level: float, looks: list[str], outer: float, shown: str, theme: str,
        painted: bool | None,
    ) -> Any:  # fmt: skip
        if not painted:
            # the plane comes first: a browser takes a second to begin with surfaces
            return no_update, no_update, no_update
        cut = contour(level, looks, outer)
        moved = isinstance(ctx.triggered_id, dict)
        if shown == LIVE or moved:
            drawn, words = viewing.model_at(data, point, cut), "Mean and eigenvolumes at the point"
        else:
            drawn, words = viewing.reconstruction(data, shown, cut), f"Reconstruction {shown}"
        if not len(drawn[0].faces):
            words = "Nothing is above this contour: lower it."
        figure = figures.molecule(drawn, data.model.radius, theme == "dark")
        return figure, words, "outer" not in looks

    @app.callback(Output("level", "value"), Output("level", "max"), Input("page", "id"))
    def begin(_: str) -> tuple[float, float]:
        level = data.model.level
        return round(level, 1), round(max(10.0, 2.2 * level))

    @app.callback(Output("shown", "value"), Input(SLIDERS, "value"), prevent_initial_call=True)
    def come_back(_: list[float]) -> str:
        return LIVE


def _player(app: dash.Dash, data: ViewerData) -> None:
    # only what is asked goes to the server: the frames themselves are megabytes
    app.clientside_callback(
        ClientsideFunction("solvar", "press"),
        Output("play", "children"),
        Output("wanted", "data"),
        Input("play", "n_clicks"),
        State("frames", "data"),
        State("path", "data"),
        State("level", "value"),
        State("looks", "value"),
        State("outer", "value"),
        State("x-axis", "value"),
        State("y-axis", "value"),
        prevent_initial_call=True,
    )

    @app.callback(Output("frames", "data"), Input("wanted", "data"), prevent_initial_call=True)
    def prepare(wanted: dict[str, Any]) -> dict[str, Any]:
        path, level, looks, outer = wanted["asked"]
        made = viewing.frames(data, path, FRAMES, contour(level, looks, outer))
        return {**made, "asked": wanted["asked"]}

    app.clientside_callback(
        ClientsideFunction("solvar", "play"),
        Output("play", "children", allow_duplicate=True),
        Input("frames", "data"),
        State("x-axis", "value"),
        State("y-axis", "value"),
        prevent_initial_call=True,
    )


def _saving(app: dash.Dash, data: ViewerData) -> None:
    @app.callback(Output("save-movie", "disabled"), Input("path", "data"))
    def enable(path: list[list[float]]) -> bool:
        return len(path) < 2

    @app.callback(
        Output("saved-file", "data"),
        Input("save-map", "n_clicks"),
        Input("save-movie", "n_clicks"),
        State(SLIDERS, "value"),
        State("shown", "value"),
        State("path", "data"),
        prevent_initial_call=True,
    )
    def save(
        _: int, __: int, point: list[float], shown: str, path: list[list[float]]
    ) -> dict[str, Any]:
        if ctx.triggered_id == "save-movie":
            return download(saving.movie(data, path))
        return download(
            saving.model_map(data, point) if shown == LIVE else saving.map_of(data, shown)
        )


def download(file: SavedFile) -> dict[str, Any]:
    """A file as the browser takes it."""
    content = base64.b64encode(file.content).decode("ascii")
    return {"content": content, "filename": file.name, "base64": True}


def _orders(app: dash.Dash, data: ViewerData, queue: JobQueue) -> None:
    @app.callback(
        Output("tick", "disabled"),
        Input("here", "n_clicks"),
        Input("along", "n_clicks"),
        State(SLIDERS, "value"),
        State("path", "data"),
        State("along-count", "value"),
        prevent_initial_call=True,
    )
    def order(
        _: int, __: int, point: list[float], path: list[list[float]], count: int | None
    ) -> bool:
        if ctx.triggered_id == "here":
            name = queue.submit("point", np.array([point]) * data.spread)
        else:
            points = viewing.along(path, min(max(int(count or 0), 2), MOST_ALONG))
            name = queue.submit("path", points * data.spread)
        tell(f"{name} is queued.")
        return False

    @app.callback(Input({"type": "stop", "name": ALL}, "n_clicks"), prevent_initial_call=True)
    def stop(clicks: list[int | None]) -> None:
        # a button that appears counts as an input, too
        if any(clicks):
            queue.stop(ctx.triggered_id["name"])


def _arrivals(app: dash.Dash, data: ViewerData, queue: JobQueue) -> None:
    told: set[str] = set()

    @app.callback(
        Output("jobs", "children"),
        Output("shown", "options"),
        Output("tick", "disabled", allow_duplicate=True),
        Input("tick", "n_intervals"),
        Input("here", "n_clicks"),
        Input("along", "n_clicks"),
        prevent_initial_call="initial_duplicate",
    )
    def look(*_: int) -> Any:
        idle = not queue.busy  # asked first: what ends afterwards is seen by the next look
        options = volume_options(jobs.arrived(data.run))
        for job in queue.jobs:
            if job.state == "done" and job.name not in told:
                told.add(job.name)
                tell(f"{job.name} is there: choose it in the list of reconstructions.")
        asked_now = ctx.triggered_id in ("here", "along")
        return job_lines(queue.jobs), options, idle and not asked_now

    @app.callback(
        Output("fsc", "figure"),
        Output("fsc", "style"),
        Input("shown", "value"),
        Input("appearance", "data"),
    )
    def resolve(shown: str, theme: str) -> Any:
        found = None if shown == LIVE else jobs.find(data.run, shown)
        hidden = {"display": "none"} if found is None or found.fsc is None else {}
        return figures.half_map_fsc(found, theme == "dark"), hidden
