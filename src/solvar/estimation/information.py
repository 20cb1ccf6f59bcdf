"""How much the images say about each Fourier coefficient of a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.cache import WhitenedImages
from solvar.imaging.fourier import hermitian_weight, volume_shells
from solvar.imaging.projector import make_projector
from solvar.threads import ThreadTeam

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def sampling_information(
    images: WhitenedImages, index: Int64, box: int, k_c: int, team: ThreadTeam
) -> Float32:
    """D(k) = Σ_i Pᵀ C²: the diagonal that stands for the normal operator of the images `index`.

    The data term of volumes v is close to ½ Σ_full D(k)|v̂(k)|², the sum over the full grid.

    Returns
    -------
    (box, box, box//2 + 1) float32
        On the rfftn grid; smoothed over 3³ points, because a support mask ties neighbours together.
    """
    from scipy.ndimage import uniform_filter

    disc = images.disc.prefix(k_c)
    projector = make_projector(box, disc, interpolation="trilinear", upsampling=1.0, team=team)
    lattice = projector.zeros(1)
    for batch in images.batches(index, disc):
        ones = np.ones((len(batch), 1, len(disc)), dtype=np.complex64)
        projector.scatter(ones, batch.rotation, batch.ctf**2, lattice)
    half = projector.lattice.grid(lattice, 1)[..., 0].real  # type: ignore[attr-defined]
    full = images.processes.sum(_hermitian_grid(half, box))
    smooth = uniform_filter(full, size=3, mode="wrap")
    return np.fft.ifftshift(smooth, axes=(0, 1, 2))[..., : box // 2 + 1].astype(np.float32)


def _hermitian_grid(half: Float32, box: int) -> Float32:
    """Spread samples at kx ≥ 0 evenly over k and -k: centred (box, box, box) grid."""
    side, depth = half.shape[0], half.shape[2]
    reach = min(side // 2, (box - 1) // 2)
    low, middle = side // 2 - reach, side // 2 + reach + 1
    part = half[low:middle, low:middle, : min(depth, reach + 1)]
    grid = np.zeros((box, box, box), dtype=np.float32)
    span = slice(box // 2 - reach, box // 2 + reach + 1)
    grid[span, span, box // 2 : box // 2 + part.shape[2]] += part / 2
    mirrored = part[::-1, ::-1, ::-1] / 2
    grid[span, span, box // 2 - part.shape[2] + 1 : box // 2 + 1] += mirrored
    return grid


def shell_mean(values: Float32, box: int, shells: int) -> Float64:
    """Mean over each shell of a real array on the rfftn grid, full-grid weights, (shells,)."""
    shell = volume_shells(box).ravel()
    weight = np.broadcast_to(hermitian_weight(box), values.shape[-3:]).ravel()
    keep = shell < shells
    total = np.bincount(shell[keep], (weight * values.ravel())[keep], shells)
    return total / np.bincount(shell[keep], weight[keep], shells)
