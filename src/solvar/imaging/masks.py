"""Soft masks: where the molecule may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.fourier import crop_volume
from solvar.volume_file import read_volume

Float32 = NDArray[np.float32]

# Width of the cosine edge of a mask, as a fraction of the box, and never under 2 voxels
_EDGE = 0.06
# one and its neighbours, as the smallest sphere that is made here has
_FEWEST_VOXELS = 7


def soft_sphere(box: int, diameter: float) -> Float32:
    """A sphere with a raised-cosine edge that ends at `diameter`.

    Parameters
    ----------
    box : int
        Edge in voxels.
    diameter : float
        Outer diameter in voxels.

    Returns
    -------
    (box, box, box) float32, 0 to 1
    """
    axis = np.arange(box, dtype=np.float32) - box // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return soft_step(diameter / 2 - radius, edge_width(box)).astype(np.float32)


def widest_sphere(box: int) -> Float32:
    """The widest soft sphere that a box of so many voxels holds."""
    return soft_sphere(box, box)


def share_of_box(mask: Float32) -> str:
    """How much of its box a mask holds, in words."""
    return f"{100 * float(mask.mean(dtype=np.float64)):.0f} % of the box"


def soft_step(depth: NDArray[Any], width: float) -> NDArray[Any]:
    """0 where a depth is negative, 1 from `width` on, a raised cosine between."""
    step: NDArray[Any] = 0.5 - 0.5 * np.cos(np.pi * np.clip(depth / width, 0, 1))
    return step


def edge_width(box: int) -> float:
    """Width of the soft edge of masks that are made here, voxels."""
    return max(2.0, _EDGE * box)


def read_mask(path: Path, box: int, pixel_size: float) -> Float32:
    """A mask file on the grid of the images, its soft edge kept.

    The file may have another box or pixel size as long as both describe the same physical extent;
    it is then resampled in Fourier space.

    Raises
    ------
    InputError
        When the extents differ, values leave [0, 1] or the mask is as good as empty.
    """
    mask, mask_pixel = read_volume(path)
    extent, wanted = len(mask) * mask_pixel, box * pixel_size
    if mask_pixel > 0 and abs(extent - wanted) > 0.5 * max(pixel_size, mask_pixel):
        raise InputError(
            f"the mask spans {extent:.1f} Å ({len(mask)} voxels of {mask_pixel:.3f} Å) but the "
            f"images span {wanted:.1f} Å ({box} pixels of {pixel_size:.3f} Å)",
            file=path,
            remedy="make the mask from a map of the same refinement",
        )
    if mask.min() < -0.01 or mask.max() > 1.01:
        raise InputError(
            f"mask values must lie between 0 and 1, found {mask.min():.3g} to {mask.max():.3g}",
            file=path,
            remedy="threshold and soften the map first, for example with relion_mask_create",
        )
    resampled = resample_mask(mask, box)
    if is_too_small(resampled):
        raise InputError(
            "the mask is empty, or as good as empty", file=path, remedy="choose another mask"
        )
    return resampled


def is_too_small(mask: NDArray[np.floating]) -> bool:
    """Whether a mask (L, L, L) leaves too few voxels for anything to vary in."""
    return bool(np.count_nonzero(mask > 0.49) < _FEWEST_VOXELS)


def resample_mask(mask: Float32, box: int) -> Float32:
    """The mask on a grid of `box` voxels over the same extent, clipped to [0, 1]."""
    if len(mask) == box:
        return np.clip(mask, 0, 1).astype(np.float32)
    # crop_volume keeps coefficients; rescaling by the number of voxels keeps values
    return np.clip(crop_volume(mask, box) * (box / len(mask)) ** 3, 0, 1).astype(np.float32)


def default_mask(box: int, pixel_size: float, diameter_angstrom: float | None = None) -> Float32:
    """The soft sphere used when no mask is given; diameter None means 85 % of the box."""
    diameter = 0.85 * box if diameter_angstrom is None else diameter_angstrom / pixel_size
    if not 4 <= diameter <= box:
        raise InputError(
            f"a mask diameter of {diameter * pixel_size:.6g} Å does not fit a box of "
            f"{box * pixel_size:.0f} Å",
            column="mask_diameter",
            remedy=f"choose a value up to {box * pixel_size:.0f}",
        )
    return soft_sphere(box, diameter)


def mask_diameter(mask: Float32) -> float:
    """Diameter in voxels of the smallest centred sphere that holds the mask's upper half."""
    axis = np.arange(len(mask)) - len(mask) // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return 2.0 * float(radius[mask > 0.5].max())
