"""Projectors: adjointness, agreement with each other and with exact sums, conventions."""

import sys
from functools import cache

import numba
import numpy as np
import pytest
import torch

from solvar.errors import InputError
from solvar.imaging.fourier import HalfDisc, disc_to_images
from solvar.imaging.projector import make_projector
from solvar.imaging.projector.kernel import KERNELS
from solvar.imaging.projector.lattice import Lattice
from solvar.imaging.projector.torch_backend import TorchProjector
from solvar.imaging.projector.window import locate
from solvar.imaging.rotations import from_euler, from_rotation_vector
from solvar.imaging.rotations import random as random_rotations
from solvar.threads import ThreadTeam

# Every operator that must be the adjoint of its partner: a new one is one more line.
OPERATORS = [
    {"backend": "numba", "interpolation": "nearest"},
    {"backend": "numba", "interpolation": "trilinear"},
    {"backend": "numba", "interpolation": "trilinear", "upsampling": 1.0},
    {"backend": "numba", "interpolation": "kaiser"},
    {"backend": "numba", "interpolation": "kaiser", "upsampling": 1.5},
    {"backend": "torch", "interpolation": "nearest"},
    {"backend": "torch", "interpolation": "trilinear"},
    {"backend": "torch", "interpolation": "kaiser"},
    {"interpolation": "nufft"},
]
LATTICE_KERNELS = ["nearest", "trilinear", "kaiser"]


def name(operator):
    return "-".join(str(value) for value in operator.values())


def build(box, k_c, threads=2, **operator):
    if operator["interpolation"] == "nufft":
        pytest.importorskip("finufft")
    disc = HalfDisc.of_radius(k_c)
    return make_projector(box, disc, team=ThreadTeam(threads), **operator)


def ones(projector, rotation):
    return np.ones((len(rotation), len(projector.disc)), dtype=np.float32)


def random_images(rng, *shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def extreme_rotations(rng, count=6):
    """Random rotations and those that carry pixels along axes, diagonals and onto kx = 0."""
    angles = [(a, b, c) for a in (0, 45, 90) for b in (0, 45, 90, 180) for c in (0, 45, 90, 135)]
    special = from_euler(*np.array(angles, dtype=float).T)
    return np.concatenate([special, random_rotations(count, rng)]).astype(np.float32)


def points_volume(positions, weights, box):
    """Volume with δ(n - position): its transform is known at every frequency."""
    volume = np.zeros((box, box, box), dtype=np.float32)
    for (x, y, z), weight in zip(positions, weights, strict=True):
        volume[box // 2 + z, box // 2 + y, box // 2 + x] = weight
    return volume


def blob_volume(rng, box, radius, sigma=1.5, count=60):
    """Sum of Gaussians whose centres lie within `radius` of the origin."""
    direction = rng.normal(size=(count, 3))
    direction *= (
        radius
        * rng.uniform(0, 1, (count, 1)) ** (1 / 3)
        / np.linalg.norm(direction, axis=1)[:, None]
    )
    grid = np.arange(box) - box // 2
    factors = np.exp(-0.5 * ((grid - direction[:, :, None]) / sigma) ** 2)
    return np.einsum("bx,by,bz->zyx", *np.moveaxis(factors, 1, 0)).astype(np.float32)


@cache
def defining_sum(box, k_c):
    """Volumes, rotations and v̂(R·(kx, ky, 0)) by the sum that defines it, float64."""
    rng = np.random.default_rng(2)
    disc = HalfDisc.of_radius(k_c)
    volumes = np.stack([blob_volume(rng, box, 0.35 * box) for _ in range(2)])
    rotation = random_rotations(10, rng).astype(np.float32)
    k = rotation.astype(np.float64)[:, :, :2] @ np.stack([disc.kx, disc.ky])
    grid = (np.arange(box) - box // 2) / box
    ex, ey, ez = (np.exp(-2j * np.pi * k[:, i, :, None] * grid) for i in range(3))
    exact = np.einsum("czyx,bpx,bpy,bpz->bcp", volumes, ex, ey, ez, optimize=True)
    return volumes, rotation, exact


@pytest.mark.parametrize("k_c", ["small", "largest"])
@pytest.mark.parametrize("box", [16, 15])
@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("operator", OPERATORS, ids=name)
def test_scatter_and_collect_are_the_adjoint_of_prepare_and_project(operator, channels, box, k_c):
    rng = np.random.default_rng(1)
    projector = build(box, 3 if k_c == "small" else (box - 1) // 2, **operator)
    volumes = rng.normal(size=(channels, box, box, box)).astype(np.float32)
    rotation = extreme_rotations(rng)
    scale = rng.normal(size=(len(rotation), len(projector.disc))).astype(np.float32)
    slices = projector.project(projector.prepare(volumes), rotation, scale)
    images = random_images(rng, *slices.shape)

    into = projector.zeros(channels)
    # twice, so that scatter must add
    projector.scatter(images, rotation, scale, into)
    projector.scatter(images, rotation, scale, into)
    back = projector.collect(into) / 2

    assert slices.shape == (len(rotation), channels, len(projector.disc))
    assert slices.dtype == np.complex64 and back.dtype == np.float32
    for c in range(channels):  # each channel by itself: none may leak into another
        forward = np.vdot(slices[:, c].astype(complex), images[:, c]).real
        adjoint = np.vdot(volumes[c].astype(float), back[c])
        size = np.linalg.norm(slices[:, c]) * np.linalg.norm(images[:, c])
        assert abs(forward - adjoint) < 2e-6 * size


# Relative L2 error over the disc. Measured (blobs whose centres lie within 0.35 box lengths of the
# origin, L = 32, 33, 48; k_c = 8 … 23): nearest 0.183, trilinear 0.051, kaiser 0.0067, kaiser at
# upsampling 2 0.0096, nufft 1e-6.
@pytest.mark.parametrize(
    ("interpolation", "upsampling", "bound"),
    [
        ("nearest", None, 0.2),
        ("trilinear", None, 0.06),
        ("kaiser", None, 0.008),
        ("kaiser", 2.0, 0.012),
        ("nufft", None, 3e-6),
    ],
)
@pytest.mark.parametrize(("box", "k_c"), [(32, 8), (32, 15), (33, 16)])
def test_error_against_the_defining_sum(interpolation, upsampling, bound, box, k_c):
    projector = build(box, k_c, interpolation=interpolation, upsampling=upsampling)
    volumes, rotation, exact = defining_sum(box, k_c)
    slices = projector.project(projector.prepare(volumes), rotation, ones(projector, rotation))
    assert np.linalg.norm(slices - exact) < bound * np.linalg.norm(exact)


@pytest.mark.parametrize("interpolation", LATTICE_KERNELS)
@pytest.mark.parametrize("box", [16, 15])
def test_torch_and_numba_give_the_same_numbers(interpolation, box):
    """Along axes and diagonals at the largest k_c: numba checks no bounds, torch does."""
    rng = np.random.default_rng(3)
    k_c = (box - 1) // 2
    ours = build(box, k_c, interpolation=interpolation)
    other = build(box, k_c, interpolation=interpolation, backend="torch")
    volumes = rng.normal(size=(3, box, box, box)).astype(np.float32)
    rotation = extreme_rotations(rng)
    scale = rng.normal(size=(len(rotation), len(ours.disc))).astype(np.float32)
    a = ours.project(ours.prepare(volumes), rotation, scale)
    b = other.project(other.prepare(volumes), rotation, scale)
    images = random_images(rng, *a.shape)
    # a pixel halfway between two windows may be read from either; width 2 gives the same from both
    same = np.all(np.abs(a - b) < 2e-6 * np.abs(b).max(), axis=1)
    assert same[-6:].all(), "random rotations have no ties"
    assert same.all() or interpolation != "trilinear"
    images *= same[:, None]
    back = []
    for projector in (ours, other):
        into = projector.zeros(3)
        projector.scatter(images, rotation, scale, into)
        back.append(projector.collect(into))
    np.testing.assert_allclose(back[0], back[1], atol=2e-6 * np.abs(back[1]).max())


@numba.njit(fastmath=True)
def window_start(position, window):
    """First lattice point of a window, as the kernels find it."""
    return int(locate(position, window)[0])


@pytest.mark.parametrize("interpolation", LATTICE_KERNELS)
@pytest.mark.parametrize("upsampling", [1.0, 1.25, 1.5, 2.0])
@pytest.mark.parametrize("k_c", [1, 2, 3, 7, 31, 127])
def test_every_window_lies_on_the_lattice(interpolation, upsampling, k_c):
    """In the arithmetic of the kernels, for rotations a little off unit length by rounding."""
    lattice = Lattice(2 * k_c + 2, k_c, KERNELS[interpolation], upsampling)
    width, edge = lattice.kernel.width, np.float32(upsampling) * np.float32(k_c)
    edge = edge * np.float32(1 + 1e-6)
    window = (0,) * width
    for position, least in ((-edge, lattice.reach), (np.float32(0), lattice.margin)):
        assert compiled_locate(position, window)[0] + least >= 0
    assert compiled_locate(edge, window)[0] + width - 1 <= lattice.reach


@numba.njit(fastmath=True)
def compiled_locate(x, window):
    return locate(x, window)


def test_float64_torch_projector_agrees_with_float32():
    rng = np.random.default_rng(4)
    disc, kernel = HalfDisc.of_radius(7), KERNELS["kaiser"]
    volumes = rng.normal(size=(2, 16, 16, 16))
    rotation = random_rotations(4, rng)
    scale = rng.normal(size=(4, len(disc)))
    slices = []
    for dtype in (torch.float32, torch.float64):
        projector = TorchProjector(Lattice(16, 7, kernel), disc, "cpu", dtype)
        slices.append(projector.project(projector.prepare(volumes), rotation, scale))
    assert slices[1].dtype == np.complex128
    np.testing.assert_allclose(slices[0], slices[1], atol=2e-6 * np.abs(slices[1]).max())


@pytest.mark.parametrize("interpolation", LATTICE_KERNELS)
@pytest.mark.parametrize(("channels", "k_c"), [(1, 2), (1, 8), (5, 8), (12, 7)])
def test_results_repeat_to_the_last_bit_for_any_number_of_threads(interpolation, channels, k_c):
    rng = np.random.default_rng(5)
    rotation = random_rotations(70, rng).astype(np.float32)
    volumes = rng.normal(size=(channels, 20, 20, 20)).astype(np.float32)
    results = []
    for threads in (1, 2, 3, 5):
        projector = build(20, k_c, threads, interpolation=interpolation)
        scale = ones(projector, rotation)
        slices = projector.project(projector.prepare(volumes), rotation, scale)
        into = projector.zeros(channels)
        projector.scatter(slices, rotation, scale, into)
        results.append((slices, into, projector.collect(into)))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("operator", OPERATORS, ids=name)
def test_project_writes_into_the_array_it_is_given(operator):
    rng = np.random.default_rng(6)
    projector = build(12, 4, **operator)
    rotation = random_rotations(3, rng).astype(np.float32)
    prepared = projector.prepare(rng.normal(size=(2, 12, 12, 12)).astype(np.float32))
    out = np.full((3, 2, len(projector.disc)), np.nan, dtype=np.complex64)
    returned = projector.project(prepared, rotation, ones(projector, rotation), out)
    assert returned is out
    np.testing.assert_array_equal(
        out, projector.project(prepared, rotation, ones(projector, rotation))
    )


@pytest.mark.parametrize(
    ("operator", "tolerance"),
    [
        ({"interpolation": "trilinear"}, 0.08),
        ({"interpolation": "kaiser"}, 0.04),
        ({"interpolation": "kaiser", "backend": "torch"}, 0.04),
        ({"interpolation": "nufft"}, 1e-5),
    ],
    ids=str,
)
def test_a_point_is_seen_with_the_phase_of_its_rotated_position(operator, tolerance):
    """v̂(R·k) = exp(-2πi k·p'/L) with p' = (Rᵀp)_xy: Euler angles by hand, no code in common."""
    box, position = 24, np.array([5, -3, 2])
    a, b = np.deg2rad(90.0), np.deg2rad(35.0)
    # rot = 90: what looks along z after the tilt; psi = 0
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    rotation = rz @ ry
    projector = build(box, 6, **operator)
    volume = points_volume([position], [1.0], box)
    one = ones(projector, rotation[None])
    slices = projector.project(projector.prepare(volume[None]), rotation[None], one)[0, 0]
    seen = rotation.T @ position
    np.testing.assert_allclose(seen[:2], [-3 * np.cos(b) - 2 * np.sin(b), -5], atol=1e-12)
    k = projector.disc
    expected = np.exp(-2j * np.pi * (k.kx * seen[0] + k.ky * seen[1]) / box)
    assert np.abs(slices - expected).max() < tolerance


@pytest.mark.parametrize("operator", OPERATORS, ids=name)
def test_projection_along_z_is_the_sum_over_z(operator):
    rng = np.random.default_rng(7)
    projector = build(24, 11, **operator)
    volume = blob_volume(rng, 24, 4, sigma=2)
    identity = np.eye(3, dtype=np.float32)[None]
    slices = projector.project(projector.prepare(volume[None]), identity, ones(projector, identity))
    image = disc_to_images(slices[:, 0], projector.disc, 24)[0]
    total = volume.sum(axis=0)
    # trilinear without padding is coarse: its aliases lie as near as the box is wide
    bound = 0.3 if operator.get("upsampling") == 1.0 else 0.06
    assert np.linalg.norm(image - total) < bound * np.linalg.norm(total)


def test_psi_turns_the_image_and_nothing_else():
    """A quarter turn psi shows the same image with (x, y) at (-y, x)."""
    rng = np.random.default_rng(8)
    projector = build(17, 8, interpolation="kaiser")
    volume = blob_volume(rng, 17, 5)
    rotation = from_euler([40, 40], [70, 70], [0, 90]).astype(np.float32)
    slices = projector.project(projector.prepare(volume[None]), rotation, ones(projector, rotation))
    plain, turned = disc_to_images(slices[:, 0], projector.disc, 17)
    # Rᵀp gains Rz(-90): what was at (x, y) is at (y, -x)
    np.testing.assert_allclose(turned, plain.T[::-1], atol=0.01 * plain.max())


@pytest.mark.parametrize("interpolation", LATTICE_KERNELS)
@pytest.mark.parametrize("value", [1.2, np.nan])
def test_matrices_that_lead_off_the_lattice_are_refused(interpolation, value):
    projector = build(12, 5, interpolation=interpolation)
    prepared = projector.prepare(np.zeros((1, 12, 12, 12), dtype=np.float32))
    rotation = np.eye(3, dtype=np.float32)[None].repeat(3, axis=0)
    rotation[1, 0, 0] = value
    scale = ones(projector, rotation)
    with pytest.raises(ValueError, match="not orthonormal"):
        projector.project(prepared, rotation, scale)
    with pytest.raises(ValueError, match="not orthonormal"):
        projector.scatter(
            random_images(np.random.default_rng(9), 3, 1, len(projector.disc)),
            rotation,
            scale,
            projector.zeros(1),
        )


def test_lattice_tells_its_number_of_channels_and_grid_is_a_view():
    lattice = Lattice(12, 5, KERNELS["kaiser"])
    for channels in (1, 3, 11):
        flat = lattice.zeros(channels)
        assert lattice.channels(flat) == channels
        grid = lattice.grid(flat, channels)
        assert grid.shape == (lattice.side, lattice.side, lattice.depth, channels)
        assert np.shares_memory(grid, flat)


def test_nufft_without_finufft_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "finufft", None)
    with pytest.raises(InputError, match=r"solvar\[nufft\]"):
        make_projector(8, HalfDisc.of_radius(3), interpolation="nufft")


@pytest.mark.parametrize("k_c", [0, 4])
def test_a_radius_beyond_nyquist_is_refused(k_c):
    with pytest.raises(ValueError, match="k_c must lie between"):
        make_projector(8, HalfDisc.of_radius(k_c))


def derivatives(projector, volumes, rotation, moment, residual, scale=None):
    """Tangent and torque."""
    scale = ones(projector, rotation) if scale is None else scale
    return projector.differentiate(projector.prepare(volumes), rotation, scale, moment, residual)


def relative(found, exact):
    return np.linalg.norm(found - exact) / np.linalg.norm(exact)


@cache
def derivative_sum(box, k_c):
    """κ × ∇v̂ at κ = R·(kx, ky, 0) by direct sums, (B, C, n, 3) complex128; see `defining_sum`."""
    volumes, rotation, _ = defining_sum(box, k_c)
    disc = HalfDisc.of_radius(k_c)
    k = rotation.astype(np.float64)[:, :, :2] @ np.stack([disc.kx, disc.ky])
    n = -2j * np.pi * (np.arange(box) - box // 2) / box
    gradient = []
    for axis in range(3):
        waves = [np.exp(k[:, i, :, None] * n) * (n if i == axis else 1) for i in range(3)]
        gradient.append(np.einsum("czyx,bpx,bpy,bpz->bcp", volumes, *waves, optimize=True))
    return np.cross(k.transpose(0, 2, 1)[:, None], np.stack(gradient, axis=-1))


# Relative L2 errors of tangent and torque. Measured at these boxes (blobs within 0.35 box lengths):
# nearest and trilinear 0.23 and 0.31 (the same slope), kaiser 0.090 and 0.104, kaiser at upsampling
# 2 0.14 and 0.18, nufft 2e-6. A torque of noise averages less than the tangent does.
@pytest.mark.parametrize(
    ("operator", "bound"),
    [
        ({"interpolation": "nearest"}, 0.35),
        ({"interpolation": "trilinear"}, 0.35),
        ({"interpolation": "kaiser"}, 0.13),
        ({"interpolation": "kaiser", "upsampling": 2.0}, 0.22),
        ({"interpolation": "kaiser", "backend": "torch"}, 0.13),
        ({"interpolation": "nufft"}, 1e-5),
    ],
    ids=str,
)
@pytest.mark.parametrize(("box", "k_c"), [(32, 8), (33, 16)])
def test_derivatives_are_those_of_the_defining_sum(operator, bound, box, k_c):
    rng = np.random.default_rng(12)
    volumes, rotation, _ = defining_sum(box, k_c)
    exact = derivative_sum(box, k_c)
    moment, residual = rng.normal(size=exact.shape[:2]), random_images(rng, *exact.shape[:3])
    projector = build(box, k_c, **operator)
    tangent, torque = derivatives(projector, volumes, rotation, moment, residual)
    assert tangent.dtype == np.complex64 and torque.dtype == np.float64
    # pixels at x < 0 are read from the opposite half: by themselves, so that no sign hides
    x = rotation[:, 0, :2] @ np.stack([projector.disc.kx, projector.disc.ky])
    wanted = np.einsum("bc,bcpd->bdp", moment, exact)
    for half in (x < 0, x > 0):
        assert relative(tangent * half[:, None], wanted * half[:, None]) < bound
    assert relative(torque, np.einsum("bcpd,bcp->bd", exact.conj(), residual).real) < bound


def noise_volumes(rng, count, box, radius):
    """White noise under a Gaussian: no peak at low frequency whose errors would hide the rest."""
    grid = np.arange(box) - box // 2
    envelope = np.exp(-0.5 * (grid / radius) ** 2)
    noise = rng.normal(size=(count, box, box, box))
    return np.einsum("czyx,z,y,x->czyx", noise, envelope, envelope, envelope).astype(np.float32)


# Measured, tangent and torque alike: kaiser 0.09, trilinear 0.13 and without padding 0.17, nufft 0.007.
# "Nearest" is made of steps, which no short chord sees.
@pytest.mark.parametrize(
    "operator", [o for o in OPERATORS if o["interpolation"] != "nearest"], ids=name
)
def test_derivatives_predict_how_slices_change(operator):
    """Over chords of 2.3°: windows jump within them, pixels average over the jumps."""
    rng, step = np.random.default_rng(13), 0.02
    bound = 0.02 if operator["interpolation"] == "nufft" else 0.25
    projector = build(24, 9, **operator)
    volumes = noise_volumes(rng, 3, 24, 4)
    rotation = random_rotations(40, rng)
    scale = rng.uniform(0.5, 1, (40, len(projector.disc))).astype(np.float32)
    moment = rng.normal(size=(40, 3))
    residual = random_images(rng, 40, 3, len(projector.disc))
    prepared = projector.prepare(volumes)
    tangent, torque = derivatives(
        projector, volumes, rotation.astype(np.float32), moment, residual, scale
    )
    for axis in range(3):
        ahead, behind = (
            from_rotation_vector(turn) @ rotation
            for turn in (step * np.eye(3)[axis], -step * np.eye(3)[axis])
        )
        change = projector.project(prepared, ahead.astype(np.float32), scale)
        change -= projector.project(prepared, behind.astype(np.float32), scale)
        change /= 2 * step
        assert relative(tangent[:, axis], np.einsum("bc,bcn->bn", moment, change)) < bound
        pulled = np.sum((change.conj() * residual).real, axis=(1, 2))
        assert relative(torque[:, axis], pulled) < bound


@pytest.mark.parametrize("interpolation", LATTICE_KERNELS)
@pytest.mark.parametrize(("box", "channels"), [(16, 1), (15, 5), (16, 12)])
def test_torch_and_numba_give_the_same_derivatives(interpolation, box, channels):
    rng = np.random.default_rng(14)
    k_c = (box - 1) // 2
    volumes = rng.normal(size=(channels, box, box, box)).astype(np.float32)
    rotation = random_rotations(20, rng).astype(np.float32)
    moment = rng.normal(size=(20, channels))
    found = []
    for backend in ("numba", "torch"):
        projector = build(box, k_c, interpolation=interpolation, backend=backend)
        n = len(projector.disc)
        scale = np.random.default_rng(15).normal(size=(20, n)).astype(np.float32)
        residual = random_images(np.random.default_rng(16), 20, channels, n)
        found.append(derivatives(projector, volumes, rotation, moment, residual, scale))
    for ours, other in zip(*found, strict=True):
        np.testing.assert_allclose(ours, other, atol=2e-6 * np.abs(other).max())


@pytest.mark.parametrize("interpolation", LATTICE_KERNELS)
def test_derivatives_stay_on_the_lattice_along_axes_and_diagonals(interpolation):
    """Numba checks no bounds, torch does; at ties the two may read neighbouring windows."""
    rng = np.random.default_rng(17)
    rotation = extreme_rotations(rng)
    volumes = rng.normal(size=(2, 16, 16, 16)).astype(np.float32)
    for backend in ("numba", "torch"):
        projector = build(16, 7, interpolation=interpolation, backend=backend)
        residual = random_images(rng, len(rotation), 2, len(projector.disc))
        moment = np.ones((len(rotation), 2))
        tangent, torque = derivatives(projector, volumes, rotation, moment, residual)
        assert np.isfinite(tangent).all() and np.isfinite(torque).all()
        assert np.abs(tangent).max() < 1e5


@pytest.mark.parametrize("interpolation", LATTICE_KERNELS)
@pytest.mark.parametrize("channels", [1, 5, 12])
def test_derivatives_repeat_to_the_last_bit_for_any_number_of_threads(interpolation, channels):
    rng = np.random.default_rng(18)
    rotation = random_rotations(70, rng).astype(np.float32)
    volumes = rng.normal(size=(channels, 20, 20, 20)).astype(np.float32)
    moment = rng.normal(size=(70, channels))
    residual = random_images(rng, 70, channels, len(HalfDisc.of_radius(8)))
    results = [
        derivatives(
            build(20, 8, threads, interpolation=interpolation),
            volumes, rotation, moment, residual,
        )
        for threads in (1, 2, 3, 5)
    ]  # fmt: skip
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("operator", OPERATORS, ids=name)
def test_a_round_volume_does_not_change_when_it_turns(operator):
    rng = np.random.default_rng(19)
    projector = build(25, 9, **operator)
    grid = np.arange(25) - 12
    wave = np.exp(-0.5 * (grid / 2.0) ** 2)
    volume = np.einsum("x,y,z->zyx", wave, wave, wave)[None].astype(np.float32)
    rotation = random_rotations(10, rng).astype(np.float32)
    slices = projector.project(projector.prepare(volume), rotation, ones(projector, rotation))
    tangent, torque = derivatives(projector, volume, rotation, np.ones((10, 1)), slices)
    # against the size of what cancels: |k| times the radial derivative
    radius = np.hypot(projector.disc.kx, projector.disc.ky)
    slope = np.linalg.norm(radius**2 * (2 * np.pi * 2 / 25) ** 2 * slices[:, 0])
    bound = 1e-5 if operator["interpolation"] == "nufft" else 0.2
    assert np.linalg.norm(tangent, axis=2).max() < bound * slope / np.sqrt(10)
    assert np.abs(torque).max() < bound * np.linalg.norm(slices[0]) * slope / np.sqrt(10)


@pytest.mark.parametrize(
    "operator", [{"interpolation": "kaiser"}, {"interpolation": "nufft"}], ids=name
)
def test_a_turn_about_the_viewing_direction_turns_the_image(operator):
    """ω along the third column of R: the slice changes by kx ∂/∂ky - ky ∂/∂kx, here by psi."""
    rng, step = np.random.default_rng(20), 1.0
    projector = build(25, 9, **operator)
    volumes = noise_volumes(rng, 1, 25, 4)
    angles = rng.uniform(0, 180, (2, 6))
    rotation = from_euler(*angles, np.zeros(6))
    ahead, behind = (from_euler(*angles, np.full(6, psi)) for psi in (step, -step))
    one, prepared = ones(projector, rotation), projector.prepare(volumes)
    change = projector.project(prepared, ahead.astype(np.float32), one)
    change = (change - projector.project(prepared, behind.astype(np.float32), one))[:, 0]
    change /= np.deg2rad(2 * step)
    residual = np.zeros_like(change)[:, None]
    tangent, torque = derivatives(projector, volumes, rotation, np.ones((6, 1)), residual)
    about_view = np.einsum("bdn,bd->bn", tangent, rotation[:, :, 2])
    assert relative(about_view, change) < (0.02 if operator["interpolation"] == "nufft" else 0.2)
    assert np.all(torque == 0)
