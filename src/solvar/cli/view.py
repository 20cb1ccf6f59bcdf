"""`solvar view`: a run in the browser."""

from __future__ import annotations

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

    serve(run, port, lambda server: _announce(server, browser))


def _announce(server: ViewerServer, browser: bool) -> None:
    from solvar.cli.console import output

    lines = [
        f"[bold]{server.viewer.data.run.folder}[/bold] is open at",
        "",
        f"  [cyan]{server.address}[/cyan]",
        "",
        "From another machine, first run there",
        "",
        f"  {server.tunnel}",
        "",
        "and open the same address. Ctrl-C ends the viewer.",
    ]
    output().print("\n".join(lines), soft_wrap=True)
    if browser:
        import webbrowser

        webbrowser.open(server.address)
