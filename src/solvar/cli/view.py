"""`solvar view`: a run in the browser."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from solvar.cli.arguments import RunFolder
from solvar.cli.options import command
from solvar.errors import InputError
from solvar.extras import install_command

if TYPE_CHECKING:
    from rich.console import Console

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
            remedy=f"install them with `{install_command('view')}`",
        ) from error

    serve(run, port, lambda server: _announce(server, browser))


def _announce(server: ViewerServer, browser: bool) -> None:
    from solvar.cli.console import output, print_commands, shown

    _end_in_order()
    console = output()
    console.print(
        f"[bold]{shown(server.viewer.data.run.folder)}[/bold] is open at\n\n"
        f"  [cyan]{shown(server.address)}[/cyan]\n\nFrom another machine, first run there\n",
        soft_wrap=True,
    )
    print_commands(console, [(server.tunnel, server.tunnel_words)])
    console.print("\nand open the same address. Ctrl-C ends the viewer.", soft_wrap=True)
    if browser:
        _open_browser(console, server)


def _open_browser(console: Console, server: ViewerServer) -> None:
    """Open the page that leads to the address: every user can read a browser's command line."""
    import webbrowser

    try:
        page = server.redirect()
    except OSError as error:
        console.print(f"No browser is opened ({error.strerror}): open the address yourself.")
        return
    console.print(
        "If the browser shows nothing, open the address yourself: "
        "one from a snap or flatpak may not read the page that leads there.",
        soft_wrap=True,
    )
    # a browser in the terminal stays until it is closed, and asks for the page meanwhile
    threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()


def _end_in_order() -> None:
    """Take `kill` and a lost terminal for Ctrl-C, so that nothing of the viewer stays behind."""
    for number in (signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, signal.default_int_handler)
