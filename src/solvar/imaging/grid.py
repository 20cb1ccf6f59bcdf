"""One physical grid for images whose pixel sizes and boxes differ by optics group.

Images of a group are cropped around their centre in real space, never padded, to the smallest edge that
holds the common extent, and then Fourier-cropped to the common box. Edges are whole pixels, so what a group
keeps may be wider than the common extent by a fraction of a per cent. That, like an anisotropic
magnification, goes exactly into where its Fourier pixels sample the volume: pixel k of an image is the
volume's frequency `stretch`·k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.optics import Optics

Float64 = NDArray[np.float64]

# single precision and six decimals in files make equal sizes differ by a few 1e-6
SAME = 1e-5


@dataclass(frozen=True, eq=False)
class CommonGrid:
    """What images of all optics groups become.

    Attributes
    ----------
    box_size : int
        Edge of images and volumes, pixels.
    pixel_size_angstrom : float
        The coarsest of the groups'.
    kept : (G,) int64
        Edge in pixels of their own to which images of each group are cropped in real space.
    extent_angstrom : float or (G,) float64
        Edge of what is kept; one number where the groups agree.
    stretch : (G, 2, 2) float64 or None
        Pixel k of an image is the volume's frequency stretch·k, both in units of one over their own extent;
        None for identities.
    """

    box_size: int
    pixel_size_angstrom: float
    kept: NDArray[np.int64]
    extent_angstrom: float | Float64
    stretch: Float64 | None

    @classmethod
    def of(cls, optics: Optics) -> CommonGrid:
        """The grid of the coarsest pixel size, as wide as the smallest image."""
        pixel, box = optics.pixel_size_angstrom, optics.box_size
        first = float(pixel[0])
        if not have_several_sizes(optics):
            box_size = int(box[0])
            return cls(box_size, first, box, box_size * first, optics.magnification)
        coarsest = float(pixel[np.argmax(pixel >= pixel.max() * (1 - SAME))])
        room = float(np.min(box * pixel))
        box_size = int(room / coarsest * (1 + SAME))
        if box_size not in box:
            box_size -= box_size % 2  # FFTs like even edges, and so do band grids
        extent = box_size * coarsest
        kept = np.minimum(np.ceil(extent / pixel * (1 - SAME)).astype(np.int64), box)
        scale = extent / (kept * pixel)
        scale = np.where(np.abs(scale - 1) < SAME, 1.0, scale)
        if np.all(scale == 1):
            return cls(box_size, coarsest, kept, extent, optics.magnification)
        stretch = np.eye(2) if optics.magnification is None else optics.magnification
        return cls(box_size, coarsest, kept, extent / scale, scale[:, None, None] * stretch)


def per_image(extent_angstrom: float | Float64, group: NDArray[np.int64]) -> float | Float64:
    """Edges in Å of images of these optics groups (N,): the one number there is, or (N, 1)."""
    if isinstance(extent_angstrom, float):
        return extent_angstrom
    return extent_angstrom[group][:, None]


def have_several_sizes(optics: Optics) -> bool:
    """Whether pixel size or box differ by optics group."""
    pixel, box = optics.pixel_size_angstrom, optics.box_size
    return bool(np.any(np.abs(pixel - pixel[0]) > SAME * pixel[0]) or np.any(box != box[0]))
