"""Where a map, or two half-maps that agree, show a molecule: a soft mask of their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.contour import contour_level
from solvar.imaging.fourier import volume_shells
from solvar.imaging.fsc import HALVES_THRESHOLD, fourier_shell_correlation
from solvar.imaging.masks import edge_width, is_too_small, soft_step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_FEWEST_SHELLS = 4
# what counts as density: twice the power that noise reaches anywhere, this share of the highest amplitude
_ABOVE_NOISE, _FAINTEST = 2.0, 0.05
# pieces of fewer voxels than this share of the largest one are dust
_DUST = 0.01
# the mask goes beyond density by this share of the finest wave, and then falls off
_BEYOND = 0.5
# narrower edges than these voxels are no edges
_SHARPEST = 0.5


@dataclass(frozen=True)
class MaskShape:
    """How a mask lies around density.

    Attributes
    ----------
    resolution_angstrom : float
        Maps are seen at this resolution, or as coarsely as they agree.
    beyond_angstrom : float or None
        How far it goes beyond density before it falls off; None: half of the finest wave that is seen.
    edge_angstrom : float or None
        Width of the soft edge; None: 6 % of the box, two voxels at least.
    """

    resolution_angstrom: float = 15.0
    beyond_angstrom: float | None = None
    edge_angstrom: float | None = None

    def around(self, density: NDArray[np.bool_], wave: float, pixel_size: float) -> Float32:
        """The mask (L, L, L) around density that was seen to a wave, voxels."""
        from scipy.ndimage import distance_transform_edt

        beyond, edge = _BEYOND * wave, edge_width(len(density))
        if self.beyond_angstrom is not None:
            beyond = self.beyond_angstrom / pixel_size
        if self.edge_angstrom is not None:
            edge = max(self.edge_angstrom / pixel_size, _SHARPEST)
        inside = beyond + edge - distance_transform_edt(~density)
        return soft_step(inside, edge).astype(np.float32)


_USUAL = MaskShape()


def density_mask(
    first: Float32,
    second: Float32,
    pixel_size: float,
    within: Float32,
    shape: MaskShape = _USUAL,
) -> Float32 | None:
    """A soft mask around what two half-maps agree on; None where nothing stands out.

    Density is where the local power of their mean, what is positive of it, stands out from all that half of
    their difference, noise alone, reaches anywhere. What moves and leaves less than a twentieth of the
    highest density in the mean is not seen.

    Parameters
    ----------
    first, second : (L, L, L) float32
        Half-maps, protein bright, axes z, y, x.
    pixel_size : float
        Å.
    within : (L, L, L) float32
        Where they were made, 0 to 1; the result is not outside.
    shape : MaskShape, optional

    Returns
    -------
    (L, L, L) float32, 0 to 1, or None
    """
    k_c = _agreed_shell(first, second, shape.resolution_angstrom / pixel_size)
    wave = len(first) / k_c
    mean = _local_power(np.maximum(_smooth(0.5 * (first + second), k_c), 0), wave)
    noise = _local_power(_smooth(0.5 * (first - second), k_c), wave)
    least = max(_ABOVE_NOISE * noise[within > 0.5].max(), _FAINTEST**2 * mean.max())
    density = _without_dust((mean > least) & (within > 0.5))
    if not density.any():
        return None
    mask = shape.around(density, wave, pixel_size) * within
    return None if is_too_small(mask) else mask


def mask_above(
    volume: Float32, pixel_size: float, threshold: float | None = None, shape: MaskShape = _USUAL
) -> Float32 | None:
    """A soft mask around what is brighter than a threshold in a map; None where nothing is.

    Parameters
    ----------
    volume : (L, L, L) float32
        Protein bright, axes z, y, x.
    pixel_size : float
        Å.
    threshold : float, optional
        Of the map as it is seen at the resolution of `shape`; by default between molecule and solvent
        (Otsu's).
    shape : MaskShape, optional

    Returns
    -------
    (L, L, L) float32, 0 to 1, or None
    """
    box = len(volume)
    k_c = _shell_of(box, shape.resolution_angstrom / pixel_size)
    smooth = _smooth(volume, k_c).astype(np.float32)
    density = smooth > (contour_level(smooth) if threshold is None else threshold)
    if not density.any():
        return None
    mask = shape.around(_without_dust(density), box / k_c, pixel_size)
    return None if is_too_small(mask) else mask


def _shell_of(box: int, wave: float) -> int:
    """The shell of a wave, voxels, or the finest or coarsest that is looked at."""
    return max(_FEWEST_SHELLS, min(box // 2, round(box / wave)))


def _agreed_shell(first: Float32, second: Float32, wave: float) -> int:
    """The finest shell that is looked at: that of a wave, voxels, or as far as half-maps agree."""
    box = len(first)
    agreement = fourier_shell_correlation(first, second, (box + 1) // 2)[1:]
    lost = np.flatnonzero(agreement < HALVES_THRESHOLD)
    agreed = int(lost[0]) if len(lost) else len(agreement)
    return max(_FEWEST_SHELLS, min(agreed, _shell_of(box, wave)))


def _smooth(volume: Float32, k_c: int) -> Float64:
    """Without shells beyond k_c, with a soft edge."""
    kept = soft_step(k_c + 2 - volume_shells(len(volume)), 3)
    smooth: Float64 = np.fft.irfftn(np.fft.rfftn(volume) * kept, volume.shape, (0, 1, 2))
    return smooth


def _local_power(volume: Float64, wave: float) -> Float64:
    """Mean square around each voxel."""
    from scipy.ndimage import gaussian_filter

    power: Float64 = gaussian_filter(volume**2, wave / 4)
    return power


def _without_dust(density: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without pieces of next to no size."""
    from scipy.ndimage import label

    pieces, _ = label(density)
    size = np.bincount(pieces.ravel())
    size[0] = 0
    return (size > _DUST * size.max())[pieces]
