"""What a run found, in words: for the terminal, the report and notebooks alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from solvar.commands import command_line
from solvar.estimation.causes import BACKGROUND, DEFOCUS, POSE, VIEW
from solvar.extras import install_command, missing
from solvar.fitting.result import NOISE, REAL, RESOLVED, has_shape
from solvar.fitting.warnings import consensus_sentence, pose_sentence
from solvar.text import visible

if TYPE_CHECKING:
    from solvar.results.run import Run

_LONGEST_PLACE = 14


def counted(run: Run) -> str:
    """How many particles a run has, and copies of them."""
    if run.copy_of is None:
        return f"{run.particle_count:,} particles"
    return f"{run.particle_count:,} symmetry copies of {run.distinct_particles:,} particles"


def headline(run: Run) -> str:
    """One sentence on whether the molecule varies."""
    if run.ab_initio is not None and not run.ab_initio.settled:
        return consensus_sentence(run.ab_initio)
    if run.validation is None:
        return "The components were not validated: the run had no half-sets."
    validation, rank = run.validation, run.rank
    passed = int(validation.reliable.sum())
    doubtful = np.flatnonzero(~validation.reliable)
    artefacts = [cause for j in doubtful if (cause := validation.could_be(int(j))) is not None]
    names = " or ".join(dict.fromkeys(CAUSE_WORDS[cause] for cause in artefacts))
    number = "a component" if len(artefacts) == 1 else f"{len(artefacts)} components"
    also = f" What {number} show{'s' if len(artefacts) == 1 else ''} could come from {names}."
    also = also if artefacts else ""
    if passed == 0:
        return (
            "No heterogeneity was detected: no component explains particles it was not fitted to "
            f"beyond what errors of the images could.{also}"
        )
    mixed = sum(
        validation.could_be(int(j)) is not None for j in np.flatnonzero(validation.reliable)
    )
    if mixed:
        also = f" In {mixed} of them there is more of pose errors than of motion.{also}"
    if passed == rank:
        told = (
            f"All {rank} components explain particles that they were not fitted to, and are real."
        )
        return f"{told}{also}"
    rest = "" if rank - passed == len(artefacts) else " The rest is consistent with noise."
    verb = "is" if passed == 1 else "are"
    return f"{passed} of {rank} components {verb} real.{also}{rest}"


CAUSE_WORDS = {
    POSE: "pose errors",
    DEFOCUS: "wrong defocus",
    BACKGROUND: "uneven background",
    VIEW: "noise inside the particle, background or junk",
}


# the same in a narrow column
_CAUSES_SHORT = {
    POSE: "pose errors?",
    DEFOCUS: "defocus?",
    BACKGROUND: "background?",
    VIEW: "noise or junk?",
}


def component_name(run: Run, j: int) -> str:
    """Number of component j, from 1, and the focus mask that it lives in where it has one of its own."""
    place = component_place(run, j)
    return str(j + 1) if place is None else f"{j + 1}, {place}"


def component_place(run: Run, j: int) -> str | None:
    """Name of the focus mask of component j, cut where it is long; None where all live in the same place."""
    if run.component_masks is None:
        return None
    name = visible(run.component_masks[j])
    return name if len(name) <= _LONGEST_PLACE else f"{name[: _LONGEST_PLACE - 1]}…"


def short_verdict(run: Run, j: int) -> str:
    """What is known of component j, in a word or two."""
    assert run.validation is not None  # who else would know
    found, cause = run.validation.verdict(j), run.validation.could_be(j)
    if found == NOISE and cause is not None:
        return _CAUSES_SHORT[cause]
    return "real, mixed" if found == REAL and cause is not None else found


def verdict(run: Run, j: int) -> str:
    """What is known of component j, in a few words."""
    assert run.validation is not None  # who else would know
    found = run.validation.verdict(j)
    if found == RESOLVED:
        return "resolved"
    cause = run.validation.could_be(j)
    if found == REAL:
        mixed = f"real, mixed with {CAUSE_WORDS[cause]}" if cause is not None else None
        return mixed or "real, shape unknown"
    return "noise" if cause is None else f"could be {CAUSE_WORDS[cause]}"


def viewing(folder: Path) -> list[tuple[str, str]]:
    """Commands that open a run in the browser, each with what it is for."""
    view = (command_line("solvar", "view", folder), "look around in the browser")
    if missing("view"):
        return [(install_command("view"), "the packages that the viewer needs"), view]
    return [view]


NO_OTHER_CAUSE = "There is no sign that anything but structure drives the latents."


def agreement(run: Run, j: int) -> str:
    """What the halves say of the shape of component j, which passed."""
    assert run.validation is not None  # who else would know
    reached = float(run.validation.component_resolution[j])
    if not has_shape(reached):
        return "it is there, but the halves do not agree on its shape"
    text = resolution_text(run, reached)
    if text.startswith("≤"):
        return f"halves agree to {text[2:]} Å, the finest detail used"
    told = run.validation.component_resolution_range
    if told is None or not np.isfinite(told[j]).all():
        return f"halves agree to {text} Å"
    return f"halves agree to {text} Å (between {told[j, 0]:.1f} and {told[j, 1]:.1f})"


def resolution_text(run: Run, resolution: float) -> str:
    """A resolution in Å; marked where the halves still agree at the finest shell that was used."""
    if not np.isfinite(resolution):
        return "–"
    assert run.validation is not None  # who else would know a resolution
    shells = len(run.validation.mean_fsc)
    finest = run.model.box_size * run.pixel_size_angstrom / (shells - 1)
    number = f"{resolution:.1f}" if resolution < 30 else f"{resolution:.0f}"
    return f"≤ {number}" if resolution < 1.001 * finest else number


def pose_advice(run: Run) -> list[tuple[str, str]]:
    """The command that refines poses, and why, where the images say that theirs are off."""
    refined = bool(run.record["settings"].get("refine_pose"))
    if run.validation is None or pose_sentence(run.validation, run.model, refined) is None:
        return []
    output = f"{run.folder}-refined"
    told = [word for word in run.record["command"] if word not in ("--overwrite", "--resume")]
    named = [place for place, word in enumerate(told) if word in ("-o", "--output")]
    if named and named[-1] + 1 < len(told):
        told[0], told[named[-1] + 1] = "solvar", output
    else:  # from Python
        told = ["solvar", "run", str(run.source), "-o", output, "--rank", str(run.rank)]
    return [(command_line(*told, "--refine-pose"), "first of all: better poses")]
