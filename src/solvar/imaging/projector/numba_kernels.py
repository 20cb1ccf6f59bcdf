"""The hot loops: read slices off the lattice, add slices back to it.

Per pixel and window the C channels of the w points along kx are one contiguous run of 2·w·C floats
(layout: `lattice.py`). An image is worked through in blocks of pixels, in passes over small arrays
that stay in the first-level cache, each of which is all vector arithmetic:

    forward    locate    window starts and weights                    vectors along the pixels
               gather    w² rows of a window -> one run               vectors along the run
               x         w points of a run -> C channels, × scale     vectors along the channels
               turn      pixel-major -> channel-major                 copies of 8 bytes
    scatter    the same passes in the opposite order
    differentiate    three sums in `gather`, three in `x`, then κ × gradient, Σ ζ and Σ residual

Doing a whole pixel at once, with scalar code for all but `gather`, took 2 to 3 times as long: most
of its time went into scalars and into loads of what had just been stored in another width.

Bytes and flops of one pixel, w = 3, C = 5 (rank 4): 9 rows × 120 B = 1,080 B read (forward), read
and written (scatter); 9 · 30 + 30 multiply-adds, in `differentiate` (1.6 times the time of `forward`)
27 · 30 + 200. The lattice (11 MB at box 64, upsampling 1.25) does
not fit the L2 cache, so reuse between neighbouring pixels and images decides, and rows are asked for
a few pixels ahead; `benchmarks/projector.py` prints the share of the measured memory bandwidth.

The width is a constant to the compiler (`window.py`), so that the loops over the window unroll. Where
a pixel falls is said once for CPU and GPU (`pixel.py`). The kernels are compiled without parallel=True:
they release the GIL and the caller's threads run them over image ranges (forward) or lattice slabs
(scatter). Every lattice value is written by one thread, images in order, which makes the sums the same to
the last bit for any number of threads.

More than seven arguments: compiled code takes numbers and arrays; numba knows no dataclass of ours.
"""

from __future__ import annotations

import numba
import numpy as np

from solvar.compilation import compiled
from solvar.imaging.projector import kernel, pixel, simd, window
from solvar.imaging.projector.window import (
    gather,
    gather_slopes,
    keep,
    locate,
    recall,
    slope,
)

_f, _u = np.float32, np.uintp
_LANES = np.uintp(simd.LANES)
# float32 values of a cache line
_LINE = np.uintp(16)

# Pixels of one block
_BLOCK = np.uintp(128)
# Rows are asked for this many pixels ahead, if the lattice has more values than a core's own cache
_AHEAD, _IN_CACHE = np.uintp(4), 1 << 19


_kernel = compiled(kernel, pixel, simd, window)
_turned = numba.njit(inline="always")(pixel.turned)
_offset = numba.njit(inline="always")(pixel.offset)


@numba.njit(inline="always")
def _whole_vectors(length):  # type: ignore[no-untyped-def]
    return (length + _LANES - _u(1)) // _LANES * _LANES


@numba.njit(inline="always")
def _place(  # type: ignore[no-untyped-def]
    window, turn, upsampling, kx, ky, block, size, weights, position, corner, sign
):
    """Where the pixels block … block + size of an image turned by `turn` fall on the lattice.

    Writes per pixel the weights along x, y, z (3, width, pixels), the position and the lowest lattice
    point of the window (3, pixels), in xyz; and the sign: for x < 0 the conjugate at the opposite point.
    """
    r00, r01 = turn[0, 0] * upsampling, turn[0, 1] * upsampling
    r10, r11 = turn[1, 0] * upsampling, turn[1, 1] * upsampling
    r20, r21 = turn[2, 0] * upsampling, turn[2, 1] * upsampling
    wx, wy, wz = weights[0], weights[1], weights[2]
    for i in range(size):
        x, y, z, s = _turned(r00, r01, r10, r11, r20, r21, kx[block + i], ky[block + i])
        ix, tx = locate(x, window)
        iy, ty = locate(y, window)
        iz, tz = locate(z, window)
        keep(wx, i, tx)
        keep(wy, i, ty)
        keep(wz, i, tz)
        sign[i] = s
        position[0, i], position[1, i], position[2, i] = x, y, z
        corner[0, i], corner[1, i], corner[2, i] = np.int32(ix), np.int32(iy), np.int32(iz)


@numba.njit(inline="always")
def _near_slab(turn, upsampling, kx, ky, low, high, near):  # type: ignore[no-untyped-def]
    """Put the numbers of the pixels that fall between two planes, or next to them, into `near`; how many.

    Threads that share a lattice see all pixels, each for its slab: this is all that they do with most.
    """
    lowest, highest, count = _f(low - 1), _f(high + 1), _u(0)
    for p in range(len(kx)):
        _, _, z, _ = _turned(
            turn[0, 0], turn[0, 1], turn[1, 0], turn[1, 1], turn[2, 0], turn[2, 1], kx[p], ky[p]
        )
        near[count] = p
        count += _u(lowest <= upsampling * z) & _u(upsampling * z <= highest)
    return count


@_kernel
def forward(  # type: ignore[no-untyped-def]
    window, lattice, side, depth, margin, reach, padding, upsampling, frame, kx, ky, scale, out,
    first, last,
):  # fmt: skip
    """Read slices: out[b, c, p] = scale[b, p] · (slice of channel c at pixel p of image b).

    For images first ≤ b < last. `window` is a tuple as long as the window is wide; frame
    (B, 3, 2), kx, ky (n,), scale (B, n) float32; out (B, C, n) complex64 seen as float64, because
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
    position, corner = np.empty((3, _BLOCK), _f), np.empty((3, _BLOCK), np.int32)
    start, sign = np.empty(_BLOCK, _u), np.empty(_BLOCK, _f)
    runs = np.empty(_BLOCK * run_stride, _f)
    values = np.empty(_BLOCK * point_stride, _f)
    pairs, pair_stride = values.view(np.float64), point_stride // _u(2)
    for b in range(first, last):
        for block in range(_u(0), pixels, _BLOCK):
            size = min(_BLOCK, pixels - block)
            _place(
                window,
                frame[b],
                upsampling,
                kx,
                ky,
                block,
                size,
                weights,
                position,
                corner,
                sign,
            )
            for i in range(size):
                at = _offset(
                    corner[0, i], corner[1, i], corner[2, i],
                    np.int64(point), np.int64(row), np.int64(plane), origin,
                )  # fmt: skip
                start[i] = _u(at)
            for i in range(size):
                if i + ahead < size:
                    for j in range(_u(width * width)):
                        at = start[i + ahead] + j // _u(width) * plane + j % _u(width) * row
                        for q in range(_u(0), run, _LINE):
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


@_kernel
def scatter(  # type: ignore[no-untyped-def]
    window, lattice, side, depth, margin, reach, padding, upsampling, frame, kx, ky, scale, image,
    low, high,
):  # fmt: skip
    """Add slices: the adjoint of `forward`, restricted to the lattice planes low ≤ kz + reach < high.

    `image` (B, C, n) complex64 seen as float64; the rest as in `forward`.
    """
    width = len(window)
    channels = _u(image.shape[1])
    point = _u(2) * channels
    row, plane = _u(depth) * point, _u(side * depth) * point + _u(padding)
    run = _u(width) * point
    run_stride, point_stride = _whole_vectors(run) + _LANES, _whole_vectors(point)
    origin = reach * np.int64(row) + margin * np.int64(point)
    ahead = _AHEAD if len(lattice) > _IN_CACHE else _BLOCK
    weights = np.empty((3, width, _BLOCK), _f)
    wx, wy, wz = weights[0], weights[1], weights[2]
    position, corner = np.empty((3, _BLOCK), _f), np.empty((3, _BLOCK), np.int32)
    start, sign = np.empty(_BLOCK, _u), np.empty(_BLOCK, _f)
    first_plane = np.empty(_BLOCK, np.int32)
    near, u, v = np.empty(len(kx), np.int32), np.empty(_BLOCK, _f), np.empty(_BLOCK, _f)
    # zeros, because the lanes past C channels and past a run must add nothing to what follows
    runs = np.zeros(_BLOCK * run_stride, _f)
    values = np.zeros(_BLOCK * point_stride, _f)
    pairs, pair_stride = values.view(np.float64), point_stride // _u(2)
    for b in range(len(image)):
        count = _near_slab(frame[b], upsampling, kx, ky, low - reach - width, high - reach, near)
        for block in range(_u(0), count, _BLOCK):
            size = min(_BLOCK, count - block)
            for i in range(size):
                u[i], v[i] = kx[near[block + i]], ky[near[block + i]]
            _place(window, frame[b], upsampling, u, v, _u(0), size, weights, position, corner, sign)
            for i in range(size):
                first_plane[i] = corner[2, i] + np.int32(reach)
                at = _offset(
                    corner[0, i], corner[1, i], np.int32(0),
                    np.int64(point), np.int64(row), np.int64(plane), origin,
                )  # fmt: skip
                start[i] = _u(at)
            for c in range(channels):
                for i in range(size):
                    pairs[i * pair_stride + c] = image[b, c, near[block + i]]
            for i in range(size):
                real = scale[b, near[block + i]]
                # in ascending order: each store overwrites the idle lanes of the one before
                for j in range(_u(width)):
                    weight = real * wx[j, i]
                    for q in range(_u(0), point, _LANES):
                        value = simd.load(values, i * point_stride + q)
                        value = simd.scale_complex(value, weight, weight * sign[i])
                        simd.store(runs, i * run_stride + j * point + q, value)
            for i in range(size):
                if i + ahead < size:
                    for j in range(_u(width * width)):
                        at = start[i + ahead] + _u(first_plane[i + ahead]) * plane
                        at += j // _u(width) * plane + j % _u(width) * row
                        for q in range(_u(0), run, _LINE):
                            simd.prefetch(lattice, at + q)
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


@_kernel
def differentiate(  # type: ignore[no-untyped-def]
    window, lattice, side, depth, margin, reach, padding, upsampling, frame, kx, ky, scale,
    first_moment, residual, tangent, torque, first, last,
):  # fmt: skip
    """Derivatives of slices with respect to ω for frames expm([ω]×) F at ω = 0.

    For images first ≤ b < last: tangent[b, d, p] = scale · ∂/∂ω_d Σ_c ζ_c (slice of channel c), and
    torque[b, d] = Σ_p Σ_c Re(conj(scale · ∂/∂ω_d slice_c) · residual_c). A slice is read at
    κ = F·(kx, ky); ω moves κ by ω × κ, so both are κ × (gradient of the lattice).

    The passes are those of `forward`, with three sums over the rows of a window: plain, with the
    slope along y and with that along z. Windows are 2 or 3 wide.

    first_moment ζ (B, C) float32; residual (B, C, n) complex64 seen as float64; tangent (B, 3, n)
    complex64 seen as float32 pairs (B, 3, 2n); torque (B, 3) float64; the rest as in `forward`.
    """
    width = len(window)
    channels, pixels = _u(residual.shape[1]), _u(len(kx))
    point = _u(2) * channels
    row, plane = _u(depth) * point, _u(side * depth) * point + _u(padding)
    run = _u(width) * point
    run_stride, point_stride = _whole_vectors(run) + _LANES, _whole_vectors(point)
    origin = reach * np.int64(plane) + reach * np.int64(row) + margin * np.int64(point)
    ahead = _AHEAD if len(lattice) > _IN_CACHE else _BLOCK
    weights = np.empty((6, width, _BLOCK), _f)
    wx, wy, wz, dx, dy, dz = (
        weights[0], weights[1], weights[2], weights[3], weights[4], weights[5],
    )  # fmt: skip
    position, corner = np.empty((3, _BLOCK), _f), np.empty((3, _BLOCK), np.int32)
    start, sign = np.empty(_BLOCK, _u), np.empty(_BLOCK, _f)
    # zeros, because idle lanes are multiplied by the zeros of idle lanes and must not hold NaN
    runs = np.zeros((3, _BLOCK * run_stride), _f)
    plain, along_y, along_z = runs[0], runs[1], runs[2]
    values = np.zeros(_BLOCK * point_stride, _f)
    pairs, pair_stride = values.view(np.float64), point_stride // _u(2)
    moment = np.zeros(point_stride, _f)
    turn = np.zeros((3, point_stride), _f)
    turn0, turn1, turn2 = turn[0], turn[1], turn[2]
    none = simd.scale(simd.load(moment, _u(0)), _f(0.0))
    for b in range(first, last):
        tangent0, tangent1, tangent2 = tangent[b, 0], tangent[b, 1], tangent[b, 2]
        torque[b] = 0.0
        for c in range(channels):
            moment[_u(2) * c] = moment[_u(2) * c + _u(1)] = first_moment[b, c]
        for block in range(_u(0), pixels, _BLOCK):
            size = min(_BLOCK, pixels - block)
            _place(
                window,
                frame[b],
                upsampling,
                kx,
                ky,
                block,
                size,
                weights,
                position,
                corner,
                sign,
            )
            for i in range(size):
                at = _offset(
                    corner[0, i], corner[1, i], corner[2, i],
                    np.int64(point), np.int64(row), np.int64(plane), origin,
                )  # fmt: skip
                start[i] = _u(at)
                keep(dx, i, slope(position[0, i], window))
                keep(dy, i, slope(position[1, i], window))
                keep(dz, i, slope(position[2, i], window))
            for i in range(size):
                if i + ahead < size:
                    for j in range(_u(width * width)):
                        at = start[i + ahead] + j // _u(width) * plane + j % _u(width) * row
                        for q in range(_u(0), run, _LINE):
                            simd.prefetch(lattice, at + q)
                ty, tz = recall(wy, i, window), recall(wz, i, window)
                sy, sz = recall(dy, i, window), recall(dz, i, window)
                for q in range(_u(0), run, _LANES):
                    three = gather_slopes(lattice, start[i] + q, row, plane, ty, tz, sy, sz)
                    simd.store(plain, i * run_stride + q, three[0])
                    simd.store(along_y, i * run_stride + q, three[1])
                    simd.store(along_z, i * run_stride + q, three[2])
            for c in range(channels):
                for i in range(size):
                    pairs[i * pair_stride + c] = residual[b, c, block + i]
            turn[:] = _f(0.0)
            for i in range(size):
                x, y, z = position[0, i], position[1, i], position[2, i]
                real = scale[b, block + i]
                imag = real * sign[i]
                sum0, sum1, sum2 = none, none, none
                for q in range(_u(0), point, _LANES):
                    at = i * run_stride + q
                    gx = simd.scale(simd.load(plain, at), dx[0, i])
                    gy = simd.scale(simd.load(along_y, at), wx[0, i])
                    gz = simd.scale(simd.load(along_z, at), wx[0, i])
                    for j in range(_u(1), _u(width)):
                        at += point
                        gx = simd.multiply_add(simd.load(plain, at), dx[j, i], gx)
                        gy = simd.multiply_add(simd.load(along_y, at), wx[j, i], gy)
                        gz = simd.multiply_add(simd.load(along_z, at), wx[j, i], gz)
                    gx = simd.scale_complex(gx, real, imag)
                    gy = simd.scale_complex(gy, real, imag)
                    gz = simd.scale_complex(gz, real, imag)
                    t0 = simd.multiply_add(gz, y, simd.scale(gy, -z))
                    t1 = simd.multiply_add(gx, z, simd.scale(gz, -x))
                    t2 = simd.multiply_add(gy, x, simd.scale(gx, -y))
                    zeta = simd.load(moment, q)
                    sum0 = simd.multiply_add(t0, zeta, sum0)
                    sum1 = simd.multiply_add(t1, zeta, sum1)
                    sum2 = simd.multiply_add(t2, zeta, sum2)
                    pull = simd.load(values, i * point_stride + q)
                    simd.store(turn0, q, simd.multiply_add(t0, pull, simd.load(turn0, q)))
                    simd.store(turn1, q, simd.multiply_add(t1, pull, simd.load(turn1, q)))
                    simd.store(turn2, q, simd.multiply_add(t2, pull, simd.load(turn2, q)))
                simd.store_pair_sum(tangent0, _u(2) * (block + i), sum0)
                simd.store_pair_sum(tangent1, _u(2) * (block + i), sum1)
                simd.store_pair_sum(tangent2, _u(2) * (block + i), sum2)
            for d in range(3):
                for q in range(point):
                    torque[b, d] += np.float64(turn[d, q])
