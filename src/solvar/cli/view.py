"""`solvar view`: a run in the browser."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from solvar.cli.arguments import RunFolder
from solvar.cli.options import command
from solvar.errors import InputError

if TYPE_CHECKING:
    from solvar.viewer import ViewerServer

app = typer.Typer(add_completion=False)


@app.command()
@command
def view(
    run: RunFolder,
    port: Annotated[
        int, typer.Option("--port", help="Port on 127.0.0.1; 0: any that is free.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the address in a browser.")
    ] = False,
) -> None:
    """Explore a run in the browser: latents, the molecule at any point, selections.

    The page is served on this machine alone, and only to who has the address that is printed.
    """
    try:
        from solvar.viewer import serve
    except ImportError as error:
        raise InputError(
            f"the viewer needs packages that are not installed ({error.name})",
            remedy="install them with `pip install 'solvar[view]'`",
        ) from error

    _end_in_order()
    serve(run, port, lambda server: _announce(server, browser))


def _end_in_order() -> None:
    """Take `kill` and a lost terminal for Ctrl-C, so that nothing of the viewer stays behind."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)


def _announce(server: ViewerServer, browser: bool) -> None:
    from rich.text import Text

    from solvar.cli.console import output

    # as Text, in which no name of a folder is markup
    lines = [
        Text.assemble((str(server.viewer.data.run.folder), "bold"), " is open at"),
        Text(),
        Text(f"  {server.address}", "cyan"),
        Text(),
        Text("From another machine, first run there"),
        Text(),
        Text(f"  {server.tunnel}"),
        Text(),
        Text("and open the same address. Ctrl-C ends the viewer."),
    ]
    output().print(Text("\n").join(lines), soft_wrap=True)
    if browser:
        # a browser in the terminal stays until it is closed, and asks for the page meanwhile
        threading.Thread(target=_open_browser, args=(server,), daemon=True).start()


def _open_browser(server: ViewerServer) -> None:
    """Open the page that leads to the address: every user can read the command line of a browser."""
    import webbrowser

    try:
        opened = webbrowser.open(server.redirect())
    except OSError:
        opened = False
    if not opened:
        print("No browser could be opened: open the address above yourself.", flush=True)
