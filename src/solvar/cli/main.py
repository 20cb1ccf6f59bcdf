"""The `solvar` program: its commands, each imported when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from solvar._version import __version__
from solvar.cli.environment import refuse_nonsense, settle
from solvar.cli.options import failures_explained
from solvar.cli.streams import make_output_harmless

# First line of each command's help; the modules are imported only for the command that is called.
COMMANDS = {
    "demo": "Simulate a small stack with a known motion, run everything on it, compare.",
    "check": "Look for trouble in a particle file before anything long.",
    "run": "Find how the molecule varies: mean, eigenvolumes, latents, report.",
    "abinitio": "Find poses from images alone, and how the molecule varies.",
    "analyze": "Find clusters, densities, paths and outliers among the particles of a run.",
    "view": "Explore a run in the browser: latents, the molecule at any point, selections.",
    "volume": "Volumes at points, of sets of particles or along a component, with half-maps and resolution.",
    "export": "Write a run, or a part of its particles, for another program.",
    "evaluate": "Compare a run with the known truth of a simulated data set.",
    "verify": "Make sure that a run folder is whole, of one run, and that its inputs are unchanged.",
    "mask": "Make a soft mask from a map, or from what two half-maps agree on.",
    "expand": "Write every particle at all the poses that a symmetry makes alike (symmetry expansion).",
    "simulate": "Make a particle stack with known truth.",
    "doctor": "Tell what this installation and this machine can do.",
}


class _Commands(TyperGroup):
    """A group whose help does not import its commands."""

    _for_help = False

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if self._for_help:
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name])
        # before libraries are imported that the environment could crash, and whatever their import raises
        with failures_explained("--debug" in sys.argv):
            refuse_nonsense()
            module = importlib.import_module(f"solvar.cli.{cmd_name}")
        loaded = typer.main.get_command(module.app)
        loaded.name = cmd_name
        return loaded

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._for_help = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._for_help = False


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"solvar {__version__}")
        raise typer.Exit()


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """From a cryo-EM particle stack to the ways a molecule moves."""


def main() -> None:
    """Entry point of the program."""
    make_output_harmless()
    settle()
    app()
