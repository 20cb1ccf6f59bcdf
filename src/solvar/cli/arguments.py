"""Arguments that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ParticlesFile = Annotated[
    Path,
    typer.Argument(
        metavar="PARTICLES",
        help="RELION .star, cryoSPARC .cs, or cryoDRGN stack (.mrcs, .txt with --poses and --ctf).",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", help="A finished run folder.", show_default=False)
]
NewRun = Annotated[
    Path, typer.Option("--output", "-o", help="Run folder to create.", show_default=False)
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with an interrupted run in the folder.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of tables.")]
