"""`solvar view`: a run in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from solvar.cli.arguments import RunFolder
from solvar.cli.options import command
from solvar.errors import InputError
from solvar.extras import install_command

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
            remedy=f"install them with `{install_command('view')}`",
        ) from error

    serve(run, port, lambda server: _announce(server, browser))


def _announce(server: ViewerServer, browser: bool) -> None:
    from solvar.cli.console import output, print_commands, shown

    console = output()
    console.print(
        f"[bold]{shown(server.viewer.data.run.folder)}[/bold] is open at\n\n"
        f"  [cyan]{shown(server.address)}[/cyan]\n\nFrom another machine, first run there\n",
        soft_wrap=True,
    )
    print_commands(console, [(server.tunnel, "leave it running")])
    console.print("\nand open the same address. Ctrl-C ends the viewer.", soft_wrap=True)
    if browser:
        import webbrowser

        webbrowser.open(server.address)
