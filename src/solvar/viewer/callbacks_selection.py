"""Callbacks of selections: what is chosen, kept and exported."""

from __future__ import annotations

from typing import Any

import dash
from dash import ALL, Input, Output, State, ctx, no_update

from solvar.viewer import selections
from solvar.viewer.callbacks_latents import SLIDERS
from solvar.viewer.data import ViewerData
from solvar.viewer.messages import tell
from solvar.viewer.selections import Selector


def register(app: dash.Dash, data: ViewerData, chosen: Selector) -> None:
    """Connect the card of selections."""
    _asked(app, data)
    _told(app, data, chosen)
    _kept(app, data, chosen)


def _asked(app: dash.Dash, data: ViewerData) -> None:
    """Every way to select ends in one description of what was asked."""

    @app.callback(
        Output("asked", "data"),
        Input("drawn", "data"),
        Input("by-distance", "n_clicks"),
        Input("invert", "n_clicks"),
        Input("unselect", "n_clicks"),
        Input("saved", "value"),
        State("asked", "data"),
        State("many", "value"),
        State("x-axis", "value"),
        State("y-axis", "value"),
        State(SLIDERS, "value"),
        prevent_initial_call=True,
    )
    def ask(
        drawn: Any, _: int, __: int, ___: int, name: str | None, asked: Any, many: int | None,
        x: str, y: str, point: list[float],
    ) -> Any:  # fmt: skip
        match ctx.triggered_id:
            case "drawn":
                return {**drawn, "axes": [x, y]} if drawn else no_update
            case "by-distance":
                return {"kind": "near", "point": point, "many": max(1, int(many or 1))}
            case "invert":
                return {**asked, "inverted": not asked.get("inverted")} if asked else no_update
            case "saved":
                return {"kind": "saved", "name": name} if name else no_update
        return None

    if "cluster" not in data.colourings:
        return

    @app.callback(
        Output("asked", "data", allow_duplicate=True),
        Input("by-cluster", "value"),
        prevent_initial_call=True,
    )
    def ask_cluster(label: str | None) -> Any:
        return {"kind": "cluster", "label": label} if label else no_update


def _told(app: dash.Dash, data: ViewerData, chosen: Selector) -> None:
    @app.callback(Output("selected", "children"), Input("asked", "data"))
    def count(asked: Any) -> str:
        many = len(chosen(asked))
        if not asked:
            return "Nothing is selected"
        return f"{many:,} particles · {100 * many / len(data):.1f} %"


def _kept(app: dash.Dash, data: ViewerData, chosen: Selector) -> None:
    @app.callback(
        Output("saved-count", "data"),
        Input("save", "n_clicks"),
        Input("name", "n_submit"),
        State("name", "value"),
        State("asked", "data"),
        State("saved-count", "data"),
        prevent_initial_call=True,
    )
    def keep(_: int, __: int, name: str, asked: Any, before: int) -> int:
        path = selections.save(data, name, chosen(asked))
        tell(f"Saved {path.resolve()}: rows for --ind.")
        return before + 1

    @app.callback(Output("saved", "options"), Input("saved-count", "data"))
    def list_saved(_: int) -> list[dict[str, str]]:
        return [
            {"label": f"{one.name} ({one.count:,})", "value": one.name}
            for one in selections.saved(data)
        ]

    @app.callback(
        Input({"type": "export", "to": ALL}, "n_clicks"),
        State("saved", "value"),
        State("name", "value"),
        prevent_initial_call=True,
    )
    def send(_: list[int], shown: str | None, typed: str | None) -> None:
        name = shown or typed or ""
        sent = selections.send(data, name, ctx.triggered_id["to"])
        poses = "refined poses" if sent.refined_poses else "the poses of the input"
        told = f"{sent.particles:,} particles with {poses}"
        tell(f"Exported {selections.check_name(name)}, {told}, to {sent.files[0].resolve()}.")
