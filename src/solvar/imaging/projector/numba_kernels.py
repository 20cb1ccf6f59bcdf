"""The hot loops: read slices off the lattice, add slices back to it.

Per pixel and window the C channels of the w points along kx are one contiguous run of 2·w·C floats
(layout: `lattice.py`). An image is worked through in blocks of pixels, in passes over small arrays
that stay in the first-level cache, each of which is all vector arithmetic:

    forward    locate    window starts and weights                    vectors along the pixels
               gather    w² rows of a window -> one run               vectors along the run
               x         w points of a run -> C channels, × scale     vectors along the channels
               turn      pixel-major -> channel-major                 copies of 8 bytes
    scatter    the same passes in the opposite order

Doing a whole pixel at once, with scalar code for all but `gather`, took 2 to 3 times as long: most
of its time went into scalars and into loads of what had just been stored in another width.

Bytes and flops of one pixel, w = 3, C = 5 (rank 4): 9 rows × 120 B = 1,080 B read (forward), read
and written (scatter); 9 · 30 + 30 multiply-adds. The lattice (11 MB at box 64, upsampling 1.25) does
not fit the L2 cache, so reuse between neighbouring pixels and images decides, and rows are asked for
a few pixels ahead; `benchmarks/projector.py` prints the share of the measured memory bandwidth.

The width is a constant to the compiler (`window.py`), so that the loops over the window unroll. The
compiled code is cached on disk by the time stamp of this file: touch it after editing `window.py` or
`simd.py`. The kernels are compiled without parallel=True: they release the GIL and the caller's
threads run them over image ranges (forward) or lattice slabs (scatter). Every lattice value is
written by one thread, images in order, which makes the sums the same to the last bit for any number
of threads.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from solvar.imaging.projector import simd
from solvar.imaging.projector.window import gather, keep, locate, recall, slope

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": True,
    "boundscheck": False,
    "error_model": "numpy",
    "cache": True,
}
_f, _u = np.float32, np.uintp
_LANES = np.uintp(simd.LANES)

# Pixels of one block
_BLOCK = np.uintp(128)
# Rows are asked for this many pixels ahead, if the lattice has more values than a core's own cache
_AHEAD, _IN_CACHE = np.uintp(8), 1 << 19


@numba.njit(inline="always")
def _whole_vectors(length):  # type: ignore[no-untyped-def]
    return (length + _LANES - _u(1)) // _LANES * _LANES


@numba.njit(**OPTIONS)
def forward(  # type: ignore[no-untyped-def]
    window, lattice, side, depth, margin, reach, padding, upsampling, rotation, kx, ky, scale, out,
    first, last,
):  # fmt: skip
    """Read slices: out[b, c, p] = scale[b, p] · (slice of channel c at pixel p of image b).

    For images first ≤ b < last. `window` is a tuple as long as the window is wide; rotation
    (B, 3, 3), kx, ky (n,), scale (B, n) float32; out (B, C, n) complex64 seen as float64, because
    complex numbers are only moved.
    """
    width = len(window)
    channels, pixels = _u(out.shape[1]), _u(out.shape[2])
    point = _u(2) * channels
    row, plane = _u(depth) * point, _u(side * depth) * point + _u(padding)
    run = _u(width) * point
    run_stride, point_stride = _whole_vectors(run) + _LANES, _whole_vectors(point)
    origin = reach * np.int64(plane) + reach * np.int64(row) + margin * np.int64(point)
    ahead = _AHEAD if len(lattice) > _IN_CACHE else _BLOCK
    weights = np.empty((3, width, _BLOCK), _f)
    wx, wy, wz = weights[0], weights[1], weights[2]
    start, sign = np.empty(_BLOCK, _u), np.empty(_BLOCK, _f)
    runs = np.empty(_BLOCK * run_stride, _f)
    values = np.empty(_BLOCK * point_stride, _f)
    pairs, pair_stride = values.view(np.float64), point_stride // _u(2)
    for b in range(first, last):
        r00, r01 = rotation[b, 0, 0] * upsampling, rotation[b, 0, 1] * upsampling
        r10, r11 = rotation[b, 1, 0] * upsampling, rotation[b, 1, 1] * upsampling
        r20, r21 = rotation[b, 2, 0] * upsampling, rotation[b, 2, 1] * upsampling
        for block in range(_u(0), pixels, _BLOCK):
            size = min(_BLOCK, pixels - block)
            for i in range(size):
                u, v = kx[block + i], ky[block + i]
                x = r00 * u + r01 * v
                # for x < 0 read the conjugate at the opposite point
                s = _f(-1.0) if x < 0 else _f(1.0)
                ix, tx = locate(s * x, window)
                iy, ty = locate(s * (r10 * u + r11 * v), window)
                iz, tz = locate(s * (r20 * u + r21 * v), window)
                keep(wx, i, tx)
                keep(wy, i, ty)
                keep(wz, i, tz)
                sign[i] = s
                at = np.int64(np.int32(iz)) * np.int64(plane)
                at += np.int64(np.int32(iy)) * np.int64(row)
                start[i] = _u(at + np.int64(np.int32(ix)) * np.int64(point) + origin)
            for i in range(size):
                if i + ahead < size:
                    for j in range(_u(width * width)):
                        at = start[i + ahead] + j // _u(width) * plane + j % _u(width) * row
                        for q in range(_u(0), run, _LANES):
                            simd.prefetch(lattice, at + q)
                ty, tz = recall(wy, i, window), recall(wz, i, window)
                for q in range(_u(0), run, _LANES):
                    value = gather(lattice, start[i] + q, row, plane, ty, tz)
                    simd.store(runs, i * run_stride + q, value)
            for i in range(size):
                real = scale[b, block + i]
                for q in range(_u(0), point, _LANES):
                    at = i * run_stride + q
                    value = simd.scale(simd.load(runs, at), wx[0, i])
                    for j in range(_u(1), _u(width)):
                        value = simd.multiply_add(simd.load(runs, at + j * point), wx[j, i], value)
                    value = simd.scale_complex(value, real, real * sign[i])
                    simd.store(values, i * point_stride + q, value)
            for c in range(channels):
                for i in range(size):
                    out[b, c, block + i] = pairs[i * pair_stride + c]


@numba.njit(**OPTIONS)
def scatter(  # type: ignore[no-untyped-def]
    window, lattice, side, depth, margin, reach, padding, upsampling, rotation, kx, ky, scale, image,
    low, high,
):  # fmt: skip
    """Add slices: the adjoint of `forward`, restricted to the lattice planes low ≤ kz + reach < high.

    `image` (B, C, n) complex64 seen as float64; the rest as in `forward`.
    """
    width = len(window)
    channels, pixels = _u(image.shape[1]), _u(image.shape[2])
    point = _u(2) * channels
    row, plane = _u(depth) * point, _u(side * depth) * point + _u(padding)
    run = _u(width) * point
    run_stride, point_stride = _whole_vectors(run) + _LANES, _whole_vectors(point)
    origin = reach * np.int64(row) + margin * np.int64(point)
    ahead = _AHEAD if len(lattice) > _IN_CACHE else _BLOCK
    weights = np.empty((3, width, _BLOCK), _f)
    wx, wy, wz = weights[0], weights[1], weights[2]
    start, sign = np.empty(_BLOCK, _u), np.empty(_BLOCK, _f)
    first_plane, inside = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, _u)
    # zeros, because the lanes past C channels and past a run must add nothing to what follows
    runs = np.zeros(_BLOCK * run_stride, _f)
    values = np.zeros(_BLOCK * point_stride, _f)
    pairs, pair_stride = values.view(np.float64), point_stride // _u(2)
    for b in range(len(image)):
        r00, r01 = rotation[b, 0, 0] * upsampling, rotation[b, 0, 1] * upsampling
        r10, r11 = rotation[b, 1, 0] * upsampling, rotation[b, 1, 1] * upsampling
        r20, r21 = rotation[b, 2, 0] * upsampling, rotation[b, 2, 1] * upsampling
        for block in range(_u(0), pixels, _BLOCK):
            size = min(_BLOCK, pixels - block)
            for i in range(size):
                u, v = kx[block + i], ky[block + i]
                x = r00 * u + r01 * v
                s = _f(-1.0) if x < 0 else _f(1.0)
                ix, tx = locate(s * x, window)
                iy, ty = locate(s * (r10 * u + r11 * v), window)
                iz, tz = locate(s * (r20 * u + r21 * v), window)
                keep(wx, i, tx)
                keep(wy, i, ty)
                keep(wz, i, tz)
                sign[i] = s
                first_plane[i] = np.int32(iz) + np.int32(reach)
                at = np.int64(np.int32(iy)) * np.int64(row)
                start[i] = _u(at + np.int64(np.int32(ix)) * np.int64(point) + origin)
            count = _u(0)
            for i in range(size):
                if first_plane[i] + width > low and first_plane[i] < high:
                    inside[count] = i
                    count += _u(1)
            for c in range(channels):
                for i in range(size):
                    pairs[i * pair_stride + c] = image[b, c, block + i]
            for k in range(count):
                i = inside[k]
                real = scale[b, block + i]
                # in ascending order: each store overwrites the idle lanes of the one before
                for j in range(_u(width)):
                    weight = real * wx[j, i]
                    for q in range(_u(0), point, _LANES):
                        value = simd.load(values, i * point_stride + q)
                        value = simd.scale_complex(value, weight, weight * sign[i])
                        simd.store(runs, i * run_stride + j * point + q, value)
            for k in range(count):
                if k + ahead < count:
                    i = inside[k + ahead]
                    for j in range(_u(width * width)):
                        at = start[i] + _u(first_plane[i]) * plane
                        at += j // _u(width) * plane + j % _u(width) * row
                        for q in range(_u(0), run, _LANES):
                            simd.prefetch(lattice, at + q)
                i = inside[k]
                for jz in range(width):
                    z = first_plane[i] + jz
                    if z < low or z >= high:
                        continue
                    for jy in range(width):
                        at = start[i] + _u(z) * plane + _u(jy) * row
                        weight = wz[jz, i] * wy[jy, i]
                        for q in range(_u(0), run, _LANES):
                            value = simd.load(runs, i * run_stride + q)
                            value = simd.multiply_add(value, weight, simd.load(lattice, at + q))
                            simd.store(lattice, at + q, value)


@numba.njit(**OPTIONS)
def differentiate(  # type: ignore[no-untyped-def]
    window, lattice, side, depth, margin, reach, padding, upsampling, rotation, kx, ky, scale,
    first_moment, residual, tangent, torque, first, last,
):  # fmt: skip
    """Derivatives of slices with respect to a rotation expm([ω]×) R at ω = 0.

    For images first ≤ b < last: tangent[b, d, p] = scale · ∂/∂ω_d Σ_c ζ_c (slice of channel c), and
    torque[b, d] = Σ_p Σ_c Re(conj(scale · ∂/∂ω_d slice_c) · residual_c). A slice is read at
    κ = R·(kx, ky, 0); ω moves κ by ω × κ, so both are κ × (gradient of the lattice).

    first_moment ζ (B, C), residual (B, C, n) and tangent (B, 3, n) as float32 pairs (…, 2n),
    torque (B, 3) float64; the rest as in `forward`.
    """
    width = len(window)
    channels = _u(residual.shape[1])
    point = _u(2) * channels
    row, plane = _u(depth) * point, _u(side * depth) * point + _u(padding)
    run = _u(width) * point
    origin = reach * np.int64(plane) + reach * np.int64(row) + margin * np.int64(point)
    # three sums over the rows of a window: plain, and with the slope along y and along z
    rows = np.empty((3, _whole_vectors(run) + _LANES), _f)
    weights = np.empty((2, width, 1), _f)
    slopes = np.empty((3, 2), _f)
    for b in range(first, last):
        r00, r01 = rotation[b, 0, 0] * upsampling, rotation[b, 0, 1] * upsampling
        r10, r11 = rotation[b, 1, 0] * upsampling, rotation[b, 1, 1] * upsampling
        r20, r21 = rotation[b, 2, 0] * upsampling, rotation[b, 2, 1] * upsampling
        turn0, turn1, turn2 = 0.0, 0.0, 0.0
        for p in range(_u(len(kx))):
            x = r00 * kx[p] + r01 * ky[p]
            y = r10 * kx[p] + r11 * ky[p]
            z = r20 * kx[p] + r21 * ky[p]
            s = _f(-1.0) if x < 0 else _f(1.0)
            x, y, z = s * x, s * y, s * z
            ix, tx = locate(x, window)
            iy, ty = locate(y, window)
            iz, tz = locate(z, window)
            dy, dz = slope(y, window), slope(z, window)
            keep(weights[0], _u(0), tx)
            keep(weights[1], _u(0), slope(x, window))
            at = np.int64(np.int32(iz)) * np.int64(plane) + np.int64(np.int32(iy)) * np.int64(row)
            start = _u(at + np.int64(np.int32(ix)) * np.int64(point) + origin)
            for q in range(_u(0), run, _LANES):
                simd.store(rows[0], q, gather(lattice, start + q, row, plane, ty, tz))
                simd.store(rows[1], q, gather(lattice, start + q, row, plane, dy, tz))
                simd.store(rows[2], q, gather(lattice, start + q, row, plane, ty, dz))
            even, odd = _u(2) * p, _u(2) * p + _u(1)
            slopes[:] = _f(0.0)
            pull0, pull1, pull2 = _f(0.0), _f(0.0), _f(0.0)
            for c in range(channels):
                zeta = first_moment[b, c]
                re, im = residual[b, c, even], s * residual[b, c, odd]
                dx_re, dx_im, dy_re = _f(0.0), _f(0.0), _f(0.0)
                dy_im, dz_re, dz_im = _f(0.0), _f(0.0), _f(0.0)
                for i in range(width):
                    k = _u(i) * point + _u(2) * c
                    dx_re += weights[1, i, 0] * rows[0, k]
                    dx_im += weights[1, i, 0] * rows[0, k + _u(1)]
                    dy_re += weights[0, i, 0] * rows[1, k]
                    dy_im += weights[0, i, 0] * rows[1, k + _u(1)]
                    dz_re += weights[0, i, 0] * rows[2, k]
                    dz_im += weights[0, i, 0] * rows[2, k + _u(1)]
                slopes[0, 0] += zeta * dx_re
                slopes[0, 1] += zeta * dx_im
                slopes[1, 0] += zeta * dy_re
                slopes[1, 1] += zeta * dy_im
                slopes[2, 0] += zeta * dz_re
                slopes[2, 1] += zeta * dz_im
                pull0 += dx_re * re + dx_im * im
                pull1 += dy_re * re + dy_im * im
                pull2 += dz_re * re + dz_im * im
            real = scale[b, p]
            imag = s * real
            tangent[b, 0, even] = real * (y * slopes[2, 0] - z * slopes[1, 0])
            tangent[b, 0, odd] = imag * (y * slopes[2, 1] - z * slopes[1, 1])
            tangent[b, 1, even] = real * (z * slopes[0, 0] - x * slopes[2, 0])
            tangent[b, 1, odd] = imag * (z * slopes[0, 1] - x * slopes[2, 1])
            tangent[b, 2, even] = real * (x * slopes[1, 0] - y * slopes[0, 0])
            tangent[b, 2, odd] = imag * (x * slopes[1, 1] - y * slopes[0, 1])
            turn0 += real * (y * pull2 - z * pull1)
            turn1 += real * (z * pull0 - x * pull2)
            turn2 += real * (x * pull1 - y * pull0)
        torque[b, 0], torque[b, 1], torque[b, 2] = turn0, turn1, turn2
