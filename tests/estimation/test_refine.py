"""Pose refinement: derivatives, what it must not touch, and what it must find."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.estimation.poses.gauge import rigid_motions, split_rigid
from solvar.estimation.level import Level
from solvar.estimation.poses import PoseState, _derivatives, refine_poses
from solvar.estimation.settings import FitSettings
from solvar.evaluation import pose_errors
from solvar.imaging.rotations import from_rotation_vector
from solvar.progress import SilentProgress
from toy_level import COUNT, make_level, true_columns

RNG = np.random.default_rng(21)


@pytest.fixture(scope="module")
def level() -> Level:
    return make_level(interpolation="kaiser")


def _log_likelihood(level: Level, prepared, batch, rotation, shift, contrast_sd: float):
    from solvar.estimation.cache import centring_phase

    data, ctf, _ = level.images.batch(batch, len(level.disc))
    data = data * centring_phase(level.disc, shift)
    found, _ = level.e_step(
        prepared, batch, np.ascontiguousarray(data), ctf, rotation, contrast_sd, None
    )
    return found.log_likelihood


@pytest.mark.parametrize("contrast_sd", [0.0, 0.2])
def test_gradient_is_the_derivative_of_the_likelihood_in_all_five_directions(
    level: Level, contrast_sd: float
) -> None:
    batch = np.arange(200)
    prepared = level.projector.prepare(true_columns(level) * 3)
    data, ctf, rotation = level.images.batch(batch, len(level.disc))
    rotation = rotation.astype(np.float64)
    found, slices = level.e_step(prepared, batch, data, ctf, rotation, contrast_sd, None)
    gradient, _ = _derivatives(level, prepared, data, ctf, rotation, found, slices, contrast_sd)
    for d, step in enumerate([0.05] * 3 + [0.003] * 2):
        values = []
        for sign in (1, -1):
            move = np.zeros((len(batch), 5))
            move[:, d] = sign * step
            turned = from_rotation_vector(move[:, :3]) @ rotation
            values.append(_log_likelihood(level, prepared, batch, turned, move[:, 3:], contrast_sd))
        numeric = (values[0] - values[1]) / (2 * step)
        # rotations: the slope of the interpolant is good to a tenth, image by image
        correlation = np.corrcoef(numeric, gradient[:, d])[0, 1]
        slope = np.polyfit(gradient[:, d], numeric, 1)[0]
        assert correlation > (0.98 if d < 3 else 0.999)
        assert slope == pytest.approx(1, abs=0.1 if d < 3 else 0.03)


def test_steps_never_lower_the_posterior(level: Level) -> None:
    fresh = make_level()
    columns = true_columns(fresh) * 3
    state = PoseState.of(fresh.images.rotation.astype(np.float64))
    batch = np.arange(COUNT)

    def total() -> float:
        found, _ = fresh.posterior(fresh.projector.prepare(columns), batch, 0.0, None)
        return float(found.log_likelihood.sum() + state.log_prior(state.offset(batch)).sum())

    before, spread = total(), state.spread.copy()
    with SilentProgress().step("", 1) as step:
        refine_poses(fresh, columns, 0.0, None, state, step)
    state.spread = spread  # compare under one prior
    assert total() > before


def test_common_drift_is_removed_and_nothing_else(level: Level) -> None:
    fresh = make_level()
    start = fresh.images.rotation.astype(np.float64)
    state = PoseState.of(start)
    turn = from_rotation_vector(np.array([[0.1, -0.2, 0.15]]))[0]
    move = np.array([0.02, -0.01, 0.03])
    everybody = np.arange(COUNT)
    shift = -np.einsum("nij,i->nj", (turn @ start)[:, :, :2], move)
    data = fresh.images.data.copy()
    state.move(fresh.images, everybody, turn @ start, shift)
    state.remove_drift(fresh.images)
    np.testing.assert_allclose(state.rotation, start, atol=1e-8)
    np.testing.assert_allclose(state.shift, 0, atol=2e-3)
    assert np.linalg.norm(fresh.images.data - data) / np.linalg.norm(data) < 0.1


def _blobs(positions: np.ndarray, box: int = 24) -> np.ndarray:
    axis = np.arange(box) - box // 2
    along = [np.exp(-0.5 * ((axis[:, None] - positions[:, d]) / 1.5) ** 2) for d in range(3)]
    return np.einsum("za,ya,xa->zyx", along[2], along[1], along[0]).astype(np.float32)


def test_rigid_motions_are_those_of_moved_atoms() -> None:
    atoms = RNG.normal(0, 3, (20, 3))
    motions = rigid_motions(_blobs(atoms))
    for d in range(3):
        small = np.zeros((1, 3))
        small[0, d] = 0.01
        turned = (_blobs(atoms @ from_rotation_vector(small)[0].T) - _blobs(atoms)) / 0.01
        moved = (_blobs(atoms + 24 * small) - _blobs(atoms)) / 0.01
        for numeric, analytic in ((turned, motions[d]), (moved, motions[3 + d])):
            error = np.linalg.norm(numeric - analytic) / np.linalg.norm(analytic)
            assert error < 0.1


def test_a_rigid_column_goes_to_the_poses_and_a_flexible_one_stays() -> None:
    mean = _blobs(RNG.normal(0, 3, (20, 3)))
    motions = rigid_motions(mean)
    flexible = _blobs(RNG.normal(0, 3, (3, 3))) - _blobs(RNG.normal(0, 3, (3, 3)))
    rate = np.array([0.05, -0.02, 0.01, 0.01, 0.0, -0.02])
    rigid = np.tensordot(rate, motions, 1).astype(np.float32)
    mixed = np.stack([flexible + rigid, flexible - rigid]) / np.sqrt(2)
    rest, found = split_rigid(mean, mixed)
    # the covariance that is left is that of the flexible column
    left = np.linalg.svd(rest.reshape(2, -1), full_matrices=False)
    assert left[1][1] < 1e-3 * left[1][0]
    axis = np.abs(left[2][0] @ flexible.ravel()) / np.linalg.norm(flexible)
    assert axis == pytest.approx(1, abs=1e-2)
    cosine = found.T @ rate / np.linalg.norm(found, axis=0) / np.linalg.norm(rate)
    np.testing.assert_allclose(np.abs(cosine), 1, atol=1e-3)


def _fit(folder, star: str, **settings):
    from solvar.estimation.fit import fit
    from solvar.evaluation import Truth
    from solvar.particles import read_particles

    particles = read_particles(folder / star)
    found = fit(particles, FitSettings(rank=2, mask=folder / "mask.mrc", **settings))
    truth = Truth.load(folder)
    true = (truth.rotation, truth.shift_angstrom)
    before, after = (
        pose_errors(p.rotation, p.shift_angstrom, *true).summary(5.0)
        for p in (particles.poses, found.particles.poses)
    )
    return found, before, after


PERTURBED = {
    "heterogeneity": "gaussian",
    "rank": 2,
    "snr": 0.3,
    "pose_error": 5.0,
    "shift_error": 1.5,
}


def test_refinement_finds_the_shifts_that_the_images_determine(simulated) -> None:
    found, before, after = _fit(simulated(**PERTURBED), "particles_noisy.star", refine_pose=True)
    assert after["shift_px"]["mean"] < 0.5 * before["shift_px"]["mean"]
    assert found.pose_refinement is not None
    assert found.pose_refinement.covariance.shape == (1200, 5, 5)
    assert np.all(np.linalg.eigvalsh(found.pose_refinement.covariance) > 0)


@pytest.mark.parametrize("snr", [0.01, 0.3])
def test_true_poses_stay_within_the_error_bars(simulated, snr: float) -> None:
    folder = simulated(heterogeneity="gaussian", rank=2, snr=snr)
    found, _, after = _fit(folder, "particles.star", refine_pose=True)
    refinement = found.pose_refinement
    assert refinement is not None
    error_bar = np.rad2deg(np.sqrt(np.einsum("bii->b", refinement.covariance[:, :3, :3]).mean()))
    assert after["out_of_plane_degree"]["rms"] < 1.5 * error_bar
