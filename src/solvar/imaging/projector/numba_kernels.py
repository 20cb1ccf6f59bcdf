"""The hot loops: read slices off the lattice, add slices back to it.

Per pixel and window the C channels of the w points along kx are one contiguous run of 2·w·C floats
(layout: `lattice.py`); w² such rows are combined with vector multiply-adds, then the w points along
kx are summed. Bytes and flops of one pixel, w = 3, C = 5 (rank 4): 9 rows × 120 B = 1,080 B read
(forward), read and written (scatter); 9 · 30 multiply-adds + 30. The lattice (11 MB at box 64,
upsampling 1.25) does not fit the L2 cache, so reuse between neighbouring pixels and images decides;
`benchmarks/projector.py` prints the share of the measured memory bandwidth.

Kernels are made once per window width, so that the loops over the window unroll, and are compiled
without parallel=True: they release the GIL and the caller's threads run them over image ranges
(forward) or lattice slabs (scatter). Every lattice value is written by one thread, images in order,
which makes the sums the same to the last bit for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np

from solvar.imaging.projector import simd
from solvar.imaging.projector.window import WINDOWS

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": True,
    "boundscheck": False,
    "error_model": "numpy",
    "cache": True,
}
_f = np.float32
_u = np.uintp
_LANES = np.uintp(simd.LANES)


@cache
def forward_kernel(width: int) -> Callable[..., None]:
    """Compiled `forward` for a window of `width` points.

    forward(lattice, side, depth, margin, reach, upsampling, rotation, kx, ky, scale, out, first,
    last) writes out[b, c, 2p:2p+2] = scale[b, p] · (slice of channel c at pixel p of image b) for images
    first ≤ b < last; rotation (B, 3, 3), kx, ky (n,), scale (B, n), out (B, C, 2n), all float32.
    """
    locate, gather, along_x, _ = WINDOWS[width]

    @numba.njit(**OPTIONS)
    def forward(  # type: ignore[no-untyped-def]
        lattice, side, depth, margin, reach, upsampling, rotation, kx, ky, scale, out, first, last
    ):
        channels = out.shape[1]
        point = _u(2 * channels)
        row, plane = _u(depth) * point, _u(side * depth) * point
        run = _u(width) * point
        summed = np.empty(width * 2 * channels + simd.LANES, _f)
        for b in range(first, last):
            r00, r01 = rotation[b, 0, 0] * upsampling, rotation[b, 0, 1] * upsampling
            r10, r11 = rotation[b, 1, 0] * upsampling, rotation[b, 1, 1] * upsampling
            r20, r21 = rotation[b, 2, 0] * upsampling, rotation[b, 2, 1] * upsampling
            for p in range(_u(len(kx))):
                x, y = r00 * kx[p] + r01 * ky[p], r10 * kx[p] + r11 * ky[p]
                z = r20 * kx[p] + r21 * ky[p]
                real_scale = scale[b, p]
                imag_scale = real_scale
                if x < 0:  # read the conjugate at the opposite point
                    x, y, z, imag_scale = -x, -y, -z, -real_scale
                (ix, tx), (iy, ty), (iz, tz) = locate(x), locate(y), locate(z)
                start = (
                    _u(int(iz) + reach) * plane
                    + _u(int(iy) + reach) * row
                    + _u(int(ix) + margin) * point
                )
                for q in range(_u(0), run, _LANES):
                    value = gather(lattice, start + q, row, plane, ty, tz)
                    simd.store(summed, q, value)
                for c in range(_u(channels)):
                    re = along_x(summed, _u(2) * c, point, tx)
                    im = along_x(summed, _u(2) * c + _u(1), point, tx)
                    out[b, c, _u(2) * p] = real_scale * re
                    out[b, c, _u(2) * p + _u(1)] = imag_scale * im

    return forward


@cache
def scatter_kernel(width: int) -> Callable[..., None]:
    """Compiled `scatter`, the adjoint of `forward`, restricted to a slab of the lattice.

    scatter(lattice, side, depth, margin, reach, upsampling, rotation, kx, ky, scale, image, low,
    high) adds scale·image to the lattice planes low ≤ kz + reach < high; image (B, C, 2n) float32.
    """
    locate, _, _, spread_x = WINDOWS[width]

    @numba.njit(**OPTIONS)
    def scatter(  # type: ignore[no-untyped-def]
        lattice, side, depth, margin, reach, upsampling, rotation, kx, ky, scale, image, low, high
    ):
        channels = image.shape[1]
        point = _u(2 * channels)
        row, plane = _u(depth) * point, _u(side * depth) * point
        run = _u(width) * point
        spread = np.zeros(width * 2 * channels + simd.LANES, _f)
        for b in range(len(image)):
            r00, r01 = rotation[b, 0, 0] * upsampling, rotation[b, 0, 1] * upsampling
            r10, r11 = rotation[b, 1, 0] * upsampling, rotation[b, 1, 1] * upsampling
            r20, r21 = rotation[b, 2, 0] * upsampling, rotation[b, 2, 1] * upsampling
            for p in range(_u(len(kx))):
                x, z = r00 * kx[p] + r01 * ky[p], r20 * kx[p] + r21 * ky[p]
                sign = _f(1.0)
                if x < 0:
                    x, z, sign = -x, -z, _f(-1.0)
                iz, tz = locate(z)
                first_plane = int(iz) + reach
                if first_plane + width <= low or first_plane >= high:
                    continue
                y = sign * (r10 * kx[p] + r11 * ky[p])
                (ix, tx), (iy, ty) = locate(x), locate(y)
                for c in range(_u(channels)):
                    re = scale[b, p] * image[b, c, _u(2) * p]
                    im = sign * scale[b, p] * image[b, c, _u(2) * p + _u(1)]
                    spread_x(spread, _u(2) * c, point, tx, re)
                    spread_x(spread, _u(2) * c + _u(1), point, tx, im)
                start = _u(int(iy) + reach) * row + _u(int(ix) + margin) * point
                for j in range(width):
                    if first_plane + j < low or first_plane + j >= high:
                        continue
                    for i in range(width):
                        at = start + _u(first_plane + j) * plane + _u(i) * row
                        factor = tz[j] * ty[i]
                        # the lanes past the run add zeros to the next points of the same row
                        for q in range(_u(0), run, _LANES):
                            value = simd.load(lattice, at + q)
                            value = simd.multiply_add(simd.load(spread, q), factor, value)
                            simd.store(lattice, at + q, value)

    return scatter
