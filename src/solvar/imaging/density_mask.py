"""Where two half-maps agree that there is a molecule: a soft mask of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import volume_shells
from solvar.imaging.fsc import HALVES_THRESHOLD, fourier_shell_correlation
from solvar.imaging.masks import edge_width, is_too_small, soft_step

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# maps are seen at this resolution, Å, or as coarsely as they agree
_RESOLUTION_ANGSTROM = 15.0
_FEWEST_SHELLS = 4
# what counts as density: twice the power that noise reaches anywhere, this share of the highest amplitude
_ABOVE_NOISE, _FAINTEST = 2.0, 0.05
# pieces of fewer voxels than this share of the largest one are dust
_DUST = 0.01
# the mask goes beyond density by this share of the finest wave, and then falls off
_BEYOND = 0.5


def density_mask(
    first: Float32, second: Float32, pixel_size: float, within: Float32
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

    Returns
    -------
    (L, L, L) float32, 0 to 1, or None
    """
    from scipy.ndimage import distance_transform_edt

    k_c = _agreed_shell(first, second, pixel_size)
    wave = len(first) / k_c
    mean = _local_power(np.maximum(_smooth(0.5 * (first + second), k_c), 0), wave)
    noise = _local_power(_smooth(0.5 * (first - second), k_c), wave)
    least = max(_ABOVE_NOISE * noise[within > 0.5].max(), _FAINTEST**2 * mean.max())
    density = _without_dust((mean > least) & (within > 0.5))
    if not density.any():
        return None
    edge = edge_width(len(first))
    inside = _BEYOND * wave + edge - distance_transform_edt(~density)
    mask = soft_step(inside, edge).astype(np.float32) * within
    return None if is_too_small(mask) else mask


def _agreed_shell(first: Float32, second: Float32, pixel_size: float) -> int:
    """The finest shell that is looked at."""
    box = len(first)
    agreement = fourier_shell_correlation(first, second, (box + 1) // 2)[1:]
    lost = np.flatnonzero(agreement < HALVES_THRESHOLD)
    agreed = int(lost[0]) if len(lost) else len(agreement)
    return max(_FEWEST_SHELLS, min(agreed, round(box * pixel_size / _RESOLUTION_ANGSTROM)))


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
