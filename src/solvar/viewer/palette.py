"""Colours of the page's figures, light and dark; all of them can be told apart by colour-blind eyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.report import style
from solvar.viewer.columns import Column, robust_range

Uint8 = NDArray[np.uint8]

_STEPS = 256


@dataclass(frozen=True)
class Theme:
    """Colours of one appearance; the page's own are in assets/viewer.css.

    Attributes
    ----------
    ink, quiet, line : str
        Text, axis text, grid.
    density : tuple of str
        From few particles to many.
    left_out : str
        Particles that are not selected.
    molecule, outline, here, path : str
        Inner contour, outer contour, the point shown, the path drawn.
    """

    ink: str
    quiet: str
    line: str
    density: tuple[str, ...]
    left_out: str
    molecule: str
    outline: str
    here: str
    path: str


LIGHT = Theme(
    ink=style.INK, quiet="#5B6472", line="#E6E8EC",
    density=("#BFDDF2", style.SKY, style.BLUE, "#06335A"), left_out="#B4B9C2",
    molecule="#6FA8D6", outline="#7C8798", here=style.VERMILION, path=style.PURPLE,
)  # fmt: skip
DARK = Theme(
    ink="#E7EAF0", quiet="#A3ACBA", line="#2C333F",
    density=("#17456B", style.BLUE, style.SKY, "#E8F5FF"), left_out="#4B5362",
    molecule="#7DB9E8", outline="#98A4B5", here="#FF8A3D", path="#E79AC4",
)  # fmt: skip


def theme(name: str | None) -> Theme:
    """By the page's word for it."""
    return DARK if name == "dark" else LIGHT


def rgb(colour: str) -> tuple[int, int, int]:
    """Of "#RRGGBB"."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def ramp(stops: tuple[str, ...]) -> Uint8:
    """(256, 3) colours between the stops."""
    channels = np.array([rgb(stop) for stop in stops], np.float64).T
    at = np.linspace(0, 1, len(stops))
    place = np.linspace(0, 1, _STEPS)
    return np.stack([np.interp(place, at, c) for c in channels], axis=1).round().astype(np.uint8)


def scale() -> list[tuple[float, str]]:
    """The colours of numbers, as plotly.js takes them."""
    steps = _viridis()[:: _STEPS // 16]
    place = np.linspace(0, 1, len(steps))
    return [(float(p), "rgb({},{},{})".format(*c)) for p, c in zip(place, steps, strict=True)]


def label_colours(count: int) -> Uint8:
    """(count, 3): distinct colours for few labels, a scale for many."""
    if count <= len(style.CYCLE):
        return np.array([rgb(c) for c in style.CYCLE[:count]], np.uint8).reshape(count, 3)
    return _viridis()[np.linspace(0, _STEPS - 1, count).astype(int)]


def colours(column: Column) -> Uint8:
    """(N, 3) colour of each particle; unknown values are drawn as the lowest."""
    if column.labels is not None:
        return label_colours(len(column.labels))[column.values.astype(np.int64)]
    low, high = robust_range(column.values)
    share = np.nan_to_num((column.values - low) / (high - low), nan=0.0)
    return _viridis()[(np.clip(share, 0, 1) * (_STEPS - 1)).astype(np.int64)]


def _viridis() -> Uint8:
    """(256, 3), without the palest yellow, which vanishes on white."""
    from matplotlib import colormaps

    return (colormaps["viridis"](np.linspace(0, 0.94, _STEPS))[:, :3] * 255).round().astype(np.uint8)
