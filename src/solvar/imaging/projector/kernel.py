"""Interpolation kernels: how a value between lattice points is read, and what that costs.

A kernel of width w weighs the w lattice points around a position with piecewise polynomials of its
distance d to the middle of the window, d in [-½, ½]. Interpolating in Fourier space multiplies the
volume by the kernel's transform; dividing by it beforehand (the gridding correction) undoes that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Shape of the Kaiser-Bessel window of width 3; chosen for the smallest worst error of a source
# anywhere within 0.35 box lengths of the centre at upsampling 1.25 (docs/decisions/0002).
KAISER_BETA = 5.8


# Arithmetic alone, so that numpy arrays and torch tensors both go in
def _nearest(d: Any) -> tuple[Any, ...]:
    return (0 * d + 1,)


def _trilinear(d: Any) -> tuple[Any, ...]:
    return 0.5 - d, 0.5 + d


def _no_slope(d: Any) -> tuple[Any, ...]:
    return (0 * d,)


def _trilinear_slope(d: Any) -> tuple[Any, ...]:
    return 0 * d - 1, 0 * d + 1


def _kaiser_bessel(x: Float64) -> Float64:
    return np.i0(KAISER_BETA * np.sqrt(np.maximum(1 - (2 * x / 3) ** 2, 0))) / np.i0(KAISER_BETA)


def _fit_kaiser() -> tuple[list[float], list[float], list[float]]:
    """Quartic fit to the Kaiser-Bessel window: central tap, even and odd part of the outer taps."""
    d = np.linspace(-0.5, 0.5, 401)
    powers = np.stack([np.ones_like(d), d**2, d**4], axis=1)
    right, left = _kaiser_bessel(1 - d), _kaiser_bessel(1 + d)
    centre = np.linalg.lstsq(powers, _kaiser_bessel(d), rcond=None)[0]
    even = np.linalg.lstsq(powers, (right + left) / 2, rcond=None)[0]
    odd = np.linalg.lstsq(powers[:, :2] * d[:, None], (right - left) / 2, rcond=None)[0]
    return centre.tolist(), even.tolist(), odd.tolist()


KAISER_CENTRE, KAISER_EVEN, KAISER_ODD = _fit_kaiser()


def _kaiser(d: Any) -> tuple[Any, ...]:
    t = d * d
    centre = KAISER_CENTRE[0] + t * (KAISER_CENTRE[1] + t * KAISER_CENTRE[2])
    even = KAISER_EVEN[0] + t * (KAISER_EVEN[1] + t * KAISER_EVEN[2])
    odd = d * (KAISER_ODD[0] + t * KAISER_ODD[1])
    return even - odd, centre, even + odd


def _kaiser_slope(d: Any) -> tuple[Any, ...]:
    t = d * d
    centre = d * (2 * KAISER_CENTRE[1] + 4 * t * KAISER_CENTRE[2])
    even = d * (2 * KAISER_EVEN[1] + 4 * t * KAISER_EVEN[2])
    odd = KAISER_ODD[0] + 3 * t * KAISER_ODD[1]
    return even - odd, centre, even + odd


@dataclass(frozen=True)
class InterpolationKernel:
    """A separable interpolation kernel.

    Attributes
    ----------
    name : str
    width : int
        Number of lattice points per axis, w.
    upsampling : float
        Zero-padding factor that suits it.
    taps : callable
        Distances d of any shape -> w arrays of weights, lowest lattice point first.
    slopes : callable
        Their derivatives with respect to d.
    """

    name: str
    width: int
    upsampling: float
    taps: Callable[[Any], tuple[Any, ...]]
    slopes: Callable[[Any], tuple[Any, ...]]

    @property
    def slope_width(self) -> int:
        """Number of lattice points per axis that derivatives are read from.

        Steps have no derivative that could move a pose, so "nearest" takes that of "trilinear".
        """
        return max(self.width, 2)

    def correction(self, position: Float64) -> Float64:
        """The kernel's transform at real-space `position` (fractions of the padded box)."""
        node, weight = np.polynomial.legendre.leggauss(48)
        node, weight = node / 2, weight / 2
        offset = np.arange(self.width) - (self.width - 1) / 2
        phase = np.cos(2 * np.pi * (offset[:, None] - node)[..., None] * position)
        return np.einsum("wq,q,wqn->n", np.stack(self.taps(node)), weight, phase)


KERNELS = {
    kernel.name: kernel
    for kernel in (
        InterpolationKernel("nearest", 1, 2.0, _nearest, _no_slope),
        InterpolationKernel("trilinear", 2, 2.0, _trilinear, _trilinear_slope),
        InterpolationKernel("kaiser", 3, 1.25, _kaiser, _kaiser_slope),
    )
}
