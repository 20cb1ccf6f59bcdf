"""Figure of the refined poses: how far each was moved, and how much of it is still unknown."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

import numpy as np

from solvar.report import style
from solvar.report.particles import marginal, pair
from solvar.results.poses import PARTS, with_unit
from solvar.results.run import Run
from solvar.text import with_capital

# characters that the figure is wide
_LINE = 148


def draw_poses(run: Run, path: Path) -> bool:
    """Histograms of the corrections, and each correction against its posterior spread.

    Particles that were found elsewhere are counted: drawn, they would leave all others one bar.

    Returns
    -------
    drawn : bool
        False when the poses were kept: there is nothing to show.
    """
    change = run.pose_change
    if change is None or not change.applied:
        return False
    near = ~change.found_elsewhere
    told = f"{with_capital(change.sentence())}."
    if not near.all():
        told += " Those found elsewhere are not drawn."
    with style.figure(path, 9.6, 6.2) as figure:
        figure.text(
            0.06, 0.955, "How far refinement moved the particles", fontsize=12, weight="bold"
        )
        figure.text(
            0.06, 0.925, "Below: above the line, a pose moved by more than what is still unknown of it; "
            "under it, the pose was right already or its image says little.",
            fontsize=8.5, color=style.GREY,
        )  # fmt: skip
        figure.text(0.06, 0.917, fill(told, _LINE), fontsize=8.5, color=style.GREY, va="top")
        for column, (name, words, unit) in enumerate(PARTS):
            correction, spread = change.correction[name][near], change.spread[name][near]
            left = 0.06 + 0.32 * column
            top = figure.add_axes((left, 0.54, 0.27, 0.28))
            reach = _reach(correction)
            signed = name == "in_plane"
            marginal(top, correction, (-reach if signed else 0.0, reach))
            typical = np.sqrt((spread**2).mean())
            for line in (-typical, typical) if signed else (typical,):
                top.axvline(line, color=style.VERMILION, lw=1, ls=(0, (4, 3)))
            rms = np.sqrt((correction**2).mean())
            top.set_title(f"{words.capitalize()}: {with_unit(float(rms), unit)} rms", fontsize=9.5)
            top.set_xlabel(f"Correction ({unit})")
            low = figure.add_axes((left, 0.09, 0.27, 0.34))
            wide, high = _reach(spread), reach
            pair(low, spread, np.abs(correction), (0.0, wide), (0.0, high))
            end = min(wide, high)
            low.plot([0, end], [0, end], color=style.VERMILION, lw=1, ls=(0, (4, 3)))
            low.set_xlabel(f"Still unknown: posterior spread ({unit})")
            above = float(np.mean(np.abs(correction) > spread))
            low.set_title(f"{100 * above:.0f} % above the line", fontsize=9, weight="normal")
            if column == 0:
                low.set_ylabel("Correction (°; Å at right)")
                top.text(
                    0.98, 0.98, "dashed: what is\nstill unknown (rms)", transform=top.transAxes,
                    ha="right", va="top", fontsize=7.5, color=style.VERMILION,
                )  # fmt: skip
    return True


def _reach(values: np.ndarray) -> float:
    """An upper limit that shows all but the most extreme 0.4 %, never 0."""
    return 1.08 * float(np.quantile(np.abs(values), 0.996)) or 1.0
