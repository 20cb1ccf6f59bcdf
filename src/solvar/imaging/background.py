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
# The noise itself is known to 10 %: what is less shared than that is left.
_TOLERANCE, _LEAST = 0.1, 1e-2
# Added to the noise, it makes a coefficient tell nothing. Up to the next frequency coefficients are given up
# if that loses least: a background of second degree has little beyond.
_GIVEN_UP = 1e6
_MOST_GIVEN_UP = 4
_STEPS = 200
# beyond this frequency there is next to nothing of it
_REACH = 24
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

    @cached_property
    def _picking(self) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
        """The same as (p, L²), and its adjoint."""
        picked = self._transform.reshape(len(self.modes), -1)
        return picked, picked.conj().T

    def error(self, power: Float64) -> Float64:
        """Covariance (p, p) of the coefficients of noise alone.

        Parameters
        ----------
        power : (S,) float64
            Of the noise, in all shells of the plane up to its corner.
        """
        picked, adjoint = self._picking
        covariance = (picked * power[frequency_shells(self.box)].ravel()) @ adjoint
        return np.asarray(covariance.real, dtype=np.float64) / self.box**4

    def variance(self, disc: HalfDisc, power: Float64, gain: Float64, left: Float64) -> Float64:
        """Variance to believe of noise once backgrounds are estimated and taken out of images.

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
        With modes q, fit f = w q, background b and noise e of power Φ, an image becomes
        e + qᵀ(b - K(b + fᵀe)). Its coefficients have the covariance

            Φ + q̂ left q̂* - q̂ K f̂* Φ/L² - Φ/L² f̂ Kᵀ q̂*.

        What is beyond Φ is shared by coefficients: the error of an offset is a disc in the middle of the
        image. They are believed to be independent, so with no more than their own variances such a disc
        would look like a molecule that comes and goes. These variances dominate the covariance: in no
        direction of the image is there more noise than they say.
        """
        if not gain.any():
            return np.ones(len(disc))
        whole, disc = disc, disc.prefix(min(disc.k_c, _REACH))
        transform, fit = (
            images_to_disc(each.astype(np.float32), disc).T * np.sqrt(disc.weight)[:, None]
            for each in (self.modes, self.window * self.modes)
        )
        noise = np.sqrt(power[disc.shell])[:, None]
        both = np.hstack([transform / noise, fit * noise / self.box**2]).astype(np.complex128)
        core = np.block([[left, -gain], [-gain.T, np.zeros_like(left)]])
        rows = np.stack([both.real, both.imag])
        distance = np.hypot(disc.kx, disc.ky)
        found = [
            dominating(rows, core, distance <= given_up) for given_up in range(_MOST_GIVEN_UP + 1)
        ]
        best = min(found, key=lambda more: float(np.sum(more / (1 + more))))
        return np.concatenate([1 + best, np.ones(len(whole) - len(disc))])

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


def dominating(rows: Float64, core: Float64, given_up: NDArray[np.bool_]) -> Float64:
    """What to add to the variances of coefficients so that they dominate a covariance.

    Parameters
    ----------
    rows : (2, n, r) float64
        W, real and imaginary parts.
    core : (r, r) float64
        M, symmetric: the covariance is 1 + W M Wᵀ.
    given_up : (n,) bool
        Coefficients that need not tell anything.

    Returns
    -------
    (n,) float64
        t, with diag(t) + tolerance - W M Wᵀ positive semidefinite; of coefficients that are not given up
        little more than needed.
    """
    more = np.full(rows.shape[1], _TOLERANCE)
    more[given_up] = _GIVEN_UP
    for _ in range(_STEPS):
        scaled = rows / np.sqrt(more)[:, None]
        # the eigenvalues that diag(t)^-½ W M Wᵀ diag(t)^-½ has beside 0
        axis, triangle = np.linalg.qr(scaled.reshape(-1, rows.shape[2]))
        value, turn = np.linalg.eigh(triangle @ core @ triangle.T)
        beyond = np.maximum(value - 1, 0)
        if beyond[-1] < _LEAST:
            break
        share = (axis @ turn).reshape(rows.shape) ** 2 @ beyond
        more = np.where(given_up, more, more * (1 + np.minimum(share.sum(axis=0), 1)))
    return more - _TOLERANCE
