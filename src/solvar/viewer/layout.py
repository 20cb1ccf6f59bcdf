"""The page: its cards and controls, each with a name for those who listen instead of look."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from solvar.text import visible
from solvar.viewer.controls import aria, card, choice, labelled, number, segments, slider
from solvar.viewer.data import ViewerData
from solvar.viewer.meshes import BOX_SIZE
from solvar.viewer.selections import TARGETS

MODES = {"look": "Look", "lasso": "Lasso", "box": "Box", "path": "Path"}
LIVE = "live"
FRAMES = 24
MOST_ALONG = 50
_MOST_LEVEL = 15.0
_KEYS = (
    "Click anywhere to see the molecule there. Drag to move, wheel to zoom. With the plane in focus, "
    "arrow keys move the point."
)
# What the plane does in each mode, short enough to stand beside the modes.
HINTS = {
    "look": "Click to see the molecule there",
    "lasso": "Draw around particles",
    "box": "Drag a box over particles",
    "path": "Click the places of a path",
}
_TARGET_WORDS = {"relion": "Export .star", "cryosparc": "Export .cs"}


def page(data: ViewerData) -> html.Div:
    """Everything that is on the page when it opens."""
    return html.Div(
        [
            _header(data),
            html.Main(
                [
                    html.Div([_latents(data), _volume(data)], className="stage"),
                    html.Div([_components(data), _selection(data), _jobs()], className="shelf"),
                ]
            ),
            *(
                dcc.Store(id=name)
                for name in ("clicked", "drawn", "asked", "window", "wanted", "frames", "painted")
            ),
            dcc.Store(id="path", data=[]),
            dcc.Store(id="saved-count", data=0),
            dcc.Store(id="appearance"),
            dcc.Interval(id="tick", interval=600, disabled=False),
        ],
        id="page",
    )


def _header(data: ViewerData) -> html.Header:
    run = data.run.folder.resolve()
    return html.Header(
        [
            html.Span("solvar", className="brand"),
            html.Span(visible(run.name), id="run", className="run", title=visible(str(run))),
            html.Span(
                f"{len(data):,} particles · {data.rank} components · "
                f"box {data.run.record['result']['box_size']} · "
                f"{data.run.pixel_size_angstrom:.3g} Å/voxel",
                className="facts",
            ),
            html.Div(id="message", role="status", **aria(live="polite")),
            html.Button("Dark", id="appearance-button", className="quiet", title="Light or dark"),
        ]
    )


def _latents(data: ViewerData) -> html.Section:
    axes = [{"label": title, "value": key} for key, title in data.axes.items()]
    keys = list(data.axes)
    second = keys[1] if len(keys) > 1 else keys[0]
    colours = [{"label": title, "value": key} for key, title in data.colourings.items()]
    first_colour = "cluster" if "cluster" in data.colourings else None
    graph = dcc.Graph(
        id="latents",
        config={
            "displayModeBar": False, "scrollZoom": True, "doubleClick": "reset",
            "responsive": True, "displaylogo": False,
        },
        responsive=True,
    )  # fmt: skip
    return card(
        "Latent space",
        [
            html.Div(
                [
                    choice("x-axis", "Horizontal", axes, keys[0]),
                    choice("y-axis", "Vertical", axes, second),
                    choice("colour", "Colour", colours, first_colour, placeholder="Density"),
                ],
                className="tools",
            ),
            html.Div(
                graph, id="plane", className="figure", tabIndex="0", role="application",
                **aria(label=f"Latent space. {_KEYS}"),
            ),
            _path(data),
        ],
        "latents-card",
        hint=HINTS["look"],
        tools=segments("mode", "What a drag or a click does", MODES, "look"),
    )  # fmt: skip


def _path(data: ViewerData) -> html.Div:
    found = sorted((data.run.folder / "analysis").glob("trajectory_*.csv"))
    known = [{"label": p.stem.removeprefix("trajectory_"), "value": p.name} for p in found]
    parts: list[Any] = [
        html.Span("Path", className="name"),
        html.Button("▶ Play", id="play", className="main", disabled=True),
        html.Button("Undo", id="path-undo", className="quiet"),
        html.Button("Clear", id="path-clear", className="quiet"),
        html.Span("Choose “Path” and click two or more places.", id="path-words", className="hint"),
    ]
    if known:
        parts.insert(
            -1, choice("path-known", "Path of solvar analyze", known, None, "From the analysis")
        )
    return html.Div(parts, className="row path")


def _volume(data: ViewerData) -> html.Section:
    graph = dcc.Graph(
        id="molecule",
        config={"displayModeBar": False, "scrollZoom": True, "responsive": True},
        responsive=True,
    )
    looks = {"outer": "second contour", "masked": "inside the mask"}
    if data.run.record["result"].get("change"):
        looks["changes"] = "colour what changes"
    note = ""
    if int(data.run.record["result"]["box_size"]) > BOX_SIZE:
        note = f"drawn at box {BOX_SIZE}"
    return card(
        "Molecule",
        [
            html.Div(
                [
                    slider("level", "Contour (σ)", 0.5, _MOST_LEVEL, 0.1, 5.0),
                    dcc.Checklist(
                        id="looks",
                        options=[{"label": label, "value": key} for key, label in looks.items()],
                        value=[key for key in looks if key != "outer"],
                        className="checks",
                    ),
                ],
                className="tools",
            ),
            html.Div(graph, className="figure", **aria(label="Molecule, drag to turn")),
            html.Div(
                [
                    html.Span(id="molecule-words", className="hint"),
                    html.Button("Save map", id="save-map", className="quiet"),
                    html.Button(
                        "Save movie",
                        id="save-movie",
                        className="quiet",
                        disabled=True,
                        title="Of the path, as GIF",
                    ),
                    dcc.Download(id="saved-file"),
                    html.Div(
                        slider("outer", "Second contour, share of the first", 0.2, 0.95, 0.05, 0.5),
                        id="outer-row",
                        className="row grow",
                    ),
                ],
                className="row path",
            ),
        ],
        "molecule-card",
        hint=note,
    )


def _components(data: ViewerData) -> html.Section:
    reach = data.reach
    sliders = [
        html.Div(
            slider({"type": "component", "index": j}, title, -reach, reach, 0.05, 0.0),
            className="component" + (" noise" if "noise" in title else ""),
        )
        for j, title in enumerate(data.axes[f"z{k + 1}"] for k in range(data.rank))
    ]
    return card(
        "Components",
        [
            html.Div(sliders, className="sliders"),
            html.Div(
                [
                    html.Button("Back to the mean", id="centre", className="quiet"),
                    html.Span("in standard deviations", className="hint"),
                ],
                className="row",
            ),
        ],
        "components-card",
    )


def _selection(data: ViewerData) -> html.Section:
    exports = [
        html.Button(_TARGET_WORDS[to], id={"type": "export", "to": to}, className="quiet")
        for to in TARGETS
    ]
    clusters = []
    if "cluster" in data.colourings:
        labels = data.column("cluster").labels or ()
        options = [{"label": f"Cluster {label}", "value": label} for label in labels]
        clusters = [choice("by-cluster", "Select a cluster", options, None, "A cluster")]
    return card(
        "Selection",
        [
            html.Div("Nothing is selected", id="selected", className="big"),
            html.Div(
                [
                    html.Div(
                        [
                            html.Button("Nearest to the point", id="by-distance", className="quiet"),
                            number(
                                "many", "How many particles nearest to the point", 1, len(data),
                                min(1000, max(1, len(data) // 10)),
                            ),
                        ],
                        className="pair",
                    ),
                    *clusters,
                ],
                className="row",
            ),
            html.Div(
                [
                    html.Button("Invert", id="invert", className="quiet"),
                    html.Button("Clear", id="unselect", className="quiet"),
                ],
                className="row",
            ),
            html.Div(
                [
                    labelled(
                        "Name of the selection",
                        dcc.Input(
                            id="name", type="text", placeholder="name of the selection", maxLength=64
                        ),
                        "grow",
                    ),
                    html.Button("Save", id="save", className="main"),
                ],
                className="row",
            ),
            html.Div(
                [
                    choice("saved", "Saved selections", [], None, "Saved selections"),
                    html.Div(exports, className="pair"),
                ],
                className="row",
            ),
        ],
        "selection-card",
    )  # fmt: skip


def _jobs() -> html.Section:
    return card(
        "Reconstructions",
        [
            html.Div(
                [
                    html.Button("Reconstruct at the point", id="here", className="main"),
                    html.Div(
                        [
                            html.Button("Along the path", id="along", className="quiet"),
                            number("along-count", "Volumes along the path", 2, MOST_ALONG, 8),
                        ],
                        className="pair",
                    ),
                ],
                className="row",
            ),
            html.Div(id="jobs", role="status", **aria(live="polite")),
            html.Div(
                [
                    dcc.RadioItems(
                        id="shown", options=[_live()], value=LIVE, className="volumes",
                        persistence=False,
                    ),
                    dcc.Graph(
                        id="fsc", config={"displayModeBar": False, "responsive": True},
                        responsive=True, className="fsc",
                    ),
                ],
                className="arrived",
            ),
        ],
        "jobs-card",
        hint="from the images of particles nearby",
    )  # fmt: skip


def _live() -> dict[str, Any]:
    return {"label": "Model at the point", "value": LIVE}


def volume_options(arrived: list[Any]) -> list[dict[str, Any]]:
    """The list of volumes: the live model first, then each reconstruction with its resolution."""
    options = [_live()]
    for volume in arrived:
        found = volume.resolution_angstrom
        folder, name = volume.key.split("/")
        # volumes of two calls may have the same name
        words = name if name.startswith(folder) else volume.key
        about = [f"{found:.1f} Å"] if found else []
        about += [f"{volume.particles:,} particles"] if volume.particles else []
        label = html.Span([words, html.Small(" · ".join(about))])
        options.append({"label": label, "value": volume.key})
    return options


def job_lines(jobs: list[Any]) -> list[Any]:
    """A line a job that is not done: name, step, bar, and a way to stop it."""
    lines = []
    for job in jobs:
        if job.state in ("done", "stopped"):
            continue
        bar = aria(label=job.name)
        if job.share is not None:
            bar["value"] = str(round(job.share, 3))
        parts: list[Any] = [
            html.Span(f"{job.name} · {job.count} volume{'s' if job.count > 1 else ''}"),
            html.Span(job.step or job.state, className="hint"),
        ]
        if not job.is_over:
            stop = {"type": "stop", "name": job.name}
            parts += [
                html.Progress(max="1", **bar),
                html.Button("Stop", id=stop, className="quiet"),
            ]
        lines.append(html.Div(parts, className=f"job {job.state}"))
    return lines
