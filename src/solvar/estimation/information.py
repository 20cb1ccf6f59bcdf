"""How much the images say about each Fourier coefficient of a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.back_projection import BackProjection
from solvar.estimation.images import WhitenedImages
from solvar.imaging.fourier import HalfDisc, hermitian_weight, volume_shells
from solvar.imaging.projector import make_projector
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SamplingInformation:
    """D(k) = Σ_i Pᵀ C²: the diagonal that stands for the normal operator of some images.

    The data term of volumes v is close to ½ Σ_full D(k)|v̂(k)|², the sum over the full grid.

    Attributes
    ----------
    k_c : int
        Largest frequency of the pixels that were summed up.
    grid : (2 K + 1, 2 K + 1, 2 K + 1) float64
        Centred, K = k_c + 1, axes kz, ky, kx.
    """

    k_c: int
    grid: Float64

    def __add__(self, other: SamplingInformation) -> SamplingInformation:
        """Of the images of both."""
        return SamplingInformation(self.k_c, self.grid + other.grid)

    def under(self, ratio: Float64) -> SamplingInformation:
        """Of the same images when their noise is stronger by (S,) in the shells of the image, S > k_c."""
        axis = np.arange(len(self.grid)) - len(self.grid) // 2
        radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        shell = np.minimum(np.rint(radius).astype(np.int64), len(ratio) - 1)
        return SamplingInformation(self.k_c, self.grid / ratio[shell])

    def on_grid(self, box: int, k_c: int) -> Float32:
        """D up to a frequency that is not beyond its own, on the rfftn grid of a box.

        Smoothed over 3³ points, because a support mask ties neighbours together.

        Returns
        -------
        (box, box, box//2 + 1) float32
        """
        from scipy.ndimage import uniform_filter

        middle = self.k_c + 1
        reach = min(k_c + 1, (box - 1) // 2)
        inner = slice(middle - reach, middle + reach + 1)
        span = slice(box // 2 - reach, box // 2 + reach + 1)
        full = np.zeros((box, box, box))
        full[span, span, span] = self.grid[inner, inner, inner]
        smooth = uniform_filter(full, size=3, mode="wrap")
        return np.fft.ifftshift(smooth, axes=(0, 1, 2))[..., : box // 2 + 1].astype(np.float32)


class SamplingSum:
    """Σ Pᵀ of squared CTFs, slice by slice.

    Parameters
    ----------
    images : WhitenedImages
    disc : HalfDisc
        Pixels of the slices.
    team : ThreadTeam
    """

    def __init__(self, images: WhitenedImages, disc: HalfDisc, team: ThreadTeam) -> None:
        self._k_c = k_c = disc.k_c
        projector = make_projector(
            2 * k_c + 2,
            disc,
            interpolation="trilinear",
            upsampling=1.0,
            team=team,
            stretch=images.store.longest,
        )
        self._total = BackProjection(projector, 1, lambda each: _half_grid(projector, each, k_c))

    def add(self, frame: Float32, square: Float32, weight: Complex64 | None = None) -> None:
        """Add squared CTFs (B, n) at frames (B, 3, 2), pixels weighted by (B, n)."""
        if weight is None:
            weight = np.ones(square.shape, dtype=np.complex64)
        self._total.add(weight[:, None], frame, square)

    def sum(self) -> Float64:
        """D of what was added, on a grid as of `SamplingInformation`."""
        return _hermitian_grid(self._total.sum(), self._k_c)


def sampling_information(
    images: WhitenedImages, index: Int64, k_c: int, team: ThreadTeam
) -> SamplingInformation:
    """D of the particles `index`, those of all processes, from their pixels up to `k_c`."""
    disc = images.disc.prefix(k_c)
    total = SamplingSum(images, disc, team)
    for batch in images.batches(index, disc, team=team):
        weight = batch.weighted(np.ones(batch.data.shape, dtype=np.complex64))
        total.add(batch.frame, batch.ctf**2, weight)
    return SamplingInformation(k_c, images.processes.sum(total.sum()))


def _half_grid(projector: Any, lattice: Float32, k_c: int) -> Float32:
    """What was summed up at kx ≥ 0 of a lattice that is not upsampled, (2 k_c + 3, 2 k_c + 3, k_c + 2)."""
    half: Float32 = projector.lattice.grid(lattice, 1)[..., 0].real
    middle, reach = half.shape[0] // 2, k_c + 1
    inner = slice(middle - reach, middle + reach + 1)
    return half[inner, inner, : reach + 1]


def _hermitian_grid(half: NDArray[np.floating], k_c: int) -> Float64:
    """Samples at kx ≥ 0 spread evenly over k and -k: centred (2 k_c + 3)³ grid."""
    reach = k_c + 1
    part = half.astype(np.float64) / 2
    grid = np.zeros((2 * reach + 1,) * 3)
    grid[:, :, reach:] += part
    grid[:, :, : reach + 1] += part[::-1, ::-1, ::-1]
    return grid


def shell_mean(values: Float32, box: int, shells: int) -> Float64:
    """Mean over each shell of a real array on the rfftn grid, full-grid weights, (shells,)."""
    shell = volume_shells(box).ravel()
    weight = np.broadcast_to(hermitian_weight(box), values.shape[-3:]).ravel()
    keep = shell < shells
    total = np.bincount(shell[keep], (weight * values.ravel())[keep], shells)
    return total / np.bincount(shell[keep], weight[keep], shells)
