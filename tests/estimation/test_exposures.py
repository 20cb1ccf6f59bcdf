"""Particles with several images, and with several weighted poses, against dense algebra."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp
from torch._subclasses.fake_tensor import FakeTensorMode

from imaging.projectors import ELSEWHERE, pretend_to_copy
from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel, e_step, gram_matrices
from solvar.estimation.grouping import Hypotheses
from solvar.estimation.image_batch import frames_of
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.mean import MeanProblem
from solvar.estimation.normal_operator import Slices
from solvar.estimation.objectives.maximum_likelihood import MaximumLikelihood
from solvar.estimation.poses import PoseState
from solvar.estimation.poses.objective import PoseObjective
from solvar.imaging import rotations
from solvar.imaging.fourier import centring_phase
from solvar.imaging.projector import torch_backend
from solvar.imaging.projector.kernel import KERNELS
from solvar.imaging.projector.lattice import Lattice
from solvar.imaging.projector.torch_backend import TorchProjector
from solvar.particles.exposures import Exposures, ranges
from toy_band import COUNT, K_C, make_band, tilted_band, true_columns

EACH = 3
PARTICLES = COUNT // EACH


@pytest.fixture
def tilted() -> Band:
    """Three images a particle, tilted against each other, of volumes of one state."""
    rng = np.random.default_rng(3)
    rotation = rotations.random(PARTICLES, rng)
    tilt = rotations.from_rotation_vector(rng.normal(0, 0.4, (COUNT, 3)))
    return tilted_band(rng, rotation, tilt, 3)


def _dense(
    band: Band, columns: np.ndarray, rotation: np.ndarray, shift: np.ndarray, p: int
) -> float:
    """log p of all images of a particle together, contrast 1, up to what the data alone say."""
    store = band.images.store
    row = EACH * p + np.arange(EACH)
    frame = frames_of(rotation @ store.tilt[row])
    slices = band.projector.project(band.projector.prepare(columns), frame, store.pixels.ctf[row])
    moved = np.einsum("rji,j->ri", store.tilt[row][:, :, :2], shift)
    data = store.pixels.data[row] * centring_phase(band.disc, moved)
    flat = slices.transpose(1, 0, 2).reshape(len(columns), -1).view(np.float32).astype(np.float64)
    y = data.reshape(-1).view(np.float32).astype(np.float64)
    s, e = flat[0], flat[1:]
    precision = np.eye(len(e)) + e @ e.T
    score = e @ (y - s)
    explained = score @ np.linalg.solve(precision, score)
    return float(y @ s - 0.5 * s @ s + 0.5 * explained - 0.5 * np.linalg.slogdet(precision)[1])


def test_images_of_a_particle_share_its_latents(tilted: Band) -> None:
    columns = 3 * true_columns(tilted)
    model = BandModel(tilted, ColumnModel(columns, 0.0))
    (batch,) = tilted.batches(np.array([7, 2, 30]), 100)
    found, _ = e_step(model, batch)
    still = np.zeros(3)
    dense = [_dense(tilted, columns, tilted.images.rotation[p], still, p) for p in batch.index]
    np.testing.assert_allclose(found.log_likelihood, dense, rtol=1e-4)
    products = gram_matrices(model, np.array([7, 2, 30]))
    np.testing.assert_allclose(image_posterior(products, 0.0).log_likelihood, dense, rtol=1e-4)
    power = tilted.images.store.ctf_power.reshape(PARTICLES, EACH, -1).sum(axis=1)
    np.testing.assert_allclose(batch.ctf_power, power[[7, 2, 30]], rtol=1e-5)


def test_batches_hold_whole_particles(tilted: Band) -> None:
    sizes = [(len(batch), len(batch.data)) for batch in tilted.batches(size=50)]
    assert sum(count for count, _ in sizes) == PARTICLES
    assert all(rows == EACH * count <= 50 for count, rows in sizes)


def _supposed(band: Band, spread: float = 0.3) -> Hypotheses:
    """Three poses a particle, the right one first; one in four is left out."""
    rng = np.random.default_rng(5)
    turn = rotations.from_rotation_vector(rng.normal(0, spread, (PARTICLES, 3, 3)))
    turn[:, 0] = np.eye(3)
    log_weight = rng.normal(size=(PARTICLES, 3))
    log_weight[rng.random((PARTICLES, 3)) < 0.25] = -np.inf
    log_weight[:, 0] = 0.0
    shift = rng.normal(0, 0.01, (PARTICLES, 3, 3))
    return Hypotheses(turn @ band.images.rotation[:, None], shift, log_weight)


def test_poses_of_a_particle_are_mixed_by_their_posterior_weight(tilted: Band) -> None:
    columns, supposed = 3 * true_columns(tilted), _supposed(tilted)
    tilted.images = tilted.images.supposed(supposed)
    (batch,) = tilted.batches(np.arange(20), 10_000)
    found, _ = e_step(BandModel(tilted, ColumnModel(columns, 0.0)), batch)
    for p in range(20):
        log = [
            _dense(tilted, columns, supposed.rotation[p, k], supposed.shift[p, k], p)
            for k in range(3)
        ]
        whole = logsumexp(np.array(log) + supposed.log_weight[p])
        assert found.log_likelihood[p] == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("uncertain", [False, True])
@pytest.mark.parametrize("contrast_sd", [0.0, 0.2])
def test_gradient_is_the_derivative_of_the_evidence(
    tilted: Band, uncertain: bool, contrast_sd: float
) -> None:
    rng = np.random.default_rng(8)
    columns, some = 2 * true_columns(tilted), np.arange(30)
    if uncertain:
        tilted.images = tilted.images.supposed(_supposed(tilted, 0.1))
    direction = rng.standard_normal(columns.shape).astype(np.float32) * tilted.support.mean
    model = ColumnModel(columns, contrast_sd)
    gradient = MaximumLikelihood().gradient(tilted, model, some).columns

    def objective(step: float) -> float:
        moved = replace(model, columns=(columns + step * direction).astype(np.float32))
        (batch,) = tilted.batches(some, 10_000)
        found, _ = e_step(BandModel(tilted, moved), batch)
        return -float(found.log_likelihood.sum())

    step = 1e-4
    numeric = (objective(step) - objective(-step)) / (2 * step)
    analytic = float(np.vdot(gradient.astype(np.float64), direction))
    assert analytic == pytest.approx(numeric, rel=1e-2)


def test_one_pose_of_weight_one_changes_no_bit() -> None:
    band = make_band()
    model = ColumnModel(2 * true_columns(band), 0.1)
    plain = MaximumLikelihood().gradient(band, model, np.arange(50))
    one = band.images.rotation[:, None], band.images.shift[:, None], np.zeros((COUNT, 1))
    band.images = band.images.supposed(Hypotheses(*one))
    supposed = MaximumLikelihood().gradient(band, model, np.arange(50))
    np.testing.assert_array_equal(supposed.columns, plain.columns)
    np.testing.assert_array_equal(supposed.statistics.second, plain.statistics.second)


def test_pose_derivatives_add_up_over_the_images_of_a_particle(tilted: Band) -> None:
    wide = (np.deg2rad(20.0), 0.2)
    state = PoseState.of(tilted.images.rotation, wide, axes=3)
    model = BandModel(tilted, ColumnModel(3 * true_columns(tilted), 0.1))
    (batch,) = tilted.batches(size=10_000)
    objective = PoseObjective(model, batch, state)
    rotation, shift = objective.start()
    _, slopes = objective.slopes(rotation, shift)
    for d, step in enumerate([0.03] * 3 + [0.003] * 3):
        values = []
        for sign in (1, -1):
            move = np.zeros((PARTICLES, 6))
            move[:, d] = sign * step
            turned = rotations.from_rotation_vector(move[:, :3]) @ rotation
            values.append(objective.value(turned, move[:, 3:]))
        numeric = (values[0] - values[1]) / (2 * step)
        slope = np.polyfit(slopes.gradient[:, d], numeric, 1)[0]
        assert slope == pytest.approx(1, abs=0.1 if d < 3 else 0.03)


def test_the_mean_of_tilted_images_is_the_volume(tilted: Band) -> None:
    truth = true_columns(tilted)[0]
    store = tilted.images.store
    (batch,) = tilted.batches(size=10_000)
    prepared = tilted.projector.prepare(truth[None])
    store.pixels.data[:] = tilted.projector.project(prepared, batch.frame, store.pixels.ctf)[:, 0]
    mean = MeanProblem(tilted).solve(np.full(K_C + 1, 1e-3), steps=12)
    assert np.linalg.norm(mean - truth) / np.linalg.norm(truth) < 0.05


def test_slices_of_poses_with_weights_may_lie_on_a_device(tilted: Band, monkeypatch) -> None:
    monkeypatch.setattr(torch_backend, "to_host", pretend_to_copy)
    tilted.images = tilted.images.supposed(_supposed(tilted))
    lattice = Lattice(tilted.box, K_C, KERNELS["kaiser"])
    with FakeTensorMode(allow_non_fake_inputs=True):
        tilted.projector = TorchProjector(lattice, tilted.disc, ELSEWHERE)
        applied = Slices(tilted)(tilted.support.mean)
    assert applied.shape == tilted.support.mean.shape


def test_selected_particles_keep_their_own_images() -> None:
    count = np.array([2, 1, 3])
    particle = np.repeat(np.arange(3), count)
    each = np.arange(6.0)
    ctf = replace(_no_ctf(6), defocus_u_angstrom=each, dose_per_angstrom2=each)
    zero = np.zeros(6, np.int64)
    moved = np.stack([each, -each], axis=1)
    exposures = Exposures(particle, zero, ctf, zero, np.arange(6), shift_angstrom=moved)
    chosen = exposures.of(np.array([2, 0]))
    assert chosen.frame.tolist() == [3, 4, 5, 0, 1] == chosen.ctf.dose_per_angstrom2.tolist()
    assert chosen.shift_angstrom.tolist() == moved[[3, 4, 5, 0, 1]].tolist()
    assert chosen.particle.tolist() == [0, 0, 0, 1, 1]
    assert chosen.ctf.defocus_u_angstrom.tolist() == [3, 4, 5, 0, 1]
    assert ranges(np.array([5, 0]), np.array([2, 3])).tolist() == [5, 6, 0, 1, 2]


def _no_ctf(count: int):
    from solvar.particles import CtfParameters

    return CtfParameters(*np.zeros((5, count)))
