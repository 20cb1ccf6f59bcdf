"""The arithmetic of one interpolation window, spelled out for widths 1, 2 and 3.

Each width has four inlined functions: `locate` (window start and weights of a coordinate), `gather`
(weighted sum of the w² rows of a window), `along_x` (weighted sum of the w points of a row) and
`spread_x` (its adjoint). They are written out because the compiler keeps the weights in registers
then: with loops over small weight arrays the projector ran 2.4 times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from solvar.imaging.projector.kernel import KAISER_CENTRE, KAISER_EVEN, KAISER_ODD
from solvar.imaging.projector.simd import load, multiply_add, scale

_f = np.float32
_u = np.uintp
_C0, _C1, _C2 = (_f(x) for x in KAISER_CENTRE)
_E0, _E1, _E2 = (_f(x) for x in KAISER_EVEN)
_O0, _O1 = (_f(x) for x in KAISER_ODD)

inline = numba.njit(inline="always", fastmath=True)


class Window(NamedTuple):
    """The four functions of one width."""

    locate: Callable[..., Any]
    gather: Callable[..., Any]
    along_x: Callable[..., Any]
    spread_x: Callable[..., Any]


@inline
def _locate1(x):  # type: ignore[no-untyped-def]
    return np.floor(x + _f(0.5)), (_f(1.0),)


@inline
def _gather1(lattice, at, row, plane, ty, tz):  # type: ignore[no-untyped-def]
    return load(lattice, at)


@inline
def _along1(summed, at, point, tx):  # type: ignore[no-untyped-def]
    return summed[at]


@inline
def _spread1(spread, at, point, tx, value):  # type: ignore[no-untyped-def]
    spread[at] = value


@inline
def _locate2(x):  # type: ignore[no-untyped-def]
    low = np.floor(x)
    d = x - low
    return low, (_f(1.0) - d, d)


@inline
def _gather2(lattice, at, row, plane, ty, tz):  # type: ignore[no-untyped-def]
    value = scale(load(lattice, at), tz[0] * ty[0])
    value = multiply_add(load(lattice, at + row), tz[0] * ty[1], value)
    value = multiply_add(load(lattice, at + plane), tz[1] * ty[0], value)
    return multiply_add(load(lattice, at + plane + row), tz[1] * ty[1], value)


@inline
def _along2(summed, at, point, tx):  # type: ignore[no-untyped-def]
    return tx[0] * summed[at] + tx[1] * summed[at + point]


@inline
def _spread2(spread, at, point, tx, value):  # type: ignore[no-untyped-def]
    spread[at] = tx[0] * value
    spread[at + point] = tx[1] * value


@inline
def _locate3(x):  # type: ignore[no-untyped-def]
    middle = np.floor(x + _f(0.5))
    d = x - middle
    t = d * d
    even = _E0 + t * (_E1 + t * _E2)
    odd = d * (_O0 + t * _O1)
    return middle - _f(1.0), (even - odd, _C0 + t * (_C1 + t * _C2), even + odd)


@inline
def _gather3(lattice, at, row, plane, ty, tz):  # type: ignore[no-untyped-def]
    value = scale(load(lattice, at), tz[0] * ty[0])
    value = multiply_add(load(lattice, at + row), tz[0] * ty[1], value)
    value = multiply_add(load(lattice, at + row + row), tz[0] * ty[2], value)
    at += plane
    value = multiply_add(load(lattice, at), tz[1] * ty[0], value)
    value = multiply_add(load(lattice, at + row), tz[1] * ty[1], value)
    value = multiply_add(load(lattice, at + row + row), tz[1] * ty[2], value)
    at += plane
    value = multiply_add(load(lattice, at), tz[2] * ty[0], value)
    value = multiply_add(load(lattice, at + row), tz[2] * ty[1], value)
    return multiply_add(load(lattice, at + row + row), tz[2] * ty[2], value)


@inline
def _along3(summed, at, point, tx):  # type: ignore[no-untyped-def]
    return tx[0] * summed[at] + tx[1] * summed[at + point] + tx[2] * summed[at + point + point]


@inline
def _spread3(spread, at, point, tx, value):  # type: ignore[no-untyped-def]
    spread[at] = tx[0] * value
    spread[at + point] = tx[1] * value
    spread[at + point + point] = tx[2] * value


WINDOWS = {
    1: Window(_locate1, _gather1, _along1, _spread1),
    2: Window(_locate2, _gather2, _along2, _spread2),
    3: Window(_locate3, _gather3, _along3, _spread3),
}
