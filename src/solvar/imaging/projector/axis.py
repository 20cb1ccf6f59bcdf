"""One axis between voxels and lattice points, by a matrix product or by FFT, whichever is less work.

Along an axis the lattice is X[k] = Σ_n A[k, n] v[n] for k = -reach … reach, with

    A[k, n] = exp(-2πi k·(n - box//2)/padded) / correction(n),    padded = upsampling · box.

Where `padded` is an integer, that is a discrete Fourier transform of v / correction, padded with zeros and
turned so that its origin stands first.

A product takes box · side complex multiplications and additions a line, an FFT the time of about 64 a point,
whatever the factors of `padded`: 64 is the one measured number (docs/decisions/0003).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Complex64 = NDArray[np.complex64]

# complex multiplications and additions of a matrix product in the time of a point of an FFT
_FFT_COST = 64


class Axis(Protocol):
    """Lines of the lattice of lines of voxels, and the adjoint in the inner product Σ re·re + im·im."""

    def forward(self, lines: NDArray[np.complexfloating], out: Complex64) -> None:
        """Lines along the middle axis, (P, box, W), to lattice points (P, side, W)."""

    def adjoint(self, points: Complex64, out: Complex64) -> None:
        """Lattice points (P, side, W) to lines (P, box, W)."""

    def forward_real(self, lines: Float32) -> Complex64:
        """Lines (P, box) of real voxels to lattice points at k = -margin … reach, (P, depth)."""

    def adjoint_real(self, points: Complex64) -> Float32:
        """Lattice points (P, depth) to lines (P, box)."""


def axis_of(box: int, padded: float, reach: int, margin: int, correction: Float64) -> Axis:
    """The axis of the least work; `forward` and `forward_real` may differ in how they work."""
    products = ByProducts(box, padded, reach, margin, correction)
    if padded != int(padded) or reach >= padded:
        return products
    side, depth = 2 * reach + 1, reach + margin + 1
    work = _FFT_COST * int(padded)
    if work > box * side:
        return products
    by_fft = ByFft(box, int(padded), reach, margin, correction)
    # real numbers halve either; what is left of a product is the half that is kept
    return _Mixed(products, by_fft) if work > box * depth else by_fft


class ByProducts:
    """Implements `Axis` by products with A."""

    def __init__(
        self, box: int, padded: float, reach: int, margin: int, correction: Float64
    ) -> None:
        position = (np.arange(box) - box // 2) / padded
        frequency = np.arange(-reach, reach + 1)
        matrix = np.exp(-2j * np.pi * frequency[:, None] * position)
        self.matrix: Complex64 = (matrix / correction).astype(np.complex64)
        self._back: Complex64 = np.ascontiguousarray(self.matrix.conj().T)
        rows = self.matrix[reach - margin :]
        # as real columns (re, im), (box, 2·depth)
        self._real: Float32 = np.ascontiguousarray(rows.T).view(np.float32)

    def forward(self, lines: NDArray[np.complexfloating], out: Complex64) -> None:
        """See `Axis`."""
        np.matmul(self.matrix, lines, out=out)

    def adjoint(self, points: Complex64, out: Complex64) -> None:
        """See `Axis`."""
        np.matmul(self._back, points, out=out)

    def forward_real(self, lines: Float32) -> Complex64:
        """See `Axis`."""
        found: Complex64 = (lines @ self._real).view(np.complex64)
        return found

    def adjoint_real(self, points: Complex64) -> Float32:
        """See `Axis`."""
        found: Float32 = points.view(np.float32) @ self._real.T
        return found


class ByFft:
    """Implements `Axis` by FFTs of lines of `padded` points."""

    def __init__(self, box: int, padded: int, reach: int, margin: int, correction: Float64) -> None:
        self._box, self._padded, self._reach, self._margin = box, padded, reach, margin
        self._middle = box // 2
        self._factor: Float32 = (1 / correction).astype(np.float32)

    def forward(self, lines: NDArray[np.complexfloating], out: Complex64) -> None:
        """See `Axis`."""
        import scipy.fft

        middle, reach, factor = self._middle, self._reach, self._factor[:, None]
        turned = np.empty((len(lines), self._padded, lines.shape[2]), np.complex64)
        ahead = self._box - middle
        np.multiply(lines[:, middle:], factor[middle:], out=turned[:, :ahead])
        turned[:, ahead : self._padded - middle] = 0
        np.multiply(lines[:, :middle], factor[:middle], out=turned[:, self._padded - middle :])
        found = scipy.fft.fft(turned, axis=1, overwrite_x=True)
        out[:, reach:] = found[:, : reach + 1]
        out[:, :reach] = found[:, self._padded - reach :]

    def adjoint(self, points: Complex64, out: Complex64) -> None:
        """See `Axis`."""
        import scipy.fft

        middle, reach, factor = self._middle, self._reach, self._factor[:, None]
        turned = np.empty((len(points), self._padded, points.shape[2]), np.complex64)
        turned[:, : reach + 1] = points[:, reach:]
        turned[:, reach + 1 :] = 0
        # k and k - padded, where both are on the lattice, are one frequency
        turned[:, self._padded - reach :] += points[:, :reach]
        found = scipy.fft.ifft(turned, axis=1, norm="forward", overwrite_x=True)
        np.multiply(found[:, : self._box - middle], factor[middle:], out=out[:, middle:])
        np.multiply(found[:, self._padded - middle :], factor[:middle], out=out[:, :middle])

    def forward_real(self, lines: Float32) -> Complex64:
        """See `Axis`."""
        import scipy.fft

        middle, margin = self._middle, self._margin
        turned = np.zeros((len(lines), self._padded), np.float32)
        ahead = self._box - middle
        np.multiply(lines[:, middle:], self._factor[middle:], out=turned[:, :ahead])
        turned[:, self._padded - middle :] = lines[:, :middle] * self._factor[:middle]
        half = scipy.fft.rfft(turned, axis=1)
        out = np.empty((len(lines), margin + self._reach + 1), np.complex64)
        direct, beyond = self._kept()
        out[:, margin : margin + direct] = half[:, :direct]
        np.conjugate(half[:, margin:0:-1], out=out[:, :margin])
        np.conjugate(half[:, beyond], out=out[:, margin + direct :])
        return out

    def adjoint_real(self, points: Complex64) -> Float32:
        """See `Axis`."""
        import scipy.fft

        middle, margin = self._middle, self._margin
        half = np.zeros((len(points), self._padded // 2 + 1), np.complex64)
        direct, beyond = self._kept()
        half[:, :direct] = points[:, margin : margin + direct]
        half[:, margin:0:-1] += np.conjugate(points[:, :margin])
        half[:, beyond] += np.conjugate(points[:, margin + direct :])
        # an inverse transform counts each of these twice, but those that are their own conjugates
        half[:, : (self._padded + 1) // 2] *= np.float32(0.5)
        half[:, 0] *= 2
        found = scipy.fft.irfft(half, self._padded, axis=1, norm="forward")
        out = np.empty((len(points), self._box), np.float32)
        np.multiply(found[:, : self._box - middle], self._factor[middle:], out=out[:, middle:])
        np.multiply(found[:, self._padded - middle :], self._factor[:middle], out=out[:, :middle])
        return out

    def _kept(self) -> tuple[int, NDArray[np.int64]]:
        """How many k ≥ 0 a transform of real numbers holds, and where conjugates of further ones stand."""
        direct = min(self._reach, self._padded // 2) + 1
        return direct, self._padded - np.arange(direct, self._reach + 1)


class _Mixed:
    """Complex lines by one way, real ones by another; implements `Axis`."""

    def __init__(self, real: Axis, whole: Axis) -> None:
        self.forward_real, self.adjoint_real = real.forward_real, real.adjoint_real
        self.forward, self.adjoint = whole.forward, whole.adjoint
