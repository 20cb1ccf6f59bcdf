"""What a run found, in words: for the terminal, the report and notebooks alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvar.commands import command_line
from solvar.extras import install_command, missing

if TYPE_CHECKING:
    from solvar.results.run import Run


def headline(run: Run) -> str:
    """One sentence on whether the molecule varies."""
    if run.validation is None:
        return "The components were not validated: the run had no half-sets."
    passed, rank = int(run.validation.reliable.sum()), run.rank
    if passed == 0:
        return (
            "No heterogeneity was detected: no component explains particles it was not fitted to; "
            "their eigenvalues are consistent with noise."
        )
    if passed == rank:
        return f"All {rank} components explain particles that they were not fitted to."
    return (
        f"{passed} of {rank} components explain particles that they were not fitted to; "
        "the rest is consistent with noise."
    )


def viewing(folder: Path) -> list[tuple[str, str]]:
    """Commands that open a run in the browser, each with what it is for."""
    view = (command_line("solvar", "view", folder), "look around in the browser")
    if missing("view"):
        return [(install_command("view"), "the packages that the viewer needs"), view]
    return [view]


NO_OTHER_CAUSE = "There is no sign that anything but structure drives the latents."
# A component that the halves share to no finer than this is there, but has no shape to speak of.
_SHAPELESS_ANGSTROM = 40.0


def agreement(run: Run, j: int) -> str:
    """What the halves say of the shape of component j, which passed."""
    assert run.validation is not None  # who else would know
    reached = float(run.validation.component_resolution[j])
    if not has_shape(reached):
        return "it is there, but the halves do not agree on its shape"
    text = resolution_text(run, reached)
    if text.startswith("≤"):
        return f"halves agree to {text[2:]} Å, the finest detail used"
    return f"halves agree to {text} Å"


def has_shape(resolution: float) -> bool:
    """Whether halves that agree to `resolution` (Å) tell where a component changes density."""
    return resolution <= _SHAPELESS_ANGSTROM


def resolution_text(run: Run, resolution: float) -> str:
    """A resolution in Å; marked where the halves still agree at the finest shell that was used."""
    if not np.isfinite(resolution):
        return "–"
    assert run.validation is not None  # who else would know a resolution
    shells = len(run.validation.mean_fsc)
    finest = run.model.box_size * run.pixel_size_angstrom / (shells - 1)
    number = f"{resolution:.1f}" if resolution < 30 else f"{resolution:.0f}"
    return f"≤ {number}" if resolution < 1.001 * finest else number
