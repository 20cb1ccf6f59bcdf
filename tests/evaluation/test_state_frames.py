"""The truth as its particles are posed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from solvar.estimation.low_rank import LowRankModel
from solvar.evaluation import Truth
from solvar.evaluation.covariance import captured_variance
from solvar.evaluation.state_frames import as_posed
from solvar.imaging.rotations import from_rotation_vector
from solvar.imaging.sampler import Sampler
from solvar.particles import Poses
from solvar.simulation import SimulationSettings, simulate
from solvar.volume_file import read_volume

TURN = np.deg2rad([8.0, -5.0, 10.0])


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    """Of two states."""
    folder: Path = tmp_path_factory.mktemp("states")
    settings = SimulationSettings(particles=100, box_size=32, heterogeneity="discrete", states=2)
    simulate(settings).write(folder, overwrite=True)
    return Truth.load(folder)


def _model(truth: Truth) -> LowRankModel:
    """On the grid of the truth, of its first eigenvolume."""
    assert truth.eigenvolumes is not None and truth.mean is not None and truth.mask is not None
    size = float(np.linalg.norm(truth.eigenvolumes[0]))
    unit = (truth.eigenvolumes[:1] / size).astype(np.float32)
    return LowRankModel(
        truth.mean, unit, np.array([size**2]), truth.mask, truth.pixel_size_angstrom
    )


def _turned(truth: Truth, angle: float) -> Poses:
    """True poses, those of the second state turned."""
    assert truth.rotation is not None and truth.state is not None
    assert truth.shift_angstrom is not None
    turn = from_rotation_vector(angle * np.outer(truth.state == 1, TURN))
    return Poses(turn @ truth.rotation, truth.shift_angstrom)


def test_at_true_poses_it_is_the_truth(truth: Truth) -> None:
    posed = as_posed(truth, _turned(truth, 0.0), _model(truth))
    assert posed is not None and posed.eigenvolumes is not None and truth.eigenvolumes is not None
    assert captured_variance(posed.eigenvolumes, truth.eigenvolumes) > 0.999
    power = [float((each.astype(float) ** 2).sum()) for each in (posed.mean, truth.mean)]
    assert power[0] == pytest.approx(power[1], rel=1e-2)


def test_a_state_whose_particles_are_turned_is_turned(truth: Truth) -> None:
    poses = _turned(truth, 1.0)
    posed = as_posed(truth, poses, _model(truth))
    assert posed is not None and posed.eigenvolumes is not None and truth.eigenvolumes is not None
    # by other volumes the same particles' poses are the true ones
    back = replace(truth, rotation=poses.rotation)
    again = as_posed(back, Poses(truth.rotation, truth.shift_angstrom), _model(truth))
    assert again is not None and again.eigenvolumes is not None
    told = captured_variance(posed.eigenvolumes, truth.eigenvolumes)
    assert told < 0.9
    # slices of what is posed, at these poses, are those of the truth at the true ones
    volumes = [read_volume(path)[0] for path in truth.volumes.values()]
    matrix = from_rotation_vector(TURN[None])[0].T
    moved = Sampler(volumes[1]).at(matrix, np.zeros(3))
    difference = (moved - volumes[0])[None]
    assert captured_variance(posed.eigenvolumes, difference) > 0.995
    # … and turning the other way leads elsewhere
    assert captured_variance(again.eigenvolumes, difference) < 0.9


def test_one_shape_has_no_frames(truth: Truth) -> None:
    one = replace(truth, volumes=dict(list(truth.volumes.items())[:1]))
    assert as_posed(one, _turned(truth, 0.0), _model(truth)) is None
