"""A turn that many particles have made together is told from turns by anything."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.estimation.poses import pseudo_symmetry
from solvar.imaging import rotations
from solvar.imaging.rotations import from_rotation_vector

COUNT = 2000


def moved(
    rng, share_lost: float, share_turned: float, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Poses before and after: some found from anywhere, some from where the molecule looks alike."""
    before = rotations.random(COUNT, rng)
    after = from_rotation_vector(np.deg2rad(3) * rng.standard_normal((COUNT, 3))) @ before
    chosen = rng.random(COUNT)
    lost = chosen < share_lost
    after[lost] = rotations.random(int(lost.sum()), rng)
    turned = (chosen > 1 - share_turned).nonzero()[0]
    to = from_rotation_vector(turn[None])[0]
    after[turned[::2]] = to @ after[turned[::2]]
    after[turned[1::2]] = to.T @ after[turned[1::2]]
    return before, after


@pytest.mark.parametrize("degree", [180, 120, 90])
def test_the_turn_is_found_among_particles_that_were_lost(degree: float) -> None:
    axis = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])
    turn = np.deg2rad(degree) * axis
    found = pseudo_symmetry(*moved(np.random.default_rng(0), 0.2, 0.06, turn))
    assert found is not None
    assert found.degree == pytest.approx(degree, abs=3)
    assert found.share == pytest.approx(0.06, abs=0.015)
    assert abs(found.turn @ axis) == pytest.approx(np.deg2rad(degree), abs=0.06)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_particles_that_were_lost_share_none(share: float) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert pseudo_symmetry(*moved(rng, share, 0.0, np.zeros(3))) is None


def test_what_few_particles_do_is_not_told() -> None:
    turn = np.array([0.0, 0.0, np.pi])
    assert pseudo_symmetry(*moved(np.random.default_rng(0), 0.0, 0.005, turn)) is None


def test_particles_that_stay_share_none() -> None:
    rotation = rotations.random(50, np.random.default_rng(0))
    assert pseudo_symmetry(rotation, rotation) is None
