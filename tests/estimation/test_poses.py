"""Pose refinement: derivatives, what it must not touch, and what it must find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.image_batch import frames_of
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.pose_errors import PoseErrors, marginalise, rigid_motions
from solvar.estimation.poses import (
    SOLVERS,
    PoseState,
    likely_poses,
    pose_errors_depend_on_conformation,
    refine_poses,
)
from solvar.estimation.poses.grids import ball
from solvar.estimation.poses.objective import PoseObjective
from solvar.estimation.poses.search import log_posterior_of_nodes
from solvar.evaluation import pose_errors
from solvar.fitting.settings import FitSettings
from solvar.imaging.projector import Projection
from solvar.imaging.rotations import from_rotation_vector
from solvar.progress import SilentProgress
from toy_band import COUNT, all_images, make_band, true_columns

RNG = np.random.default_rng(21)
WIDE = (np.deg2rad(20.0), 0.2)


@pytest.fixture(scope="module")
def band() -> Band:
    return make_band(interpolation="kaiser")


def _objective(band: Band, contrast_sd: float = 0.0, spread=WIDE) -> PoseObjective:
    state = PoseState.of(band.images.rotation, spread)
    return _objective_of(band, true_columns(band) * 3, state, contrast_sd)


def _objective_of(
    band: Band, columns: np.ndarray, state: PoseState, contrast_sd: float = 0.0
) -> PoseObjective:
    """Of all images, which are brought to the poses of the state."""
    band.images = band.images.posed(state.rotation, state.shift)
    model = BandModel(band, ColumnModel(columns, contrast_sd))
    return PoseObjective(model, all_images(band), state)


def _refined(
    band: Band, columns: np.ndarray, state: PoseState, solver: str, rounds: int, tau: float = 0.0
) -> PoseState:
    """After some calls of a solver."""
    model = ColumnModel(columns, tau)
    state = replace(state, memory=SOLVERS[solver].start(COUNT))
    with SilentProgress().step("", 1) as step:
        for _ in range(rounds):
            band.images = band.images.posed(state.rotation, state.shift)
            state = refine_poses(band, model, state, SOLVERS[solver], step)
    band.images = band.images.posed(state.rotation, state.shift)
    return state


def _stretched(band: Band) -> Band:
    """The same images, as if their optics group had a magnification of its own."""
    stretch = np.array([[[1.04, 0.02], [-0.01, 0.97]]])
    images = replace(band.images, store=replace(band.images.store, stretch=stretch))
    return Band(images, band.index, band.k_c, band.support.mean, Projection("kaiser"), band.team)


@pytest.mark.parametrize("stretched", [False, True])
@pytest.mark.parametrize("contrast_sd", [0.0, 0.2])
def test_gradient_is_the_derivative_of_the_posterior_in_all_five_directions(
    band: Band, contrast_sd: float, stretched: bool
) -> None:
    objective = _objective(_stretched(band) if stretched else band, contrast_sd)
    rotation, shift = objective.start()
    _, slopes = objective.slopes(rotation, shift)
    gradient = slopes.gradient
    for d, step in enumerate([0.05] * 3 + [0.003] * 2):
        values = []
        for sign in (1, -1):
            move = np.zeros((COUNT, 5))
            move[:, d] = sign * step
            turned = from_rotation_vector(move[:, :3]) @ rotation
            values.append(objective.value(turned, move[:, 3:]))
        numeric = (values[0] - values[1]) / (2 * step)
        # rotations: the slope of the interpolant is good to a tenth, image by image
        correlation = np.corrcoef(numeric, gradient[:, d])[0, 1]
        slope = np.polyfit(gradient[:, d], numeric, 1)[0]
        assert correlation > (0.98 if d < 3 else 0.999)
        assert slope == pytest.approx(1, abs=0.1 if d < 3 else 0.03)


def test_pixels_that_a_stretch_takes_beyond_k_c_are_left_out(band: Band) -> None:
    stretched = _stretched(band)
    disc, store = band.disc, stretched.images.store
    outside = store.radius[0] > disc.k_c
    assert outside.any() and not outside[disc.shell < 6].any()
    batch, plain = all_images(stretched), all_images(band)
    assert not batch.data[:, outside].any() and not batch.ctf[:, outside].any()
    np.testing.assert_array_equal(batch.data[:, ~outside], plain.data[:, ~outside])
    np.testing.assert_allclose(batch.frame, plain.frame @ store.stretch[0], atol=1e-6)
    # a coarser band has an edge of its own
    coarse = disc.prefix(4)
    fewer = stretched.images.batch(band.index, coarse)
    np.testing.assert_array_equal(fewer.ctf[0] == 0, store.radius[0, : len(coarse)] > 4)


def test_curvature_is_the_covariance_of_the_score_at_the_truth() -> None:
    # Fisher's information from its definition: images drawn from the model, poses true
    fresh = make_band()
    state = PoseState.of(fresh.images.rotation, (1e3, 1e3))
    objective = _objective_of(fresh, true_columns(fresh), state)
    _, slopes = objective.slopes(*objective.start())
    step = np.linalg.solve(slopes.curvature, slopes.gradient[:, :, None])[:, :, 0]
    score = np.mean(np.sum(step * slopes.gradient, axis=1)) / 5
    assert score == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("solver", ["newton", "adam"])
def test_both_solvers_climb_to_the_same_poses(solver: str) -> None:
    fresh = make_band()
    off = from_rotation_vector(RNG.normal(0, 0.05, (COUNT, 3))) @ fresh.images.rotation
    state, columns = PoseState.of(off), true_columns(fresh) * 3
    before = _objective_of(fresh, columns, state)
    value = before.value(*before.start())
    after = _objective_of(fresh, columns, _refined(fresh, columns, state, solver, 4))
    gain = after.value(*after.start()) - value
    assert np.mean(gain) > 0.5
    if solver == "newton":  # a step that lowers the posterior is never taken, Adam's may
        assert gain.min() > -1e-2


def test_log_posterior_of_many_nodes_is_that_of_the_objective_at_each(band: Band) -> None:
    objective = _objective(band)
    nodes, moves = 5, ball(0.05, 0.03, 2)
    turns = RNG.normal(0, 0.3, (COUNT * nodes, 3))
    rotation = (
        from_rotation_vector(turns).reshape(COUNT, nodes, 3, 3) @ band.images.rotation[:, None]
    )
    found = log_posterior_of_nodes(objective, rotation, moves)
    for node in range(nodes):
        for place, move in enumerate(moves):
            expected = objective.value(rotation[:, node], np.tile(move, (COUNT, 1)))
            np.testing.assert_allclose(found[:, node, place], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("reach", [np.pi, np.deg2rad(40)])
def test_search_finds_poses_out_of_reach_of_a_step(reach: float) -> None:
    axis = np.random.default_rng(4).normal(size=(COUNT, 3))
    axis *= np.deg2rad(25) / np.linalg.norm(axis, axis=1, keepdims=True)
    share = {}
    for way in ("search", "newton"):
        fresh = make_band()
        columns = true_columns(fresh)
        fresh.images.store.pixels.data[:] += 19 * _slices_of_mean(fresh, columns[:1])
        columns[0] *= 20
        true = fresh.images.rotation
        state = PoseState.of(from_rotation_vector(axis) @ true, (WIDE[0], 0.05))
        before = _objective_of(fresh, columns, state)
        start = before.value(*before.start())
        best = before.value(true, np.zeros((COUNT, 2))) - start
        if way == "search":
            fresh.images = fresh.images.posed(state.rotation, state.shift)
            with SilentProgress().step("", 1) as step:
                found = likely_poses(fresh, fresh, columns, state, reach, 4, step)
            assert (found.found > 0).all()
            state.move(found.index, found.rotation[:, 0], found.shift[:, 0])
            state = _refined(fresh, columns, state, "newton", 2)
        else:
            state = _refined(fresh, columns, state, "newton", 4)
        after = _objective_of(fresh, columns, state)
        share[way] = np.mean(after.value(*after.start()) - start > 0.9 * best)
    # of what the true pose would gain, more than nine tenths
    assert share["search"] > 0.9
    assert share["search"] > share["newton"]


def test_search_finds_shifts_that_are_off_alone_where_the_rotation_is_right() -> None:
    fresh = make_band()
    columns = true_columns(fresh)
    fresh.images.store.pixels.data[:] += 19 * _slices_of_mean(fresh, columns[:1])
    columns[0] *= 20
    state, moved = PoseState.of(fresh.images.rotation, (np.deg2rad(3), 0.1)), np.array([0.12, -0.1])
    state.shift[:] = moved
    fresh.images = fresh.images.posed(state.rotation, state.shift)
    with SilentProgress().step("", 1) as step:
        found = likely_poses(fresh, fresh, columns, state, np.pi, 3, step)
    last = np.arange(COUNT), found.found - 1
    np.testing.assert_array_equal(found.rotation[last], state.rotation)
    away = np.linalg.norm(found.shift[last] + moved, axis=1)
    assert np.mean(away < 0.5 / fresh.k_c) > 0.9
    few = found.first(2)
    assert few.found.max() == 2 and few.rotation.shape[1] == few.shift.shape[1] == 2


def test_what_has_turned_by_more_than_any_step_was_found_elsewhere() -> None:
    turn = np.deg2rad([0.0, 5.0, 9.9, 10.1, 90.0, 180.0])
    earlier = PoseState.of(from_rotation_vector(RNG.normal(size=(len(turn), 3))))
    later, every = earlier.copied(), np.arange(len(turn))
    about = from_rotation_vector(turn[:, None] * np.array([0.6, 0.0, 0.8]))
    later.move(every, about @ earlier.rotation, np.zeros((len(turn), 2)))
    found = later.found_elsewhere(earlier, every)
    assert found.tolist() == [False, False, False, True, True, True]
    assert later.found_elsewhere(earlier, every[2:4]).tolist() == [False, True]


def test_a_pose_to_begin_at_is_as_likely_beforehand_as_the_one_before_it() -> None:
    state = PoseState.of(from_rotation_vector(RNG.normal(size=(4, 3))))
    elsewhere = from_rotation_vector(RNG.normal(size=(4, 3)))
    begun, moved, every, still = state.copied(), state.copied(), np.arange(4), np.zeros((4, 2))
    begun.begin_at(every, elsewhere, still)
    moved.move(every, elsewhere, still)
    before, after, held = (
        each.log_prior(every, each.rotation[:, None], still[:1])[:, 0, 0]
        for each in (state, begun, moved)
    )
    np.testing.assert_allclose(after, before)
    assert (held < before - 5).all()
    # what is taken over is taken with it, and where it all began stays known
    taken = state.copied()
    taken.take(begun, every[:2])
    np.testing.assert_array_equal(taken.centre[:2], elsewhere[:2])
    np.testing.assert_array_equal(taken.centre[2:], state.start[2:])
    np.testing.assert_array_equal(begun.start, state.start)


def test_common_drift_is_removed_and_nothing_else() -> None:
    fresh = make_band()
    start = fresh.images.rotation
    state = PoseState.of(start)
    turn = from_rotation_vector(np.array([[0.1, -0.2, 0.15]]))[0]
    move = np.array([0.02, -0.01, 0.03])
    shift = -np.einsum("nij,i->nj", (turn @ start)[:, :, :2], move)
    moved = state.copied()
    moved.move(np.arange(COUNT), turn @ start, shift)
    np.testing.assert_array_equal(state.rotation, start)
    found = moved.without_drift()
    np.testing.assert_allclose(found.rotation, start, atol=1e-8)
    np.testing.assert_allclose(found.shift, 0, atol=2e-3)


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


def test_pose_errors_are_integrated_out_exactly(band: Band) -> None:
    # one image, T as six more columns with a prior mean, against the dense Gaussian
    rng = np.random.default_rng(2)
    columns, motions, y = rng.normal(size=(3, 40)), rng.normal(size=(6, 40)), rng.normal(size=40)
    centre = rng.normal(size=6)
    rows = np.concatenate([columns, motions, y[None]])
    products, marginalised = marginalise((rows @ rows.T)[None], centre[None])
    found = image_posterior(products, 0.0)
    covariance = np.eye(40) + columns[1:].T @ columns[1:] + motions.T @ motions
    rest = y - columns[0] - centre @ motions
    solved = np.linalg.solve(covariance, rest)
    np.testing.assert_allclose(found.z[0], columns[1:] @ solved, rtol=1e-8)
    delta = centre + motions @ solved
    np.testing.assert_allclose(marginalised.cross_moment(found.first, found.second)[0, :, 0], delta)
    without_errors = np.eye(40) + motions.T @ motions
    dense = -0.5 * (rest @ solved + np.linalg.slogdet(covariance)[1])
    base = -0.5 * np.linalg.slogdet(without_errors)[1]
    data = y - centre @ motions
    base -= 0.5 * data @ np.linalg.solve(without_errors, data)
    assert found.log_likelihood[0] == pytest.approx(dense - base)


@pytest.mark.parametrize("depends_on_conformation", [False, True])
def test_rigid_motion_goes_where_the_kind_of_pose_errors_says(
    depends_on_conformation: bool,
) -> None:
    mean = _blobs(RNG.normal(0, 3, (20, 3)))
    pose_errors = PoseErrors(np.full(6, 0.05), np.zeros((1, 6)), depends_on_conformation)
    motions = pose_errors.columns(mean)
    flexible = _blobs(RNG.normal(0, 3, (3, 3))) - _blobs(RNG.normal(0, 3, (3, 3)))
    share = RNG.normal(size=6)
    column = flexible + np.tensordot(share, motions, 1)
    columns = np.stack([mean, column]).astype(np.float32)
    # δ goes with ζ: E[δ ζ] = 0.7 of E[ζ²] along the first motion
    second, cross = np.array([[2.0]]), np.zeros((6, 1))
    cross[0] = 1.4
    rate = pose_errors.rate(columns, second, cross)
    if depends_on_conformation:
        rest = column + np.tensordot(rate[:, 0], motions, 1)
        flat = motions.reshape(6, -1)
        assert np.abs(flat @ rest.ravel()).max() < 1e-4 * np.abs(flat @ column.ravel()).max()
    else:
        np.testing.assert_allclose(rate[:, 0], [0.7, 0, 0, 0, 0, 0], atol=1e-12)


def test_poses_that_were_fitted_to_the_images_are_recognised() -> None:
    fresh = make_band()
    columns = true_columns(fresh)
    mean = [columns[0] * 4]
    fresh.images.store.pixels.data[:] += 3 * _slices_of_mean(fresh, columns[:1])
    state = PoseState.of(fresh.images.rotation, WIDE)
    assert not pose_errors_depend_on_conformation(lambda k: [fresh], mean, 7)
    _refined(fresh, columns[:1] * 4, state, "newton", 5, tau=0.15)
    assert pose_errors_depend_on_conformation(lambda k: [fresh], mean, 7)


def _slices_of_mean(band: Band, columns: np.ndarray) -> np.ndarray:
    prepared, frames = band.projector.prepare(columns), frames_of(band.images.rotation)
    return band.projector.project(prepared, frames, band.images.store.pixels.ctf)[:, 0]


def _fit(folder, star: str, **settings):
    from solvar.evaluation import Truth
    from solvar.fitting.fit import fit
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


@pytest.mark.slow
def test_refinement_finds_what_the_images_determine(simulated) -> None:
    found, before, after = _fit(simulated(**PERTURBED), "particles_noisy.star", refine_pose=True)
    assert after["shift_px"]["mean"] < 0.3 * before["shift_px"]["mean"]
    assert after["out_of_plane_degree"]["mean"] < 0.9 * before["out_of_plane_degree"]["mean"]
    assert after["in_plane_degree"]["mean"] < 0.7 * before["in_plane_degree"]["mean"]
    assert found.pose_refinement is not None
    assert found.pose_refinement.covariance.shape == (1200, 5, 5)
    assert np.all(np.linalg.eigvalsh(found.pose_refinement.covariance) > 0)


@pytest.mark.slow
@pytest.mark.parametrize("snr", [0.01, 0.05, 0.3])
def test_true_poses_stay_within_the_bound(simulated, snr: float) -> None:
    from solvar.evaluation import Truth, evaluate

    folder = simulated(heterogeneity="gaussian", rank=2, snr=snr)
    found, _, after = _fit(folder, "particles.star", refine_pose=True)
    bound = evaluate(found, Truth.load(folder))["poses"]["bound"]
    for part in ("out_of_plane_degree", "in_plane_degree", "shift_px"):
        assert after[part]["mean"] < bound[part]


def test_the_bound_grows_with_the_noise(simulated) -> None:
    from solvar.evaluation import Truth
    from solvar.evaluation.pose_bound import pose_bound
    from solvar.particles import read_particles

    folder = simulated(heterogeneity="gaussian", rank=2, snr=0.3)
    particles, truth = read_particles(folder / "particles.star"), Truth.load(folder)
    power = np.full((1, 16), 50.0)
    once, twice = (pose_bound(particles, f * power, truth, latents=False) for f in (1.0, 4.0))
    shape_unknown = pose_bound(particles, power, truth, latents=True)
    for part, error in once.items():
        # twice the amplitude of the noise; the contrast's prior makes it a little less
        assert twice[part] == pytest.approx(2 * error, rel=0.02)
        assert shape_unknown[part] >= error
