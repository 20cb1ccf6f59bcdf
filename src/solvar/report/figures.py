"""All figures of a run, in the order in which a reader wants them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from solvar.errors import InputError
from solvar.files import OwnedFolder, Writer
from solvar.progress import Progress, harmless
from solvar.report.change import draw_change
from solvar.report.consensus import draw_consensus
from solvar.report.curves import draw_eigenvalues, draw_resolution
from solvar.report.particles import draw_contrast, draw_latents
from solvar.report.poses import draw_poses
from solvar.report.volumes import draw_motion, draw_slices
from solvar.results.run import Run
from solvar.results.writer import FIGURES
from solvar.text import with_capital

_FIGURES: dict[str, Callable[[Run, Path], bool | None]] = {
    "1_eigenvalues.png": draw_eigenvalues,
    "2_motion.png": draw_motion,
    "3_slices.png": draw_slices,
    "4_latents.png": draw_latents,
    "5_resolution.png": draw_resolution,
    "6_contrast.png": draw_contrast,
    "7_poses.png": draw_poses,
    "8_consensus.png": draw_consensus,
    "9_change.png": draw_change,
}


def draw_figures(run: Run, own: OwnedFolder, progress: Progress | None = None) -> list[Path]:
    """Draw every figure of `run` to its folder ``figures/``.

    A figure that cannot be drawn is told through `progress`: the numbers of the run are safe on
    disk by then, and no picture is worth repeating hours.

    Parameters
    ----------
    run : Run
    own : OwnedFolder
        The right to write in its folder.
    progress : Progress, optional

    Returns
    -------
    paths : list of Path
        The PNG files in the order of the story; those that need half-sets or
        refined poses only if there are any.
    """
    figures = {f"figures/{name}": partial(draw, run) for name, draw in _FIGURES.items()}
    return draw_each(FIGURES, figures, own, progress, "figure")


def draw_each(
    writer: Writer,
    pictures: Mapping[str, Callable[[Path], bool | None]],
    own: OwnedFolder,
    progress: Progress | None,
    kind: str,
) -> list[Path]:
    """Draw pictures to a run folder, those that can be drawn; of the others `progress` is told why.

    Parameters
    ----------
    writer : Writer
        Whose files they are.
    pictures : mapping of str to callable
        By their names in the folder: what draws one to a path, and returns False if there is none to draw.
    own : OwnedFolder
        The right to write in the folder.
    progress : Progress, optional
    kind : str
        What they are, in a word.

    Returns
    -------
    paths : list of Path
        Those that were drawn.
    """
    drawn, progress = list[Path](), harmless(progress)
    try:
        paths = own.claim(writer, list(pictures))
    except (InputError, OSError) as error:
        progress.message(f"No {kind} was drawn: {error}")
        return []
    with progress.step(f"{with_capital(kind)}s", len(pictures), f"{kind}s") as step:
        for path, draw in zip(paths, pictures.values(), strict=True):
            try:
                if draw(path) is not False:
                    drawn.append(path)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                progress.message(
                    f"{path.name} was not drawn ({reason}); all numbers are in {own.root}"
                )
            step.advance()
    return drawn
