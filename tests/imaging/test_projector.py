"""Projectors: adjointness, agreement with each other and with exact sums, conventions."""

import sys

import numba
import numpy as np
import pytest
import torch

from imaging.projectors import (
    LATTICE_KERNELS,
    OPERATORS,
    blob_volume,
    build,
    defining_sum,
    extreme_rotations,
    name,
    ones,
    random_images,
)
from solvar.errors import InputError
from solvar.imaging.fourier import HalfDisc, disc_to_images
from solvar.imaging.projector import make_projector
from solvar.imaging.projector.kernel import KERNELS
from solvar.imaging.projector.lattice import Lattice
from solvar.imaging.projector.torch_backend import TorchProjector
from solvar.imaging.projector.window import locate
from solvar.imaging.rotations import from_euler
from solvar.imaging.rotations import random as random_rotations


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
def compiled_locate(x, window):
    return locate(x, window)


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


def points_volume(positions, weights, box):
    """Volume with δ(n - position): its transform is known at every frequency."""
    volume = np.zeros((box, box, box), dtype=np.float32)
    for (x, y, z), weight in zip(positions, weights, strict=True):
        volume[box // 2 + z, box // 2 + y, box // 2 + x] = weight
    return volume


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


@pytest.mark.parametrize(
    "operator", [o for o in OPERATORS if o["interpolation"] != "nufft"], ids=name
)
def test_frames_may_stretch_as_far_as_the_lattice_has_room(operator):
    rng = np.random.default_rng(10)
    stretch = np.array([[1.05, 0.02], [-0.01, 0.97]])
    longest = np.linalg.svd(stretch)[1].max()
    frame = (random_rotations(7, rng)[:, :, :2] @ stretch).astype(np.float32)
    volumes = rng.normal(size=(2, 16, 16, 16)).astype(np.float32)
    projector = build(16, 7, stretch=longest, **operator)
    scale = rng.normal(size=(7, len(projector.disc))).astype(np.float32)
    length = np.linalg.norm(stretch @ np.stack([projector.disc.kx, projector.disc.ky]), axis=0)
    assert (length > 7).any()
    scale[:, length > 7] = 0
    slices = projector.project(projector.prepare(volumes), frame, scale)
    assert not slices[:, :, length > 7].any()
    images, into = random_images(rng, *slices.shape), projector.zeros(2)
    projector.scatter(images, frame, scale, into)
    back = projector.collect(into)
    forward = np.vdot(slices.astype(complex), images).real
    size = np.linalg.norm(slices) * np.linalg.norm(images)
    assert abs(forward - np.vdot(volumes.astype(float), back)) < 2e-6 * size
    # inside the disc a lattice that reaches further holds the same values
    small = (frame / longest).astype(np.float32)
    plain = build(16, 7, **operator)
    first, second = (p.project(p.prepare(volumes), small, scale) for p in (plain, projector))
    np.testing.assert_allclose(first, second, atol=2e-5 * np.abs(first).max())


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
    with pytest.raises(InputError, match=r"finufft; install it with .*nufft"):
        make_projector(8, HalfDisc.of_radius(3), interpolation="nufft")


@pytest.mark.parametrize("k_c", [0, 4])
def test_a_radius_beyond_nyquist_is_refused(k_c):
    with pytest.raises(ValueError, match="k_c must lie between"):
        make_projector(8, HalfDisc.of_radius(k_c))
