"""The slow background and the strength of images, from the pixels that the particle leaves free.

A background is a polynomial of second degree: offset, slopes, and what lamps and ice leave of curvature. Its
modes are made orthonormal over the pixels outside the particle, so that a least-squares fit is one product.
What noise alone makes of such a fit follows from its spectrum (`error`). Taking a fit out spreads its error
over the Fourier coefficients of lowest frequency; `variance` says exactly by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import HalfDisc, images_to_disc
from solvar.imaging.noise import corner_window, frequency_shells, ring_means

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# A mode that so little is left of, outside the particle and beside the others, cannot be told from them.
_LEAST_LEFT = 1e-3
# images at a time, so that the copies that a fit needs stay small
_FEW = 64


@dataclass(frozen=True, eq=False)
class Background:
    """What is outside the particle in images of one size.

    Attributes
    ----------
    box : int
        Edge of the images in pixels.
    radius : float
        Pixels within this distance of the centre belong to the particle.
    """

    box: int
    radius: float

    @cached_property
    def window(self) -> Float32:
        """Weight of each pixel, (L, L): 0 inside, 1 outside."""
        return corner_window(self.box, self.radius)

    @cached_property
    def modes(self) -> Float64:
        """Up to six polynomials (p, L, L), orthonormal under the window; the first is constant."""
        axis = (np.arange(self.box) - self.box // 2) * (2 / self.box)
        y, x = np.meshgrid(axis, axis, indexing="ij")
        weight = self.window.astype(np.float64)
        modes = list[Float64]()
        for mode in (np.ones_like(x), x, y, x**2 + y**2, x**2 - y**2, x * y):
            whole = np.sum(weight * mode**2)
            for _ in range(2):  # once more, for rounding
                for other in modes:
                    mode = mode - np.sum(weight * mode * other) * other
            left = np.sum(weight * mode**2)
            if not modes or left > _LEAST_LEFT * whole:
                modes.append(mode / np.sqrt(left))
        return np.stack(modes)

    @cached_property
    def _fit(self) -> Float32:
        """Maps an image (L²) to its coefficients, (L², p)."""
        return (self.window * self.modes).reshape(len(self.modes), -1).T.astype(np.float32)

    @cached_property
    def _flat(self) -> Float32:
        return self.modes.reshape(len(self.modes), -1).astype(np.float32)

    @cached_property
    def _parts(self) -> Float32:
        """Weights (L², 3) of mean squares: the whole outside, two opposite quadrants, and the others."""
        axis = np.arange(self.box) - (self.box - 1) / 2
        y, x = np.meshgrid(axis, axis, indexing="ij")
        first = x * y > 0
        parts = np.stack([self.window, self.window * first, self.window * ~first]).reshape(3, -1)
        return np.asarray((parts / parts.sum(axis=1, keepdims=True)).T, dtype=np.float32)

    def fitted(self, images: Float32) -> tuple[Float64, Float64]:
        """The backgrounds of images, and the noise beside them.

        Parameters
        ----------
        images : (B, L, L)

        Returns
        -------
        coefficients : (B, p) float64
            Of the modes, in grey levels.
        spread : (B, 3) float64
            Root mean square of what is left outside the particle, and in two halves of it.
        """
        coefficients = np.empty((len(images), len(self.modes)))
        square = np.empty((len(images), 3))
        for first in range(0, len(images), _FEW):
            part = slice(first, first + _FEW)
            flat = images[part].reshape(-1, self.box**2)
            # single precision has no digits to spare for counts of a thousand
            centre = flat.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
            rest = flat - centre
            found = rest @ self._fit
            rest -= found @ self._flat
            square[part] = (rest * rest) @ self._parts
            found = found.astype(np.float64)
            found[:, 0] += centre[:, 0] * np.sqrt(self.window.sum(dtype=np.float64))
            coefficients[part] = found
        return coefficients, np.sqrt(square)

    def subtract(self, images: Float32, coefficients: Float64) -> None:
        """Take backgrounds of these coefficients (B, p) out of images (B, L, L), in place."""
        for first in range(0, len(images), _FEW):
            part = slice(first, first + _FEW)
            slow = coefficients[part].astype(np.float32) @ self._flat
            images[part] -= slow.reshape(-1, self.box, self.box)

    @cached_property
    def _transform(self) -> NDArray[np.complex128]:
        """Transforms of the windowed modes, (p, L, L): what a fit picks from an image."""
        return np.fft.fft2(self.window * self.modes)

    def error(self, power: Float64) -> Float64:
        """Covariance (p, p) of the coefficients of noise alone.

        Parameters
        ----------
        power : (S,) float64
            Of the noise, in all shells of the plane up to its corner.
        """
        plane = power[frequency_shells(self.box)]
        picked = self._transform.reshape(len(self.modes), -1)
        covariance = (picked * plane.ravel()) @ picked.conj().T
        return np.asarray(covariance.real, dtype=np.float64) / self.box**4

    def variance(self, disc: HalfDisc, power: Float64, gain: Float64, left: Float64) -> Float64:
        """Variance of an image's coefficients once its background is estimated and taken out.

        Parameters
        ----------
        disc : HalfDisc
            Of n pixels.
        power : (S,) float64
            Of the noise, as for `error`.
        gain : (p, p) float64
            K: what is taken out is K times the fitted coefficients.
        left : (p, p) float64
            Covariance of true background minus estimate.

        Returns
        -------
        (n,) float64
            Relative to the noise: 1 where nothing changes.

        Notes
        -----
        With modes q, fit f = w q, background b and noise e, an image becomes e + qᵀ(b - K(b + fᵀe)). Its
        coefficient at k has the variance Φ - 2 Φ/L² Re(q̂* K f̂) + q̂* left q̂: the estimate holds a
        part of the noise that it is taken from.
        """
        square = (len(self.modes), self.box, self.box)
        shape = images_to_disc(self.modes.astype(np.float32), disc).astype(np.complex128)
        picked = images_to_disc(self._fit.T.reshape(square), disc).astype(np.complex128)
        noise = power[disc.shell]
        shared = np.einsum("in,ij,jn->n", shape.conj(), gain, picked).real
        own = np.einsum("in,ij,jn->n", shape.conj(), left, shape).real
        return 1 - 2 * shared / self.box**2 + own / noise

    def lost_power(self) -> Float64:
        """What taking out whole fits takes from the mean windowed power of noise.

        Returns
        -------
        (S, S) float64
            Mean power that is missing in shell s of the windowed image, of noise of unit power in shell t.
        """
        shell = frequency_shells(self.box)
        count = int(shell.max()) + 1
        windowed = self._transform
        lost = np.empty((count, count))
        for t in range(count):
            ring = windowed * (shell == t)
            # covariance of the noise with each coefficient, and that of the coefficients
            shared = np.fft.fft2(self.window * np.fft.ifft2(ring).real) / self.box**2
            flat = ring.reshape(len(ring), -1)
            both = (flat @ flat.conj().T).real / self.box**4
            taken = 2 * np.einsum("iyx,iyx->yx", windowed.conj(), shared).real
            taken -= np.einsum("iyx,ij,jyx->yx", windowed.conj(), both, windowed).real
            lost[:, t] = ring_means(taken)
        return lost
