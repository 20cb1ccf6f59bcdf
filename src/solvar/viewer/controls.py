"""Controls that the page is made of, each with a name for those who listen instead of look."""

from __future__ import annotations

from typing import Any

from dash import dcc, html


def card(
    title: str, content: list[Any], name: str, hint: str = "", tools: Any = None
) -> html.Section:
    """A part of the page with its title, and beside it a hint and tools."""
    head = html.Div(
        [
            html.H2(title, id=f"{name}-title"),
            html.Span(hint, id=f"{name}-hint", className="hint", title=hint),
            tools,
        ],
        className="head",
    )
    return html.Section(
        [head, *content], id=name, className="card", **aria(labelledby=f"{name}-title")
    )


def aria(**words: str) -> dict[str, Any]:
    """Attributes for those who listen."""
    return {f"aria-{name}": text for name, text in words.items()}


def choice(
    name: str, title: str, options: list[Any], value: Any, placeholder: str = ""
) -> html.Div:
    """A list to choose one of."""
    chooser = dcc.Dropdown(
        id=name, options=options, value=value, placeholder=placeholder or title,
        clearable=name not in ("x-axis", "y-axis"), searchable=len(options) > 8,
        maxHeight=340,
    )  # fmt: skip
    return labelled(title, chooser, "choice")


def number(name: str, title: str, low: int, high: int, value: int) -> html.Div:
    """A field for a whole number."""
    return labelled(
        title, dcc.Input(id=name, type="number", min=low, max=high, step=1, value=value), "number"
    )


def labelled(title: str, control: Any, kind: str) -> html.Div:
    """A control with its name, which in a narrow row only a screen reader tells.

    No <label>: a click in one is passed on to the control, and a list would open and close again.
    """
    named = aria(label=title)
    return html.Div(
        [html.Span(title, className="name"), control], className=kind, role="group", **named
    )


def segments(name: str, title: str, options: dict[str, str], value: str) -> html.Div:
    """A few choices side by side."""
    items = [{"label": label, "value": key} for key, label in options.items()]
    return html.Div(
        dcc.RadioItems(id=name, options=items, value=value, inline=True, className="segments"),
        role="group",
        **aria(label=title),
    )


def slider(name: Any, title: str, low: float, high: float, step: float, value: float) -> html.Div:
    """A slider whose value can be typed, too."""
    slider = dcc.Slider(
        id=name, min=low, max=high, step=step, value=value, marks=None, updatemode="drag",
        allow_direct_input=True,
    )  # fmt: skip
    return labelled(title, slider, "slider")
