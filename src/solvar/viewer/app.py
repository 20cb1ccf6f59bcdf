"""The application: a page over a run, guarded, with everything served from this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dash

from solvar.viewer import callbacks_latents, callbacks_selection, callbacks_volume, figures
from solvar.viewer.data import ViewerData
from solvar.viewer.jobs import JobQueue
from solvar.viewer.layout import page
from solvar.viewer.messages import explain
from solvar.viewer.security import HOST, Guard
from solvar.viewer.selections import Selector


@dataclass(frozen=True, eq=False)
class Viewer:
    """A page and what is behind it.

    Attributes
    ----------
    app : dash.Dash
    data : ViewerData
    queue : JobQueue
    guard : Guard
    """

    app: dash.Dash
    data: ViewerData
    queue: JobQueue
    guard: Guard

    def close(self) -> None:
        """Stop reconstructions that wait or run."""
        self.queue.close()


def make_viewer(run: str | Path) -> Viewer:
    """Put a page over a run; nothing listens yet.

    Raises
    ------
    InputError
        If the run cannot be read.
    """
    data = ViewerData(run)
    guard = Guard()
    app = dash.Dash(
        "solvar.viewer",
        # nothing of the run: Dash replaces words such as {%scripts%} in it and escapes nothing
        title="solvar",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        serve_locally=True,
        add_log_handler=False,
        on_error=explain,
        show_undo_redo=False,
        suppress_callback_exceptions=True,
    )
    guard.protect(app.server)
    queue = JobQueue(data.run.folder)
    app.layout = page(data)
    chosen = Selector(data)
    callbacks_latents.register(app, data, chosen)
    callbacks_selection.register(app, data, chosen)
    callbacks_volume.register(app, data, queue)
    viewer = Viewer(app, data, queue, guard)
    _begin(viewer)
    return viewer


def _begin(viewer: Viewer) -> None:
    """Ask for the page once, before anybody listens.

    Dash finds its style and scripts during the first request, and a second one at the same time, such as
    for the icon, would be answered without them.
    """
    client = viewer.app.server.test_client()
    client.set_cookie(viewer.guard.cookie_name, viewer.guard.begin().cookie, domain=HOST)
    client.get("/", base_url=f"http://{HOST}")
    for dark in (False, True):
        figures.template(dark)  # while nobody waits for it
