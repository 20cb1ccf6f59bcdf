"""What the page shows of a volume, computed from its controls: the thin callbacks' other half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.ridges import equidistant
from solvar.errors import InputError
from solvar.viewer import figures, jobs
from solvar.viewer.data import ViewerData
from solvar.viewer.meshes import DisplayVolume, Surface

Float64 = NDArray[np.float64]

_MOST_CORNERS = 200


@dataclass(frozen=True)
class Contour:
    """How a volume is cut.

    Attributes
    ----------
    level : float
        In standard deviations of the map.
    outer : float or None
        Second contour as a share of the first.
    masked : bool
        Leave out what is outside the run's mask.
    changes : bool
        Colour what changes.
    """

    level: float
    outer: float | None = None
    masked: bool = True
    changes: bool = False

    def of(self, data: ViewerData, volume: DisplayVolume, sigma: float) -> list[Surface]:
        """The surfaces of a volume whose standard deviation is `sigma`."""
        levels = [self.level * sigma]
        if self.outer is not None:
            levels.append(self.level * self.outer * sigma)
        shown = data.model.masked(volume) if self.masked else volume
        return figures.surfaces(shown, levels, data.model.spread if self.changes else None)


def model_at(data: ViewerData, point: list[float], contour: Contour) -> list[Surface]:
    """Surfaces of μ + V z at a point (r,) in standard deviations."""
    return contour.of(data, data.model.volume(point), data.model.sigma)


def reconstruction(data: ViewerData, key: str, contour: Contour) -> list[Surface]:
    """Surfaces of a volume that was reconstructed.

    Raises
    ------
    InputError
        If it is no longer there, leads out of the run folder, or belongs to another run.
    """
    found = jobs.existing(data.run, key)
    volume = data.reconstruction(found.file)
    return contour.of(data, volume, float(volume.data.std()) or 1.0)


def along(path: list[list[float]], count: int) -> Float64:
    """`count` points (count, r) at equal distances along the corners of a path.

    Raises
    ------
    InputError
        If the path has no length.
    """
    corners = np.asarray(path, np.float64)
    if not 2 <= len(corners) <= _MOST_CORNERS or not np.ptp(corners, axis=0).any():
        raise InputError(
            "a path needs two different places", remedy="choose “Path” and click in the plane"
        )
    return equidistant(corners, count)


def frames(
    data: ViewerData, path: list[list[float]], count: int, contour: Contour
) -> dict[str, Any]:
    """The molecule at `count` points along a path: what the page plays, made ahead.

    Returns
    -------
    dict
        ``points`` (count lists of r numbers) and ``surfaces`` (count lists of packed surfaces).
    """
    points = along(path, count)
    drawn = [[s.packed() for s in model_at(data, list(point), contour)] for point in points]
    return {"points": points.tolist(), "surfaces": drawn}
