"""Volumes as surfaces: the model on a grid that can be drawn at once, and its contours."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from skimage.measure import marching_cubes

from solvar.imaging.contour import contour_level
from solvar.imaging.fourier import crop_volume
from solvar.results.run import Run
from solvar.volume_file import read_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# A surface of this box has some ten thousand corners: more are slow to send and show nothing more.
BOX_SIZE = 64
_WHOLE = 0.6


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangulated surface.

    Attributes
    ----------
    corners : (V, 3) float32
        x, y, z in Å from the centre of the box.
    faces : (F, 3) uint16 or uint32
        Counter-clockwise as seen from outside.
    change : (V,) float32 or None
        How much the density differs between particles there, as a share of the surface's level, at most 1.
    """

    corners: Float32
    faces: NDArray[np.unsignedinteger]
    change: Float32 | None = None

    def packed(self) -> dict[str, Any]:
        """As plotly.js takes arrays: base64 of their bytes, a third of their size in digits."""
        columns = {**dict(zip("xyz", self.corners.T, strict=True))}
        indices = dict(zip("ijk", self.faces.T, strict=True))
        arrays = {**columns, **indices}
        if self.change is not None:
            arrays["intensity"] = self.change
        return {name: packed(values) for name, values in arrays.items()}


@dataclass(frozen=True, eq=False)
class DisplayVolume:
    """A volume of at most `BOX_SIZE`.

    Attributes
    ----------
    data : (L, L, L) float32
        [z, y, x].
    voxel_angstrom : float
    """

    data: Float32
    voxel_angstrom: float


@dataclass(frozen=True, eq=False)
class DisplayModel:
    """A run's model on a grid of at most `BOX_SIZE`.

    Attributes
    ----------
    mean : (L, L, L) float32
    columns : (r, L³) float32
        Eigenvolumes times the standard deviation of their latents.
    mask : (L, L, L) float32
    voxel_angstrom : float
    sigma : float
        Standard deviation of the mean over the box; contours are told in multiples of it.
    spread : (L, L, L) float32 or None
        As of `LocalVariance`.
    """

    mean: Float32
    columns: Float32
    mask: Float32
    voxel_angstrom: float
    sigma: float
    spread: Float32 | None = None

    def volume(self, point: Sequence[float] | Float64) -> DisplayVolume:
        """μ + V z at a point (r,) in standard deviations."""
        weights = np.asarray(point, np.float32)
        data = self.mean + (weights @ self.columns).reshape(self.mean.shape)
        return DisplayVolume(data, self.voxel_angstrom)

    def masked(self, volume: DisplayVolume) -> DisplayVolume:
        """The volume inside the run's mask."""
        mask = self.mask if len(self.mask) == len(volume.data) else None
        if mask is None:
            return volume
        return DisplayVolume(volume.data * mask, volume.voxel_angstrom)

    @property
    def radius(self) -> float:
        """Half the edge of a cube that holds the molecule however it turns, Å."""
        grid = np.indices(self.mask.shape).reshape(3, -1) - len(self.mask) // 2
        distance = np.sqrt((grid**2).sum(axis=0))[self.mask.reshape(-1) > 0.5]
        far = float(distance.max()) if len(distance) else len(self.mask) / 2
        return min(far, len(self.mask) / 2) * self.voxel_angstrom

    @property
    def level(self) -> float:
        """A contour around the molecule, in multiples of `sigma`.

        Lower than between the molecule and what surrounds it: a whole molecule is easier to follow
        than a sharp one in pieces.
        """
        return _WHOLE * contour_level(self.mean) / self.sigma


def open_model(run: Run, box: int = BOX_SIZE) -> DisplayModel:
    """Read a run's volumes one by one, so that full-size eigenvolumes never fill the memory."""
    mean, voxel = _reduced(run.volume("mean.mrc"), run.pixel_size_angstrom, box)
    mask, _ = _reduced(run.volume("mask.mrc"), run.pixel_size_angstrom, box)
    scale = np.sqrt(run.eigenvalues).astype(np.float32)
    columns = np.empty((run.rank, mean.size), np.float32)
    for j in range(run.rank):
        volume = run.volume(f"eigenvolume_{j + 1:03d}.mrc")
        eigenvolume, _ = _reduced(volume, run.pixel_size_angstrom, box)
        columns[j] = scale[j] * eigenvolume.reshape(-1)
    spread = None
    if run.change is not None:
        spread, _ = _reduced(run.change.spread, run.pixel_size_angstrom, box)
    return DisplayModel(mean, columns, mask, voxel, float(mean.std()) or 1.0, spread)


def open_volume(path: Path, inside: Path, box: int = BOX_SIZE) -> tuple[Float32, float]:
    """A volume below the folder `inside`, of at most `box` voxels an edge, and its voxel size in Å."""
    volume, voxel = read_volume(path, inside)
    return _reduced(volume, voxel or 1.0, box)


def _reduced(volume: Float32, voxel: float, box: int) -> tuple[Float32, float]:
    """The same on a grid of at most `box`, its grey values kept, and the voxel size there."""
    full = len(volume)
    if full <= box:
        return volume, voxel
    small = crop_volume(volume, box) * np.float32((box / full) ** 3)
    return small, voxel * full / box


def isosurface(volume: DisplayVolume, level: float, spread: Float32 | None = None) -> Surface:
    """The surface at `level`; empty where the volume does not reach it.

    Parameters
    ----------
    volume : DisplayVolume
    level : float
        In grey values.
    spread : (L, L, L), optional
        Standard deviation of the density, to tell how much changes at each corner.
    """
    data = volume.data
    if not data.min() < level < data.max():
        return Surface(np.empty((0, 3), np.float32), np.empty((0, 3), np.uint16))
    corners, faces, _, _ = marching_cubes(data, level, gradient_direction="descent")
    middle = len(data) // 2
    placed = (corners[:, ::-1] - middle) * volume.voxel_angstrom
    small = np.uint16 if len(corners) <= np.iinfo(np.uint16).max else np.uint32
    change = None
    if spread is not None and len(spread) == len(data):
        there = map_coordinates(spread, corners.T, order=1, mode="nearest")
        change = np.clip(there / max(level, 1e-30), 0, 1).astype(np.float32)
    return Surface(np.ascontiguousarray(placed, np.float32), faces.astype(small), change)


def packed(values: NDArray) -> dict[str, str]:
    """An array as plotly.js decodes it: type and base64 of the bytes, little-endian."""
    kinds = {np.float32: "f4", np.float64: "f8", np.uint8: "u1", np.uint16: "u2", np.uint32: "u4"}
    kind = kinds[values.dtype.type]
    content = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return {"dtype": kind, "bdata": base64.b64encode(content.tobytes()).decode("ascii")}
