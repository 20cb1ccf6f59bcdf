"""Colours of the page's figures beside those that it shares with the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.report import style
from solvar.report.interactive import theme
from solvar.report.interactive.latents import number_limits
from solvar.viewer.columns import Column

Uint8 = NDArray[np.uint8]

_STEPS = 256


@dataclass(frozen=True)
class Marks:
    """Colours of what is drawn on top of the particles, and of the molecule.

    Attributes
    ----------
    left_out : str
        Particles that are not selected.
    molecule, outline : str
        Inner and outer contour.
    here, path, edge : str
        The point that is shown, the path, what sets both off from the particles.
    """

    left_out: str
    molecule: str
    outline: str
    here: str
    path: str
    edge: str


# The point wears no colour that a label could have.
_LIGHT = Marks("#B4B9C2", "#74ACD9", "#7C8798", style.INK, "#8A3F78", "#FFFFFF")
_DARK = Marks("#4B5362", "#5E9BC9", "#98A4B5", "#FFFFFF", "#E79AC4", "#12161D")


def marks(dark: bool) -> Marks:
    """The colours of an appearance."""
    return _DARK if dark else _LIGHT


def ramp(stops: Sequence[str]) -> Uint8:
    """(256, 3) colours between stops at equal distances."""
    channels = np.array([theme.rgb(stop) for stop in stops], np.float64).T
    at, place = np.linspace(0, 1, len(stops)), np.linspace(0, 1, _STEPS)
    return np.stack([np.interp(place, at, c) for c in channels], axis=1).round().astype(np.uint8)


def density(dark: bool) -> Uint8:
    """(256, 3) colours from few particles to many."""
    return ramp(theme.theme(dark).density)


def colours(column: Column, dark: bool) -> Uint8:
    """(N, 3) colour of each particle; unknown values are drawn as the lowest."""
    if column.labels is not None:
        table = np.array(
            [theme.rgb(c) for c in theme.label_colours(len(column.labels), dark)], np.uint8
        )
        return table[column.values.astype(np.int64)]
    low, high = number_limits(column.values)
    share = np.nan_to_num((column.values - low) / (high - low), nan=0.0)
    scale = ramp([colour for _, colour in theme.number_scale()])
    return scale[(np.clip(share, 0, 1) * (_STEPS - 1)).astype(np.int64)]
