"""Point groups: how many operations, which axes, and where a volume has them."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.imaging import rotations
from solvar.imaging.frames import frame_between
from solvar.imaging.point_groups import (
    PointGroup,
    distinct,
    generated,
    nearest_equivalent,
    nearest_operation,
)
from solvar.imaging.symmetry import find_axes, symmetry_fsc
from solvar.simulation.assembly import Assembly, all_states
from solvar.simulation.molecule import flexible_molecule
from solvar.simulation.volumes import blob_volume

GROUPS = {"C1": 1, "C4": 4, "c7": 7, "D2": 4, "D7": 14, "T": 12, "O": 24, "I": 60, "I4": 60}


@pytest.mark.parametrize(("name", "order"), GROUPS.items())
def test_a_group_is_closed_and_begins_with_the_identity(name, order):
    group = PointGroup.named(name)
    assert len(group) == order
    products = (group.operations[:, None] @ group.operations).reshape(-1, 3, 3)
    assert nearest_operation(products, group.operations)[1].max() < 2 * np.deg2rad(0.05)
    assert np.allclose(group.operations[0], np.eye(3))
    assert len(distinct(group.operations)) == order


def test_axes_lie_as_relion_lays_them():
    """Rotations that `relion_refine --print_symmetry_ops` lists, one of each group that fixes its setting."""
    listed = {
        "D3": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
        "T": [[-1, 0, 0], [0, 1 / 3, 0.942809], [0, 0.942809, -1 / 3]],
        "O": [[0, 0, 1], [1, 0, 0], [0, 1, 0]],
        "I1": [[0.809017, -0.5, -0.309017], [0.5, 0.309017, 0.809017], [-0.309017, -0.809017, 0.5]],
        "I2": [[0.5, 0.809017, 0.309017], [-0.809017, 0.309017, 0.5], [0.309017, -0.5, 0.809017]],
        "I4": [
            [0.8618, 0.42533, 0.27639],
            [-0.42533, 0.30902, 0.85065],
            [0.27639, -0.85065, 0.44721],
        ],
    }
    for name, matrix in listed.items():
        away = np.abs(PointGroup.named(name).operations - np.array(matrix)).max(axis=(1, 2))
        assert away.min() < 1e-4, name


@pytest.mark.parametrize("name", ["", "C", "C0", "D1.5", "X", "I7", "C99"])
def test_other_names_are_refused_with_those_there_are(name):
    with pytest.raises(ValueError, match="is no point group; there are C1"):
        PointGroup.named(name)


def test_a_group_is_known_by_some_of_its_rotations_and_nothing_else_is():
    tilted = PointGroup.named("D3").turned(rotations.random(1, np.random.default_rng(0))[0])
    found = generated(np.stack([tilted.operations[1], tilted.operations[-1]]))
    assert found is not None and len(found) == 6
    assert generated(rotations.from_rotation_vector([[0.0, 0.1234, 0.0]])) is None


@pytest.mark.parametrize("name", ["C3", "D2"])
def test_axes_are_found_where_they_lie(name):
    rng, group = np.random.default_rng(1), PointGroup.named(name)
    assembly = Assembly.of(flexible_molecule(0), group, 80.0)
    turn, move = rotations.random(1, rng)[0], np.array([3.0, -4.0, 2.0])
    positions = assembly.positions(np.full((1, len(group)), 0.5))[0] @ turn.T + move
    volume = blob_volume(positions, assembly.weights, 5.0, 32, 4.0)
    assert symmetry_fsc(volume, volume, group, 9)[8] < 0.5
    axes = find_axes(volume, group)
    true = group.turned(turn).operations
    found = group.turned(axes.rotation).operations
    assert max(rotations.angles_between(true, each).min() for each in found) < np.deg2rad(1.5)
    turned = PointGroup(group.name, found)
    off = axes.centre * 128 - move
    # what moves along an axis leaves it where it is
    assert np.linalg.norm((np.eye(3) - turned.operations.mean(axis=0)) @ off) < 1.0
    # a dark molecule has its axes where a bright one has them
    assert np.allclose(find_axes(-volume, group).rotation, axes.rotation, atol=1e-6)
    assert axes.correlation > 1.3 * find_axes(volume, PointGroup.named("C5")).correlation


def test_a_frame_is_found_where_every_pose_may_be_any_equivalent_one():
    rng, group = np.random.default_rng(2), PointGroup.named("D3")
    pose, frame = rotations.random(200, rng), rotations.random(1, rng)[0]
    copy = group.operations[rng.integers(len(group), size=200)]
    second = copy @ frame @ pose
    assert np.median(frame_between(pose, second).angle) > 0.5
    found = frame_between(pose, second, operations=group.operations)
    assert not found.mirror and found.angle.max() < 1e-6


def test_the_nearest_of_equivalent_poses_is_found():
    rng, group = np.random.default_rng(4), PointGroup.named("T")
    pose = rotations.random(20, rng)
    off = rotations.from_rotation_vector(rng.normal(0, 0.05, (20, 3)))
    copy = group.operations[rng.integers(len(group), size=20)]
    found = nearest_equivalent(copy @ pose, off @ pose, group.operations)
    assert np.allclose(found, pose)


def test_states_of_subunits_have_the_shares_that_were_asked_for():
    states, weight = all_states(3, 0.3)
    assert len(states) == 8
    assert np.allclose(weight @ states, 0.3) and np.isclose(weight.sum(), 1)
