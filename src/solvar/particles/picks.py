"""`Picks`: where on its micrograph each particle lies, the identity that survives re-extraction.

A new extraction, at another box or pixel size, gives images new names and maybe a new order, but
RELION and cryoSPARC keep the coordinates in pixels of the *micrograph*. The same micrograph has the
same pixels whatever its particles were scaled to, so coordinates are compared in those pixels, and
the pixel size of the images plays no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Programs round coordinates to whole pixels, up or down.
TOLERANCE_PIXEL = 1.0
# Far more than any tolerance, and exact in float64: micrographs as planes of one search tree.
_APART = float(2**24)


@dataclass(frozen=True, eq=False)
class Picks:
    """Micrograph and coordinates of N particles.

    Attributes
    ----------
    micrograph : tuple of str
        The distinct micrographs: file names without folders, which differ between projects.
    micrograph_index : (N,) int64
        Index into `micrograph`.
    coordinate_pixel : (N, 2) or (N, 3) float64
        (x, y) in pixels of the micrograph, of a tomogram (x, y, z) in those of its tilt series; NaN where the
        file does not say.
    """

    micrograph: tuple[str, ...]
    micrograph_index: Int64
    coordinate_pixel: Float64

    @classmethod
    def of_paths(cls, paths: Sequence[str], index: Int64, coordinate: ArrayLike) -> Picks:
        """From micrographs (M paths, maybe with a frame before an @), index (N,), coordinates (N, 2 or 3)."""
        names = [path.split("@")[-1].split("/")[-1] for path in paths]
        distinct, inverse = np.unique(np.array(names, dtype=object), return_inverse=True)
        index = inverse.reshape(-1)[index].astype(np.int64)
        return cls(tuple(str(n) for n in distinct), index, np.asarray(coordinate, np.float64))

    def __len__(self) -> int:
        return len(self.micrograph_index)

    def select(self, index: Int64) -> Picks:
        """Those at positions `index`."""
        return replace(
            self,
            micrograph_index=self.micrograph_index[index],
            coordinate_pixel=self.coordinate_pixel[index],
        )

    def describe(self, position: int) -> str:
        """How the user finds one: 'mic1.mrc at (100, 250)'."""
        at = ", ".join(f"{value:g}" for value in self.coordinate_pixel[position])
        return f"{self.micrograph[self.micrograph_index[position]]} at ({at})"


def find_picks(
    wanted: Picks, among: Picks, tolerance_pixel: float = TOLERANCE_PIXEL
) -> tuple[Int64, Int64]:
    """Where particles are in another list: the same micrograph, each coordinate within a tolerance.

    Parameters
    ----------
    wanted : Picks
        M particles.
    among : Picks
        N particles.
    tolerance_pixel : float
        Pixels of the micrograph by which each coordinate may differ.

    Returns
    -------
    place : (M,) int64
        Position of the nearest in `among`; anything where there is none.
    candidates : (M,) int64
        How many come into question: 0, 1, or 2 for more than one. One of `among` that is the
        nearest of several `wanted` is in question for each of them.
    """
    from scipy.spatial import cKDTree

    code = {name: number for number, name in enumerate(among.micrograph) if name}
    known = np.array([code.get(name, -1) for name in wanted.micrograph], np.int64)
    micrograph = known[wanted.micrograph_index]
    asked = np.isfinite(wanted.coordinate_pixel).all(axis=1) & (micrograph >= 0)
    there = np.flatnonzero(np.isfinite(among.coordinate_pixel).all(axis=1))
    place, candidates = np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.int64)
    of_one_kind = wanted.coordinate_pixel.shape[1] == among.coordinate_pixel.shape[1]
    if not asked.any() or not len(there) or not of_one_kind:
        return place, candidates
    tree = cKDTree(_points(among.micrograph_index[there], among.coordinate_pixel[there]))
    points = _points(micrograph[asked], wanted.coordinate_pixel[asked])
    # the bound is exclusive; coordinates are printed with six decimals
    bound = tolerance_pixel + 1e-5
    distance, nearest = tree.query(points, k=2, p=np.inf, distance_upper_bound=bound)
    candidates[asked] = np.isfinite(distance).sum(axis=1)
    place[asked] = there[np.minimum(nearest[:, 0], len(there) - 1)]
    found = np.flatnonzero(candidates)
    times = np.bincount(place[found], minlength=len(among))
    candidates[found[times[place[found]] > 1]] = 2
    return place, candidates


def _points(micrograph: Int64, coordinate: Float64) -> Float64:
    return np.column_stack([micrograph * _APART, coordinate])
