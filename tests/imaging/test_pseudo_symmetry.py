"""A turn that many particles have made together is told from turns by anything."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.imaging import rotations
from solvar.imaging.frames import mirrored
from solvar.imaging.pseudo_symmetry import pseudo_symmetry
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
    assert found is not None and not found.mirror
    assert found.degree == pytest.approx(degree, abs=3)
    assert found.count == pytest.approx(0.06 * COUNT, rel=0.25)
    assert abs(found.turn @ axis) == pytest.approx(np.deg2rad(degree), abs=0.06)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
def test_particles_that_were_lost_share_none(share: float) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assert pseudo_symmetry(*moved(rng, share, 0.0, np.zeros(3))) is None


def test_going_over_to_the_mirror_image_is_found() -> None:
    rng = np.random.default_rng(1)
    before, after = moved(rng, 0.1, 0.0, np.zeros(3))
    turn = from_rotation_vector(np.array([[0.4, 1.0, -0.7]]))[0]
    some = rng.permutation(COUNT)[:80]
    # the inverse of a turn after a mirror is the turn's, mirrored, transposed
    after[some[:40]] = turn @ mirrored(before[some[:40]])
    after[some[40:]] = mirrored(turn.T @ before[some[40:]])
    found = pseudo_symmetry(before, after)
    assert found is not None and found.mirror
    assert found.count > 65
    assert abs(found.degree - np.rad2deg(np.linalg.norm([0.4, 1.0, -0.7]))) < 5


def test_what_few_particles_do_is_not_told() -> None:
    turn = np.array([0.0, 0.0, np.pi])
    assert pseudo_symmetry(*moved(np.random.default_rng(0), 0.0, 0.003, turn)) is None


def test_particles_that_stay_share_none() -> None:
    rotation = rotations.random(50, np.random.default_rng(0))
    assert pseudo_symmetry(rotation, rotation) is None
