"""One pixel's place on the lattice: the arithmetic that the kernels of CPU and GPU share.

Plain functions of float32 numbers, in the part of Python that numba compiles. `window.py` hands them to
the CPU's compiler and chooses among them by width; `numba_cuda_backend.py` hands them to the GPU's.

More than seven arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from solvar.imaging.projector.kernel import KAISER_CENTRE, KAISER_EVEN, KAISER_ODD

_f = np.float32
_C0, _C1, _C2 = (_f(x) for x in KAISER_CENTRE)
_E0, _E1, _E2 = (_f(x) for x in KAISER_EVEN)
_O0, _O1 = (_f(x) for x in KAISER_ODD)


def whole(x: Any) -> Any:
    """The largest whole number ≤ x, float32; each compiler has its own way to say it."""
    return np.floor(x)


def turned(r00, r01, r10, r11, r20, r21, u, v):  # type: ignore[no-untyped-def]
    """Position (x, y, z) of the pixel (u, v) under the two columns of a frame, and a sign.

    Only x ≥ 0 is stored. The sign is -1 where x < 0: the position is then the opposite one, and the value
    there the conjugate of the pixel's.
    """
    x = r00 * u + r01 * v
    s = _f(-1.0) if x < 0 else _f(1.0)
    return s * x, s * (r10 * u + r11 * v), s * (r20 * u + r21 * v), s


def offset(ix, iy, iz, point, row, plane, origin):  # type: ignore[no-untyped-def]
    """Where a lattice point lies in memory, given the strides and where (0, 0, 0) lies."""
    return iz * plane + iy * row + ix * point + origin


def _locate1(x, window):  # type: ignore[no-untyped-def]
    return whole(x + _f(0.5)), (_f(1.0),)


def _locate2(x, window):  # type: ignore[no-untyped-def]
    low = whole(x)
    d = x - low
    return low, (_f(1.0) - d, d)


def _slope2(x, window):  # type: ignore[no-untyped-def]
    return (_f(-1.0), _f(1.0))


def _locate3(x, window):  # type: ignore[no-untyped-def]
    middle = whole(x + _f(0.5))
    d = x - middle
    t = d * d
    even = _E0 + t * (_E1 + t * _E2)
    odd = d * (_O0 + t * _O1)
    return middle - _f(1.0), (even - odd, _C0 + t * (_C1 + t * _C2), even + odd)


def _slope3(x, window):  # type: ignore[no-untyped-def]
    d = x - whole(x + _f(0.5))
    t = d * d
    even = d * (_f(2.0) * _E1 + _f(4.0) * t * _E2)
    odd = _O0 + _f(3.0) * t * _O1
    return (even - odd, d * (_f(2.0) * _C1 + _f(4.0) * t * _C2), even + odd)


# by width: the lowest lattice point of the window around x with its w weights, and the weights' slopes;
# width 1 has none (`InterpolationKernel.slope_width`)
LOCATE = (_locate1, _locate2, _locate3)
SLOPE = (None, _slope2, _slope3)
