"""A bank of slices: the mean of a model at many rotations, compared with many images by matrix products.

Slices are stored without CTF, so that one bank serves every image. Of an image y with CTF C, at rotation R
and shift t, a molecule of contrast 1 has the log-likelihood Re⟨C s(R), y_t⟩ - ½‖C s(R)‖². The first term is
the inner product of s(R) with C y_t: images and shifts times rotations, one matrix product over pixels. The
second is one over shells, as C² hardly changes along a shell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.band import Band
from solvar.estimation.image_batch import frames_of
from solvar.estimation.kernels import on_host

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# rotations whose slices are held at once
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class SliceBank:
    """Slices of one volume at K rotations.

    Attributes
    ----------
    slices : (K, n) complex64
        Without CTF.
    power : (K, S) float32
        Mean |s|² over the pixels of each shell.
    """

    slices: Complex64
    power: Float32

    @classmethod
    def of(
        cls, band: Band, prepared: Any, rotation: Float64, stretch: Float64 | None = None
    ) -> SliceBank:
        """Of a volume that the band's projector has prepared, at rotations (K, 3, 3).

        Parameters
        ----------
        band : Band
        prepared : lattice
            Of one volume.
        rotation : (K, 3, 3)
        stretch : (2, 2), optional
            Of the optics group of the images, see `CommonGrid`.
        """
        plain = np.ones((len(rotation), len(band.disc)), np.float32)
        frame = frames_of(rotation, None, stretch)
        slices = on_host(band.projector.project(prepared, frame, plain))[:, 0]
        shell = band.disc.shell
        share = np.zeros((len(shell), band.k_c + 1), np.float32)
        share[np.arange(len(shell)), shell] = 1 / np.bincount(shell)[shell]
        square = slices.real**2 + slices.imag**2
        return cls(slices, (square @ share).astype(np.float32))

    def log_likelihood(self, pictures: Pictures) -> Float32:
        """Log-likelihood (B, T, K) of images at their T shifts, up to constants of the images."""
        count, shifts, _ = pictures.moved.shape
        pixels = np.ascontiguousarray(pictures.moved).view(np.float32).reshape(count * shifts, -1)
        overlap = pixels @ np.ascontiguousarray(self.slices).view(np.float32).T
        overlap = overlap.reshape(count, shifts, -1)
        overlap -= 0.5 * (pictures.ctf_power @ self.power.T)[:, None]
        return overlap


@dataclass(frozen=True, eq=False)
class Pictures:
    """What a bank is compared with: B images of particles, each at T shifts.

    Attributes
    ----------
    moved : (B, T, n) complex64
        C y_t.
    ctf_power : (B, S) float32
        Sum of C² over each shell.
    stretch : (2, 2) float64 or None
        Of the optics group of all of them, see `CommonGrid`.
    near : (B, 3, 3) float64 or None
        Rotations that are looked for around; None for everywhere.
    reach : float
        Radians around these.
    """

    moved: Complex64
    ctf_power: Float32
    stretch: Float64 | None = None
    near: Float64 | None = None
    reach: float = np.pi

    def within_reach(self, rotation: Float64) -> NDArray[np.bool_]:
        """Which of K rotations each image may have, (B, K)."""
        assert self.near is not None
        trace = self.near.reshape(-1, 9) @ rotation.reshape(-1, 9).T
        return np.asarray(trace >= 1 + 2 * np.cos(self.reach))


@dataclass(frozen=True, eq=False)
class Best:
    """The best of the rotations that B particles have been compared with so far, in no order.

    Attributes
    ----------
    keep : int
        At most so many of each.
    value : (B, k) float32
    which : (B, k) int64
    """

    keep: int
    value: Float32
    which: Int64

    @classmethod
    def none(cls, count: int, keep: int) -> Best:
        """Before the first of them."""
        return cls(keep, np.empty((count, 0), np.float32), np.empty((count, 0), np.int64))

    def joined(self, value: Float32, start: int) -> Best:
        """With rotations from number `start` on, of values (B, n)."""
        here = np.broadcast_to(start + np.arange(value.shape[1]), value.shape)
        best = np.concatenate([self.value, value], axis=1)
        which = np.concatenate([self.which, here], axis=1)
        if best.shape[1] > self.keep:
            chosen = np.argpartition(-best, self.keep - 1, axis=1)[:, : self.keep]
            best = np.take_along_axis(best, chosen, axis=1)
            which = np.take_along_axis(which, chosen, axis=1)
        return Best(self.keep, best, which)


def best_rotations(
    band: Band, prepared: Any, pictures: Pictures, rotation: Float64, keep: int
) -> Int64:
    """Which of K rotations fit images best, each at the best of its shifts, (B, keep) in no order.

    The bank is made piece by piece: memory does not depend on K.

    Parameters
    ----------
    band : Band
    prepared : lattice
        Of one volume, which the band's projector has prepared.
    pictures : Pictures
    rotation : (K, 3, 3)
    keep : int
    """
    best = Best.none(len(pictures.moved), keep)
    for start in range(0, len(rotation), _BLOCK):
        some = rotation[start : start + _BLOCK]
        bank = SliceBank.of(band, prepared, some, pictures.stretch)
        value = bank.log_likelihood(pictures).max(axis=1)
        if pictures.near is not None:
            value[~pictures.within_reach(some)] = -np.inf
        best = best.joined(value, start)
    return best.which
