"""The arithmetic of one interpolation window, spelled out for widths 1, 2 and 3.

Each width has four inlined functions: `locate` (window start and weights of a coordinate), `keep` and
`recall` (weights into column i of an array and back), and `gather` (weighted sum of the w² rows of a
window). They are written out because the compiler keeps the weights in registers then: with loops
over small weight arrays the projector ran 2.4 times slower.
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
    keep: Callable[..., Any]
    recall: Callable[..., Any]
    gather: Callable[..., Any]


@inline
def _locate1(x):  # type: ignore[no-untyped-def]
    return np.floor(x + _f(0.5)), (_f(1.0),)


@inline
def _keep1(weights, i, taps):  # type: ignore[no-untyped-def]
    weights[0, i] = taps[0]


@inline
def _recall1(weights, i):  # type: ignore[no-untyped-def]
    return (weights[0, i],)


@inline
def _gather1(lattice, at, row, plane, ty, tz):  # type: ignore[no-untyped-def]
    return load(lattice, at)


@inline
def _locate2(x):  # type: ignore[no-untyped-def]
    low = np.floor(x)
    d = x - low
    return low, (_f(1.0) - d, d)


@inline
def _keep2(weights, i, taps):  # type: ignore[no-untyped-def]
    weights[0, i] = taps[0]
    weights[1, i] = taps[1]


@inline
def _recall2(weights, i):  # type: ignore[no-untyped-def]
    return (weights[0, i], weights[1, i])


@inline
def _gather2(lattice, at, row, plane, ty, tz):  # type: ignore[no-untyped-def]
    value = scale(load(lattice, at), tz[0] * ty[0])
    value = multiply_add(load(lattice, at + row), tz[0] * ty[1], value)
    value = multiply_add(load(lattice, at + plane), tz[1] * ty[0], value)
    return multiply_add(load(lattice, at + plane + row), tz[1] * ty[1], value)


@inline
def _locate3(x):  # type: ignore[no-untyped-def]
    middle = np.floor(x + _f(0.5))
    d = x - middle
    t = d * d
    even = _E0 + t * (_E1 + t * _E2)
    odd = d * (_O0 + t * _O1)
    return middle - _f(1.0), (even - odd, _C0 + t * (_C1 + t * _C2), even + odd)


@inline
def _keep3(weights, i, taps):  # type: ignore[no-untyped-def]
    weights[0, i] = taps[0]
    weights[1, i] = taps[1]
    weights[2, i] = taps[2]


@inline
def _recall3(weights, i):  # type: ignore[no-untyped-def]
    return (weights[0, i], weights[1, i], weights[2, i])


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


WINDOWS = {
    1: Window(_locate1, _keep1, _recall1, _gather1),
    2: Window(_locate2, _keep2, _recall2, _gather2),
    3: Window(_locate3, _keep3, _recall3, _gather3),
}
