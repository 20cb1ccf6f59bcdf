"""The volumes behind a simulated set: mean, scaled eigenvolumes, mask, examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from solvar.simulation.ensemble import Ensemble
from solvar.simulation.volumes import blob_volume

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
VolumesOf = Callable[[Float64], Iterator[Float32]]

_BLOCK_BYTES = 128 * 2**20
_MASK_LEVEL, _MASK_DILATION, _MASK_EDGE = 0.05, 3.0, 4.0
_NEGLIGIBLE = 1e-6  # eigenvalues below this share of the first are rounding


@dataclass(frozen=True, eq=False)
class TruthVolumes:
    """Population mean and covariance of a simulated set.

    Attributes
    ----------
    mean : (L, L, L) float32
        Axes z, y, x.
    eigenvolumes : (r, L, L, L) float32
        Orthonormal eigenvolumes of the covariance times √eigenvalue, descending, at most 10.
    mask : (L, L, L) float32
        Soft support of every conformation, 0 to 1.
    """

    mean: Float32
    eigenvolumes: Float32
    mask: Float32


def conformation_volumes(
    ensemble: Ensemble, coordinate: Float64, box_size: int, pixel_size: float, scale: float
) -> Iterator[Float32]:
    """Volume (L, L, L) of each conformation (n, d), one at a time."""
    for row in coordinate:
        positions, weights = ensemble.place(row[None])
        yield scale * blob_volume(
            positions[0], weights[0], ensemble.sigma_angstrom, box_size, pixel_size
        )


# BLAS threads on products of this size wait for each other: one thread is up to 20 times faster
@threadpool_limits.wrap(limits=1, user_api="blas")
def truth_volumes(
    ensemble: Ensemble, box_size: int, pixel_size: float, scale: float, rank: int = 10
) -> TruthVolumes:
    """Mean, leading eigenvolumes and mask of an ensemble in bounded memory.

    Parameters
    ----------
    scale : float
        Factor on all densities.
    rank : int
        Largest number of eigenvolumes.
    """

    def volumes_of(coordinate: Float64) -> Iterator[Float32]:
        return conformation_volumes(ensemble, coordinate, box_size, pixel_size, scale)

    mean = np.zeros((box_size,) * 3)
    brightest = np.zeros((box_size,) * 3, np.float32)
    for weight, volume in zip(ensemble.node_weight, volumes_of(ensemble.nodes), strict=True):
        mean += weight * volume
        np.maximum(brightest, volume, out=brightest)
    if ensemble.modes is not None:
        eigenvolumes = _mode_volumes(ensemble, volumes_of, rank)
    else:
        eigenvolumes = _principal_volumes(ensemble, volumes_of, mean, rank)
    return TruthVolumes(
        mean.astype(np.float32), eigenvolumes.reshape(-1, *mean.shape), soft_mask(brightest)
    )


def _mode_volumes(ensemble: Ensemble, volumes_of: VolumesOf, rank: int) -> Float32:
    """√variance × mode: the difference that one standard deviation of a latent makes."""
    assert ensemble.modes is not None
    spread = np.sqrt(ensemble.modes.variance)
    (origin,) = volumes_of(np.zeros((1, len(spread))))
    return np.stack([volume - origin for volume in volumes_of(np.diag(spread)[:rank])])


def _principal_volumes(
    ensemble: Ensemble, volumes_of: VolumesOf, mean: Float64, rank: int
) -> Float32:
    """Scaled eigenvolumes of the node covariance through the K × K Gram matrix.

    Blocks of conformations are recomputed, not kept: one costs milliseconds.
    """
    nodes, count = ensemble.nodes, len(ensemble.nodes)
    flat_mean = mean.ravel().astype(np.float32)

    def deviations(rows: slice) -> Float32:
        weight = np.sqrt(ensemble.node_weight[rows, None]).astype(np.float32)
        block = np.stack([volume.ravel() for volume in volumes_of(nodes[rows])])
        block -= flat_mean
        return block * weight

    size = max(1, _BLOCK_BYTES // (4 * mean.size))
    blocks = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    gram = np.empty((count, count))
    for number, first in enumerate(blocks):
        left = deviations(first)
        for second in blocks[number:]:
            right = left if second == first else deviations(second)
            gram[first, second] = left @ right.T
            gram[second, first] = gram[first, second].T
    eigenvalue, vector = np.linalg.eigh(gram)
    order = np.argsort(eigenvalue)[::-1][: min(rank, count - 1)]
    order = order[eigenvalue[order] > _NEGLIGIBLE * max(eigenvalue[-1], 1e-30)]
    # Xᵀ q has norm √eigenvalue: it is the scaled eigenvolume already
    scaled = np.zeros((len(order), mean.size), np.float32)
    for rows in blocks:
        scaled += vector[rows, order].T.astype(np.float32) @ deviations(rows)
    return scaled


def soft_mask(volume: Float32) -> Float32:
    """Mask around the voxels above 5 % of the maximum: 3 voxels wider, then a cosine edge of 4."""
    from scipy.ndimage import distance_transform_edt

    distance = distance_transform_edt(volume < _MASK_LEVEL * volume.max())
    ramp = np.clip((distance - _MASK_DILATION) / _MASK_EDGE, 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * ramp)).astype(np.float32)
