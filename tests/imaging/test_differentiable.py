"""Slices and back-projections as torch sees them: values, and gradients against finite differences."""

import numpy as np
import pytest
import torch

from imaging.projectors import build, extreme_rotations, name, random_images
from imaging.test_projector_derivatives import noise_volumes
from solvar import HalfDisc, backproject, project
from solvar.imaging.rotations import random as random_rotations

BOX, K_C, VIEWS = 24, 9, 40
BACKENDS = [
    {"backend": "numba", "interpolation": "kaiser"},
    {"backend": "torch", "interpolation": "kaiser"},
    {"interpolation": "nufft"},
]
over_backends = pytest.mark.parametrize("operator", BACKENDS, ids=name)
# As measured in test_projector_derivatives.py over the same chords
CHORD = 0.02


def bound(operator):
    return 0.02 if operator["interpolation"] == "nufft" else 0.25


@pytest.fixture
def case():
    """Volumes, rotations and slices."""
    rng = np.random.default_rng(21)
    volumes = torch.as_tensor(noise_volumes(rng, 2, BOX, 4))
    rotations = torch.as_tensor(random_rotations(VIEWS, rng))
    slices = random_images(rng, VIEWS, 2, len(HalfDisc.of_radius(K_C)))
    return volumes, rotations, torch.as_tensor(slices)


def turned(rotations, omega):
    """expm([ω]×) R."""
    x, y, z = omega.unbind(1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.matrix_exp(torch.stack(rows, 1).reshape(-1, 3, 3)) @ rotations


def inner(first, second):
    return torch.sum((first.conj() * second).real, dtype=torch.float64)


def test_slices_are_those_of_the_projector(case):
    volumes, rotations, _ = case
    projector = build(BOX, K_C, **BACKENDS[0])
    frame, scale = rotations.numpy().astype(np.float32), np.ones((VIEWS, len(projector.disc)))
    wanted = projector.project(projector.prepare(volumes.numpy()), frame, scale.astype(np.float32))
    for given in (rotations, rotations[:, :, :2], rotations.numpy()):
        found = project(volumes, given, K_C)
        assert found.dtype == torch.complex64
        np.testing.assert_array_equal(found.numpy(), wanted)


@over_backends
def test_projection_and_back_projection_are_each_others_gradient(operator, case):
    volumes, rotations, slices = case
    projector = build(BOX, K_C, **operator)
    volumes.requires_grad_(), slices.requires_grad_()
    seen = project(volumes, rotations, projector=projector)
    summed = backproject(slices, rotations, BOX, projector=projector)
    (of_volumes,) = torch.autograd.grad(inner(seen, slices.detach()), volumes)
    (of_slices,) = torch.autograd.grad(inner(summed, volumes.detach()), slices)
    torch.testing.assert_close(of_volumes, summed.detach())
    torch.testing.assert_close(of_slices, seen.detach())


def energy(volumes, rotations, projector):
    """A smooth function that is linear nowhere."""
    return torch.sum(torch.log1p(project(volumes, rotations, projector=projector).abs() ** 2))


@over_backends
def test_gradient_in_the_volumes_is_the_difference_quotient(operator, case):
    volumes, rotations, _ = case
    projector = build(BOX, K_C, **operator)
    volumes.requires_grad_()
    (gradient,) = torch.autograd.grad(energy(volumes, rotations, projector), volumes)
    along = (
        torch.randn(volumes.shape, generator=torch.Generator().manual_seed(1)) * volumes.detach()
    )
    step = 0.01
    with torch.no_grad():
        ahead, behind = (
            energy(volumes + s * along, rotations, projector).double() for s in (step, -step)
        )
    assert float(inner(gradient, along)) == pytest.approx(
        float(ahead - behind) / (2 * step), rel=5e-3
    )


@over_backends
@pytest.mark.parametrize("columns", [3, 2])
@pytest.mark.parametrize("function", ["project", "backproject"])
def test_gradient_in_rotations_is_the_difference_quotient(operator, columns, function, case):
    volumes, rotations, slices = case
    projector = build(BOX, K_C, **operator)

    def value(omega):
        """Of each view by itself: it moves no other."""
        views = turned(rotations, omega)[:, :, :columns]
        if function == "project":
            seen = project(volumes, views, projector=projector)
            return torch.sum((seen.conj() * slices).real, dim=(1, 2), dtype=torch.float64)
        return inner(backproject(slices, views, BOX, projector=projector), volumes)

    omega = torch.zeros(VIEWS, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(value(omega).sum(), omega)
    chord = torch.zeros_like(gradient)
    with torch.no_grad():
        for axis in range(3):
            step = CHORD * torch.eye(3, dtype=torch.float64)[axis].expand(VIEWS, 3)
            if function == "project":
                chord[:, axis] = (value(step) - value(-step)) / (2 * CHORD)
                continue
            for view in range(0, VIEWS, 8):
                one = torch.zeros(VIEWS, 3, dtype=torch.float64)
                one[view] = step[view]
                chord[view, axis] = (value(one) - value(-one)) / (2 * CHORD)
    if function == "backproject":
        gradient, chord = gradient[::8], chord[::8]
    assert float((gradient - chord).norm() / chord.norm()) < bound(operator)


@pytest.mark.slow
def test_a_volume_is_found_again_by_gradient_descent(case):
    volumes, _, _ = case
    rotations = torch.as_tensor(extreme_rotations(np.random.default_rng(3), 100))
    seen = project(volumes, rotations, K_C)
    guess = torch.zeros_like(volumes, requires_grad=True)
    optimizer = torch.optim.LBFGS([guess], max_iter=40)

    def loss():
        optimizer.zero_grad()
        value = torch.mean((project(guess, rotations, K_C) - seen).abs() ** 2)
        value.backward()
        return value

    first, last = (value.item() for value in (optimizer.step(loss), loss()))
    assert last < 1e-3 * first


def test_values_and_gradients_keep_the_type_of_what_they_belong_to(case):
    volumes, rotations, slices = (each.clone() for each in case)
    volumes = volumes.double().requires_grad_()
    rotations.requires_grad_()
    torch.sum(project(volumes, rotations, K_C).abs() ** 2).backward()
    assert volumes.grad.dtype == rotations.grad.dtype == torch.float64
    slices = slices.to(torch.complex128).requires_grad_()
    backproject(slices, rotations, BOX, K_C).sum().backward()
    assert slices.grad.dtype == torch.complex128


def test_shapes_that_do_not_fit_are_refused(case):
    volumes, rotations, slices = case
    with pytest.raises(ValueError, match=r"volumes must be real \(C, L, L, L\)"):
        project(volumes[0], rotations)
    with pytest.raises(ValueError, match="rotations must be"):
        project(volumes, rotations[0])
    with pytest.raises(ValueError, match="not orthonormal"):
        project(volumes, 2 * rotations)
    with pytest.raises(ValueError, match=f"slices must be \\({VIEWS}, C, "):
        backproject(slices[:, :, 1:], rotations, BOX, K_C)
    with pytest.raises(ValueError, match="for L = 24 and k_c = 9"):
        project(volumes[:, :-1, :-1, :-1], rotations, projector=build(BOX, K_C, **BACKENDS[0]))
