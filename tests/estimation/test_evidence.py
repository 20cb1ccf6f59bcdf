"""What components explain beside what else could, on images of a few pixels whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.estimation.causes import CAUSES, POSE
from solvar.estimation.evidence import evidence, pose_doubt
from solvar.estimation.nuisances import NUISANCES, UNITS, HeldOutProducts

PARTICLES, PIXELS, RANK = 1500, 80, 2


def drawn(rng: np.random.Generator, latent=0.0, pose=0.0, noise=1.0, mixed=0.0) -> HeldOutProducts:
    """Images of two components (share `mixed` of them pose derivatives), pose errors and white noise."""
    count = RANK + len(NUISANCES) + RANK
    columns = 0.3 * rng.standard_normal((PARTICLES, count, PIXELS))
    moving = columns[:, RANK + 1 : RANK + 1 + RANK]
    columns[:, :RANK] += mixed * (moving - columns[:, :RANK])
    size = np.zeros(count)
    size[:RANK] = latent
    size[[RANK + j for j, kind in enumerate(NUISANCES) if kind == POSE]] = pose
    coefficient = size * rng.standard_normal((PARTICLES, count))
    data = np.einsum("nc,ncp->np", coefficient, columns)
    data += noise * rng.standard_normal((PARTICLES, PIXELS))
    whole = np.concatenate([columns, data[:, None]], axis=1)
    return HeldOutProducts(whole @ whole.transpose(0, 2, 1), RANK)


def halves(seed: int, **given: float) -> list[HeldOutProducts]:
    return [drawn(np.random.default_rng([seed, half]), **given) for half in (0, 1)]


def test_a_component_that_is_there_is_real_and_nothing_else_explains_it() -> None:
    found = evidence(halves(0, latent=0.5))
    assert found.real.all() and found.seen.all()
    assert (found.left > 0.8).all() and (found.explained < 0.1).all()


@pytest.mark.slow
def test_noise_alone_makes_no_component_in_many_draws() -> None:
    assert sum(evidence(halves(seed)).real.sum() for seed in range(15)) <= 1


def test_pose_errors_are_no_component_and_are_named() -> None:
    found = evidence(halves(1, pose=1.0, mixed=1.0))
    assert found.seen.all() and not found.real.any()
    assert [CAUSES[j] for j in found.explained.argmax(axis=1)] == ["pose", "pose"]


def test_noise_that_is_stronger_than_assumed_is_no_component_and_is_seen_from_any_view() -> None:
    found = evidence(halves(2, noise=1.15))
    assert found.seen.all() and not found.real.any()
    assert [CAUSES[j] for j in found.explained.argmax(axis=1)] == ["any view", "any view"]


def test_a_component_keeps_what_pose_errors_beside_it_cannot_explain() -> None:
    found = evidence(halves(3, latent=0.5, pose=0.7))
    assert found.real.all()


@pytest.mark.parametrize("size", [0.5, 1.5])
def test_the_size_of_pose_errors_is_found(size: float) -> None:
    seen = halves(4, latent=0.5, pose=size)
    found = pose_doubt(seen, np.ones(len(seen[0].components), bool))
    assert found.beyond_chance
    assert found.rotation_degree == pytest.approx(np.sqrt(3) * size * UNITS.degrees, rel=0.1)
    assert found.shift_pixel == pytest.approx(size * UNITS.pixels, rel=0.1)
    assert 0 < found.removable < 1


def test_good_poses_are_not_doubted() -> None:
    seen = halves(5, latent=0.5)
    found = pose_doubt(seen, np.ones(len(seen[0].components), bool))
    assert not found.beyond_chance or found.rotation_degree < 0.1 * UNITS.degrees
