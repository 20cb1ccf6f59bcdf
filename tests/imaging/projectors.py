"""Every projector by name, volumes whose transform is known, and all that a projector can do at once."""

from functools import cache

import numpy as np
import pytest

from solvar.estimation import kernels
from solvar.imaging.fourier import HalfDisc
from solvar.imaging.projector import make_projector
from solvar.imaging.rotations import from_euler
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

# A device that torch knows and does not have: its fake tensors refuse to mix with the host's, as those
# of a GPU do ("cuda" itself needs torch built for it even then)
ELSEWHERE = "lazy:1"


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


def pretend_to_copy(tensor):
    """What leaves a fake device: zeros of the shape."""
    assert tensor.cpu().device.type == "cpu"
    return np.zeros(tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))


def problem(disc, box=12, count=12, channels=3, stretch=None):
    """Volumes, frames, factors of pixels, images and moments that `everything` is given."""
    rng = np.random.default_rng(1)
    volumes = rng.normal(size=(channels, box, box, box)).astype(np.float32)
    frame = random_rotations(count, rng)[:, :, :2] @ (np.eye(2) if stretch is None else stretch)
    scale = rng.normal(size=(count, len(disc))).astype(np.float32)
    images = random_images(rng, count, channels, len(disc))
    moment = rng.normal(size=(count, channels))
    return volumes, np.ascontiguousarray(frame, dtype=np.float32), scale, images, moment


def everything(projector, volumes, frame, scale, images, moment, places=None):
    """Results of every operation of a projector, and of the products made from its slices.

    `places` are arrays that `places_of` made beforehand.
    """
    lattice, slices, residuals, sums = places or places_of(projector, volumes, images)
    team = ThreadTeam()
    projector.project(lattice, frame, scale, slices)
    data, second = np.ascontiguousarray(images[:, 0]), moment[:, :, None] * moment[:, None]
    products = kernels.gram(slices, data, team)
    kernels.residual(slices, data, second, moment, team, residuals)
    projector.scatter(residuals, frame, scale, sums)
    tangent, torque = projector.differentiate(lattice, frame, scale, moment, residuals)
    wave = np.stack([projector.disc.kx, projector.disc.ky]).astype(np.float32)
    return {
        "lattice": lattice,
        "slices": slices,
        "residuals": residuals,
        "sums": sums,
        "volumes": projector.collect(sums),
        "tangent": tangent,
        "torque": torque,
        "products": products,
        "pose products": kernels.pose_products(slices, tangent, data, moment, wave, team),
    }


def places_of(projector, volumes, images):
    """The lattice of volumes, and memory for slices, residuals and their sums, where it computes."""
    slices, residuals = (projector.empty(images.size).reshape(images.shape) for _ in range(2))
    return projector.prepare(volumes), slices, residuals, projector.zeros(len(volumes))
