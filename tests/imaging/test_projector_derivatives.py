"""Derivatives of slices by the rotation: against exact sums, differences, and each other."""

from functools import cache

import numpy as np
import pytest

from imaging.projectors import (
    LATTICE_KERNELS,
    OPERATORS,
    build,
    defining_sum,
    extreme_rotations,
    name,
    ones,
    random_images,
)
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.rotations import from_euler, from_rotation_vector
from solvar.imaging.rotations import random as random_rotations


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
@pytest.mark.parametrize(("box", "k_c"), [(32, 8), (25, 12)])
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
