"""Which particles are near to a point in latent space."""

from __future__ import annotations

import numpy as np

from solvar.estimation.posterior import squared_differences
from solvar.volumes.neighbours import ellipsoid_distances


def test_particles_are_as_far_from_a_point_as_their_volumes_differ() -> None:
    rng = np.random.default_rng(0)
    eigenvolumes = np.linalg.qr(rng.normal(size=(50, 3)))[0]
    z, point = rng.normal(0, [3.0, 1.0, 0.2], (20, 3)), np.array([1.0, -0.5, 0.1])
    volumes = (z - point) @ eigenvolumes.T
    np.testing.assert_allclose(squared_differences(z, point), (volumes**2).sum(axis=1))


def test_particles_near_a_point_of_an_arc_are_of_one_state() -> None:
    """More so than those whose error ellipsoids are nearest: these are the ones of which least is known."""
    rng = np.random.default_rng(1)
    state = rng.uniform(size=3000)
    latents = np.stack([2 * np.cos(np.pi * state), np.sin(np.pi * state) - 2 / np.pi], axis=1)
    # a third component is the images' noise alone, and small
    latents = np.column_stack([latents, np.zeros(len(state))])
    # errors of 0.1 to 1, each particle's own: defocus and view
    error = np.exp(rng.uniform(np.log(0.1), 0, (len(state), 1))) * np.ones(3)
    information = np.einsum("ni,ij->nij", 1 / error**2, np.eye(3))
    precision = information + np.diag(1 / np.array([2.0, 0.1, 0.05]))
    seen = (latents + rng.normal(0, error)) / error**2
    z = np.linalg.solve(precision, seen[..., None])[..., 0]

    points = [z[np.abs(state - middle) < 0.02].mean(axis=0) for middle in (0.2, 0.5, 0.8)]
    ours = [squared_differences(z, point) for point in points]
    ellipsoids = [ellipsoid_distances(z, precision, point) for point in points]
    spread = [
        np.mean([state[np.argsort(each)[:50]].std() for each in by]) for by in (ours, ellipsoids)
    ]
    assert spread[0] < 0.9 * spread[1]
