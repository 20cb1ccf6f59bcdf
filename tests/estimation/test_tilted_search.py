"""The search of rotations for particles that were tilted, against one pose at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.poses import PoseState, likely_poses, tilted_search
from solvar.estimation.poses.grids import all_rotations
from solvar.estimation.poses.objective import PoseObjective
from solvar.estimation.poses.search import log_posterior_of_nodes
from solvar.estimation.poses.tilted_search import rotations_of_tilted
from solvar.imaging import rotations
from solvar.imaging.rotations import angles_between
from solvar.progress import SilentProgress
from toy_band import COUNT, tilted_band, true_columns

EACH = 4
PARTICLES = COUNT // EACH


@pytest.fixture
def tilted() -> Band:
    """Four images a particle at the same tilts, of a volume that shows more than noise."""
    rng = np.random.default_rng(6)
    rotation = rotations.random(PARTICLES, rng)
    tilt = np.tile(rotations.from_rotation_vector(rng.normal(0, 0.6, (EACH, 3))), (PARTICLES, 1, 1))
    return tilted_band(rng, rotation, tilt, 8)


@pytest.mark.parametrize("slices", [2, 512])
def test_nodes_have_the_log_posterior_of_their_poses(tilted: Band, monkeypatch, slices) -> None:
    monkeypatch.setattr(tilted_search, "_SLICES", slices)
    state = PoseState.of(tilted.images.rotation, (0.3, 0.1), axes=3)
    model = BandModel(tilted, ColumnModel(8 * true_columns(tilted), 0.0))
    batch = tilted.images.batch(np.arange(12), tilted.disc)
    objective = PoseObjective(model, batch, state)
    rng = np.random.default_rng(0)
    turn = rotations.from_rotation_vector(rng.normal(0, 0.3, (12, 3, 3)))
    rotation, moves = turn @ state.rotation[:12, None], rng.normal(0, 0.03, (5, 3))
    found = log_posterior_of_nodes(objective, rotation, moves)
    for k in range(3):
        for t in range(5):
            value = objective.value(rotation[:, k], np.tile(moves[t], (12, 1)))
            np.testing.assert_allclose(found[:, k, t], value, rtol=1e-4, atol=0.05)


@pytest.mark.parametrize("views", [2, 7])
def test_lost_particles_are_found(tilted: Band, monkeypatch, views: int) -> None:
    monkeypatch.setattr(tilted_search, "_VIEWS", views)
    true, some = tilted.images.rotation, np.arange(0, PARTICLES, 3)
    lost = rotations.random(PARTICLES, np.random.default_rng(1))
    away = np.random.default_rng(2).normal(0, 0.03, (PARTICLES, 3))
    state = PoseState.of(lost, axes=3)
    images = tilted.images.posed(lost, away)
    band = tilted.seeing(images).restricted(some)
    state = replace(state, shift=away)
    with SilentProgress().step("", 1) as step:
        columns = 8 * true_columns(tilted)
        found = likely_poses(band, band, columns, state, np.pi, 6, step)
    angle = np.stack([angles_between(true[some], found.rotation[:, k]) for k in range(6)])
    near = angle.argmin(axis=0)
    assert np.mean(angle.min(axis=0) < np.deg2rad(20)) > (0.45 if views == 2 else 0.7)
    # … nearer to where they are, as far as shifts are tried
    well = angle.min(axis=0) < np.deg2rad(10)
    left = away[some] + found.shift[np.arange(len(some)), near]
    assert np.abs(left[well]).mean() < 0.85 * np.abs(away[some]).mean()


def test_rotations_out_of_reach_are_left_out(tilted: Band) -> None:
    state = PoseState.of(tilted.images.rotation, axes=3)
    mean = ColumnModel(8 * true_columns(tilted)[:1], 0.0)
    batch = tilted.images.batch(np.arange(20), tilted.disc)
    objective = PoseObjective(BandModel(tilted, mean), batch, state)
    everywhere = all_rotations(0.25)
    for reach in (0.5, np.pi):
        found = rotations_of_tilted(objective, everywhere, np.zeros((1, 3)), reach, 3)
        angle = np.stack([angles_between(state.rotation[:20], found[:, k]) for k in range(3)])
        assert (angle.max() < 0.5001) == (reach < np.pi)
