"""Pictures of a surface by ray casting: no display, no graphics card, no other program.

Along each line of sight the first place that reaches the contour is the surface; its normal is the gradient
of the density there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.report.surface_kernel import cast

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# towards the light: right, down, away from the viewer
_LIGHT = np.array([-0.35, -0.55, -0.76]) / np.linalg.norm([0.35, 0.55, 0.76])
_AMBIENT, _DIFFUSE, _DEPTH = 0.34, 0.66, 0.25
_BRIGHTNESS = 1.25
_STEP = 0.7  # voxels
_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class Camera:
    """From where volumes of one box are looked at.

    Attributes
    ----------
    rotation : (3, 3) float64
        Rows: the axes right, down and away from the viewer, in x, y, z of the volume.
    reach : float
        Half the edge of the picture, voxels from the centre of the box.
    size : int
        Pixels an edge.
    """

    rotation: Float64
    reach: float
    size: int

    def seen(self, volume: Float32, level: float) -> tuple[Float64, Float64, Float64]:
        """Depth of the surface, largest density and where it is, each (size, size), in voxels.

        As `surface_kernel.cast` gives them.
        """
        depth, highest, place = np.zeros((3, self.size, self.size))
        solid = np.ascontiguousarray(volume, np.float32)
        cast(solid, self.rotation, float(self.reach), _STEP, level, depth, highest, place)
        return depth, highest, place

    def places(self, depth: Float64, box: int) -> Float64:
        """Indices (3, size, size), [z, y, x], of what lies so many voxels deep."""
        side = np.linspace(-self.reach, self.reach, self.size)
        down, right = np.meshgrid(side, side, indexing="ij")
        x, y, z = np.einsum(
            "ki,kab->iab", self.rotation, np.stack([right, down, depth - self.reach])
        )
        return np.stack([z, y, x]) + box // 2


def picture(
    volume: Float32, change: Float32, level: float, camera: Camera, colours: tuple[Float64, Float64]
) -> NDArray[np.uint8]:
    """A shaded surface, transparent around it.

    Parameters
    ----------
    volume : (L, L, L) float32
    change : (L, L, L) float32
        0 where nothing changes to 1 where most does: what the surface is coloured by.
    level : float
    camera : Camera
    colours : two (3,) float64
        Of what stays and of what changes, 0 to 1.

    Returns
    -------
    (size, size, 4) uint8
        Red, green, blue, opacity.
    """
    from scipy.ndimage import map_coordinates

    depth, highest, deep = camera.seen(volume, level)
    place = camera.places(deep, len(volume))
    bright = np.clip(np.einsum("iab,i->ab", _normals(volume, place, camera), _LIGHT), 0, 1)
    near = 1 - _DEPTH * deep / (2 * camera.reach)
    light = ((_AMBIENT + _DIFFUSE * bright) * near)[..., None]
    share = np.clip(map_coordinates(change, place, order=1), 0, 1)[..., None]
    stays, moves = colours
    shown = np.clip(_BRIGHTNESS * light * ((1 - share) * stays + share * moves), 0, 1)
    hit = depth < 2 * camera.reach
    opacity = np.where(hit, 1.0, _edge(highest, level))
    return np.round(255 * np.concatenate([shown, opacity[..., None]], axis=2)).astype(np.uint8)


def silhouette(volume: Float32, level: float, camera: Camera) -> Float64:
    """Depth of the surface (size, size) in edges of the picture; 1 where there is none."""
    return camera.seen(volume, level)[0] / (2 * camera.reach)


def _normals(volume: Float32, place: Float64, camera: Camera) -> Float64:
    """Unit vectors (3, size, size) out of the surface at indices of voxels: right, down, away."""
    from scipy.ndimage import map_coordinates

    units = np.eye(3)[:, :, None, None]
    rise = [
        map_coordinates(volume, place + unit, order=1)
        - map_coordinates(volume, place - unit, order=1)
        for unit in units
    ]
    slope = np.einsum("ki,iab->kab", camera.rotation, np.stack(rise[::-1]).astype(np.float64))
    return -slope / np.maximum(np.linalg.norm(slope, axis=0), _TINY)


def _edge(highest: Float64, level: float) -> Float64:
    """How much of a pixel beside the surface it covers: it falls to 0 within a pixel."""
    slope = np.hypot(*np.gradient(highest))
    return np.clip(1 - (level - highest) / np.maximum(slope, _TINY), 0, 1)
