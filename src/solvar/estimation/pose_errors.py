"""Pose-error marginalisation: rigid motions of the mean to first order, integrated out of every image.

A pose that is off by a little shows, to first order, a volume that has moved a little: μ + T δ, T the six
rigid motions of the mean and δ their sizes. Where poses are refined, sweeps over the eigenvolumes carry T
along as columns that are not fitted, with the prior of the pose errors on δ, so that V need not explain
what poses got wrong. δ is Gaussian and is integrated out before anything else is looked at, which changes
inner products ⟨u, v⟩ into ⟨u, v⟩ - ⟨u, T⟩(I + TᵀT)⁻¹⟨T, v⟩.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MOTIONS = 6


def rigid_motions(volume: Float32) -> Float64:
    """First-order changes of a volume (L, L, L) by rotations about x, y, z and shifts along them.

    Returns
    -------
    (6, L, L, L) float64
        Per radian and per box length; the change of v under a displacement u(r) is -u·∇v.
    """
    import scipy.fft

    box = len(volume)
    spectrum = scipy.fft.rfftn(volume.astype(np.float64))
    full, half = scipy.fft.fftfreq(box, 1 / box), np.arange(box // 2 + 1.0)
    full[np.abs(full) == box / 2], half[half == box / 2] = 0, 0  # Nyquist has no derivative
    waves = (half, full[:, None], full[:, None, None])
    # derivatives along x, y, z per box length
    gx, gy, gz = (scipy.fft.irfftn(2j * np.pi * wave * spectrum, s=volume.shape) for wave in waves)
    axis = (np.arange(box) - box // 2) / box
    x, y, z = axis, axis[:, None], axis[:, None, None]
    turns = [z * gy - y * gz, x * gz - z * gx, y * gx - x * gy]
    return np.stack([*turns, -gx, -gy, -gz])


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """What N poses may still be off by.

    Attributes
    ----------
    spread : (6,) float64
        Prior standard deviations of rotation (radians) and shift (box lengths).
    centre : (N, 6) float64
        Prior mean of δ in units of `spread`: the way back to the input pose.
    depends_on_conformation : bool
        Whether the errors of the input may depend on the latents, see `poses/degeneracy.py`.
    """

    spread: Float64
    centre: Float64
    depends_on_conformation: bool

    def columns(self, mean: Float32) -> Float32:
        """T, the rigid motions of the mean (l, l, l) scaled to unit prior variance, (6, l, l, l)."""
        return (rigid_motions(mean) * self.spread[:, None, None, None]).astype(np.float32)

    def rate(self, columns: Float32, second: Float64, cross: Float64) -> Float64:
        """How much of each rigid motion T to add to each column of V, (6, r), as `poses/degeneracy.py` says.

        Parameters
        ----------
        columns : (1 + r, l, l, l)
            W = [μ | V].
        second : (r, r)
            Mean E[ζ ζᵀ] of the columns V.
        cross : (6, r)
            Mean E[(δ - centre) ζᵀ].
        """
        if not self.depends_on_conformation:
            return np.asarray(np.linalg.solve(second, cross.T).T, dtype=np.float64)
        motions = self.columns(columns[0]).reshape(MOTIONS, -1).astype(np.float64)
        flat = columns[1:].reshape(len(columns) - 1, -1).astype(np.float64)
        return np.asarray(-np.linalg.solve(motions @ motions.T, motions @ flat.T), dtype=np.float64)


def with_rigid_motions(columns: Float32, pose_errors: PoseErrors | None) -> Float32:
    """W = [μ | V], and behind it T where poses may be off."""
    if pose_errors is None:
        return columns
    return np.concatenate([columns, pose_errors.columns(columns[0])])


@dataclass(frozen=True, eq=False)
class Marginalisation:
    """δ as a function of everything else: δ = gain·(s, E, y)ᵀ coefficients, for B images.

    Attributes
    ----------
    gain : (B, 6, 1 + r)
        -∂δ/∂ζ.
    start : (B, 6)
        δ of the image alone.
    """

    gain: Float64
    start: Float64

    def cross_moment(self, first: Float64, second: Float64) -> Float64:
        """E[δ ζᵀ], (B, 6, 1 + r), from the moments of ζ."""
        return self.start[:, :, None] * first[:, None, :] - self.gain @ second


def marginalise(products: Float64, centre: Float64) -> tuple[Float64, Marginalisation]:
    """Gram matrices (B, C + 6 + 1, ..) of (W, T, y) with δ ~ N(centre, I) integrated out.

    Returns
    -------
    (B, C + 1, C + 1) float64
        Of (W, y).
    Marginalisation
    """
    count = products.shape[1] - MOTIONS - 1
    keep = np.append(np.arange(count), count + MOTIONS)
    moved = products.copy()
    # y - T centre in the place of y
    inside = slice(count, count + MOTIONS)
    shift = np.einsum("bij,bj->bi", products[:, :, inside], centre)
    moved[:, -1, :] -= shift
    moved[:, :, -1] -= shift
    moved[:, -1, -1] += np.einsum("bi,bi->b", shift[:, inside], centre)
    coupling = moved[:, inside][:, :, keep]
    gain = np.asarray(
        np.linalg.solve(np.eye(MOTIONS) + moved[:, inside, inside], coupling), dtype=np.float64
    )
    reduced = moved[:, keep][:, :, keep] - coupling.transpose(0, 2, 1) @ gain
    return reduced, Marginalisation(gain[:, :, :-1], centre + gain[:, :, -1])
