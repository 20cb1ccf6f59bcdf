"""The arithmetic of one interpolation window, spelled out for widths 1, 2 and 3.

`locate` finds window start and weights of a coordinate and `slope` the weights' derivatives, `keep`
and `recall` put weights into column i of an array and back, `gather` and `gather_slopes` are weighted
sums of the w² rows of a window. They are written out because the compiler keeps the weights in
registers then: with loops over small weight arrays the projector ran 2.4 times slower.

The width is carried by the type of `window`, a tuple of w numbers whose values mean nothing: one
kernel source serves all widths, the compiler sees each as a constant, and its cache on disk can tell
them apart. (Kernels made by a factory that closes over other compiled functions are compiled anew in
every process.)

More than seven arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import overload

from solvar.imaging.projector import pixel
from solvar.imaging.projector.simd import load, multiply_add, scale


def locate(x: Any, window: Any) -> Any:
    """Lowest lattice point of the window around x, and the w weights, a tuple."""
    raise NotImplementedError("compiled code only")


def slope(x: Any, window: Any) -> Any:
    """Derivatives of the w weights of `locate` with respect to x, a tuple."""
    raise NotImplementedError("compiled code only")


def keep(weights: Any, i: Any, taps: Any) -> Any:
    """Write w weights to column i of an array (w, pixels)."""
    raise NotImplementedError("compiled code only")


def recall(weights: Any, i: Any, window: Any) -> Any:
    """The w weights of column i, a tuple."""
    raise NotImplementedError("compiled code only")


def gather(lattice: Any, at: Any, row: Any, plane: Any, ty: Any, tz: Any) -> Any:
    """Weighted sum of the vectors at the w² rows of a window."""
    raise NotImplementedError("compiled code only")


def gather_slopes(
    lattice: Any, at: Any, row: Any, plane: Any, ty: Any, tz: Any, dy: Any, dz: Any
) -> Any:
    """`gather` with the weights (ty, tz), (dy, tz) and (ty, dz): a tuple of three vectors."""
    raise NotImplementedError("compiled code only")


def _keep1(weights, i, taps):  # type: ignore[no-untyped-def]
    weights[0, i] = taps[0]


def _recall1(weights, i, window):  # type: ignore[no-untyped-def]
    return (weights[0, i],)


def _gather1(lattice, at, row, plane, ty, tz):  # type: ignore[no-untyped-def]
    return load(lattice, at)


def _keep2(weights, i, taps):  # type: ignore[no-untyped-def]
    weights[0, i] = taps[0]
    weights[1, i] = taps[1]


def _recall2(weights, i, window):  # type: ignore[no-untyped-def]
    return (weights[0, i], weights[1, i])


def _gather2(lattice, at, row, plane, ty, tz):  # type: ignore[no-untyped-def]
    value = scale(load(lattice, at), tz[0] * ty[0])
    value = multiply_add(load(lattice, at + row), tz[0] * ty[1], value)
    value = multiply_add(load(lattice, at + plane), tz[1] * ty[0], value)
    return multiply_add(load(lattice, at + plane + row), tz[1] * ty[1], value)


def _gather_slopes2(lattice, at, row, plane, ty, tz, dy, dz):  # type: ignore[no-untyped-def]
    first, second = load(lattice, at), load(lattice, at + row)
    value = multiply_add(second, ty[1], scale(first, ty[0]))
    along_y = multiply_add(second, dy[1], scale(first, dy[0]))
    value, along_y, along_z = scale(value, tz[0]), scale(along_y, tz[0]), scale(value, dz[0])
    first, second = load(lattice, at + plane), load(lattice, at + plane + row)
    part = multiply_add(second, ty[1], scale(first, ty[0]))
    slope_y = multiply_add(second, dy[1], scale(first, dy[0]))
    value = multiply_add(part, tz[1], value)
    return value, multiply_add(slope_y, tz[1], along_y), multiply_add(part, dz[1], along_z)


def _keep3(weights, i, taps):  # type: ignore[no-untyped-def]
    weights[0, i] = taps[0]
    weights[1, i] = taps[1]
    weights[2, i] = taps[2]


def _recall3(weights, i, window):  # type: ignore[no-untyped-def]
    return (weights[0, i], weights[1, i], weights[2, i])


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


def _gather_slopes3(lattice, at, row, plane, ty, tz, dy, dz):  # type: ignore[no-untyped-def]
    first, second, third = load(lattice, at), load(lattice, at + row), load(lattice, at + row + row)
    part = multiply_add(third, ty[2], multiply_add(second, ty[1], scale(first, ty[0])))
    slope_y = multiply_add(third, dy[2], multiply_add(second, dy[1], scale(first, dy[0])))
    value, along_y, along_z = scale(part, tz[0]), scale(slope_y, tz[0]), scale(part, dz[0])
    at += plane
    first, second, third = load(lattice, at), load(lattice, at + row), load(lattice, at + row + row)
    part = multiply_add(third, ty[2], multiply_add(second, ty[1], scale(first, ty[0])))
    slope_y = multiply_add(third, dy[2], multiply_add(second, dy[1], scale(first, dy[0])))
    value = multiply_add(part, tz[1], value)
    along_y = multiply_add(slope_y, tz[1], along_y)
    along_z = multiply_add(part, dz[1], along_z)
    at += plane
    first, second, third = load(lattice, at), load(lattice, at + row), load(lattice, at + row + row)
    part = multiply_add(third, ty[2], multiply_add(second, ty[1], scale(first, ty[0])))
    slope_y = multiply_add(third, dy[2], multiply_add(second, dy[1], scale(first, dy[0])))
    value = multiply_add(part, tz[2], value)
    return value, multiply_add(slope_y, tz[2], along_y), multiply_add(part, dz[2], along_z)


def _by_width(implementations: tuple[Any, ...], carrier: Any) -> Any:
    """The implementation for the width that the tuple type `carrier` has."""
    return implementations[len(carrier) - 1]


def _overload(function: Callable[..., Any]) -> Any:
    # numba compares the argument lists of both, annotations included: neither has any
    return overload(function, jit_options={"fastmath": True}, inline="always")


@_overload(pixel.whole)
def _choose_whole(x):  # type: ignore[no-untyped-def]
    return lambda x: np.floor(x)


@_overload(locate)
def _choose_locate(x, window):  # type: ignore[no-untyped-def]
    return _by_width(pixel.LOCATE, window)


@_overload(slope)
def _choose_slope(x, window):  # type: ignore[no-untyped-def]
    return _by_width(pixel.SLOPE, window)


@_overload(keep)
def _choose_keep(weights, i, taps):  # type: ignore[no-untyped-def]
    return _by_width((_keep1, _keep2, _keep3), taps)


@_overload(recall)
def _choose_recall(weights, i, window):  # type: ignore[no-untyped-def]
    return _by_width((_recall1, _recall2, _recall3), window)


@_overload(gather)
def _choose_gather(lattice, at, row, plane, ty, tz):  # type: ignore[no-untyped-def]
    return _by_width((_gather1, _gather2, _gather3), ty)


@_overload(gather_slopes)
def _choose_gather_slopes(lattice, at, row, plane, ty, tz, dy, dz):  # type: ignore[no-untyped-def]
    return _by_width((None, _gather_slopes2, _gather_slopes3), ty)
