"""What is believed of poses, where they are tried, and what the shape may not predict of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.estimation.poses.bank import Pictures, SliceBank, best_rotations
from solvar.estimation.poses.grids import all_rotations, ball
from solvar.estimation.poses.prior import PosePrior
from solvar.estimation.poses.search import look_misplaced
from solvar.estimation.poses.shape import ShapeTurns, of_shape
from solvar.estimation.poses.state import PoseState
from solvar.imaging import rotations
from toy_band import all_images, make_band, true_columns

SPREAD = np.array([np.deg2rad(2.0), 0.02])


def _corrections(count: int, far: int, rng: np.random.Generator) -> np.ndarray:
    """Corrections (N, 5) of a prior of SPREAD, the last ones anywhere."""
    found = rng.standard_normal((count, 5)) * SPREAD[[0, 0, 0, 1, 1]]
    anywhere = rotations.to_rotation_vector(rotations.random(far, rng))
    found[count - far :, :3] = anywhere
    return found


def test_prior_is_a_density_with_the_gradient_that_it_tells() -> None:
    prior = PosePrior(SPREAD, 0.1)
    rng = np.random.default_rng(0)
    # importance sampling by a wider Gaussian: the near part holds 0.9 of everything
    wide = 3 * SPREAD[[0, 0, 0, 1, 1]]
    drawn = rng.standard_normal((200_000, 5))
    log_drawn = -0.5 * np.sum(drawn**2 + np.log(2 * np.pi * wide**2), axis=1)
    drawn *= wide
    density = np.exp(prior.log_density(drawn[:, :3], drawn[:, 3:]) - log_drawn)
    mass = density * prior.nearness(drawn)
    assert mass.mean() == pytest.approx(0.9, abs=5 * mass.std() / np.sqrt(len(mass)))
    offset = _corrections(50, 10, rng)
    for axis in range(5):
        step = np.zeros(5)
        step[axis] = 1e-6
        above, below = (
            prior.log_density(each[:, :3], each[:, 3:]) for each in (offset + step, offset - step)
        )
        slope = (above - below) / 2e-6
        np.testing.assert_allclose(
            slope, -(prior.precision(offset) * offset)[:, axis], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("keep", [False, True])
def test_widths_and_far_share_are_found_beside_large_errors_of_the_images(keep: bool) -> None:
    rng = np.random.default_rng(1)
    true = _corrections(4000, 200, rng)
    # what the images alone say: as uncertain as the prior
    alone = 1.0 / (SPREAD[[0, 0, 0, 1, 1]] ** 2 * rng.uniform(0.5, 2, (4000, 5)))
    seen = true + rng.standard_normal(true.shape) / np.sqrt(alone)
    prior = PosePrior(3 * SPREAD, 0.02)
    precision = prior.precision(seen)
    offset = alone * seen / (alone + precision)
    covariance = (1 / (alone + precision))[:, :, None] * np.eye(5)
    found = prior.fitted(offset, covariance, keep)
    np.testing.assert_allclose(found.spread, 3 * SPREAD if keep else SPREAD, rtol=0.1)
    assert found.far == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(
    ("trust", "depends", "kept"), [(1.0, False, False), (0.6, False, True), (1.0, True, True)]
)
def test_the_prior_follows_the_corrections_only_while_these_tell_of_the_input(
    trust: float, depends: bool, kept: bool
) -> None:
    count, rng = 4000, np.random.default_rng(3)
    state = PoseState.of(rotations.random(count, rng), tuple(3 * SPREAD))
    moved = _corrections(count, 0, rng)
    turn = rotations.from_rotation_vector(moved[:, :3])
    state.move(np.arange(count), turn @ state.rotation, moved[:, 3:])
    # images that know next to everything
    exact = np.tile(np.diag(SPREAD[[0, 0, 0, 1, 1]] ** 2 / 400), (count, 1, 1))
    state = replace(state, covariance=exact, trust=trust, depends_on_conformation=depends)
    found = state.with_fitted_prior(np.arange(count)).prior
    np.testing.assert_allclose(found.spread, 3 * SPREAD if kept else SPREAD, rtol=0.05)
    assert found.far < state.prior.far


def test_rotations_are_even_and_as_far_apart_as_asked() -> None:
    spacing = np.deg2rad(15)
    nodes = all_rotations(spacing)
    np.testing.assert_allclose(
        nodes @ nodes.transpose(0, 2, 1), np.tile(np.eye(3), (len(nodes), 1, 1)), atol=1e-9
    )
    anywhere = rotations.random(500, np.random.default_rng(2))
    trace = anywhere.reshape(-1, 9) @ nodes.reshape(-1, 9).T
    nearest = np.arccos(np.clip((trace.max(axis=1) - 1) / 2, -1, 1))
    assert nearest.max() < 1.2 * spacing
    # the mean distance to the nearest node of a cubic lattice is 0.48 of its spacing
    assert np.mean(nearest) == pytest.approx(0.48 * spacing, rel=0.1)


def test_ball_begins_at_its_middle_and_holds_what_it_should() -> None:
    nodes = ball(1.0, 0.25, 3)
    assert not nodes[0].any()
    distance = np.linalg.norm(nodes, axis=1)
    assert np.all(np.diff(distance) > -1e-12) and distance[-1] <= 1 + 1e-9
    assert len(nodes) == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.1)


def test_bank_has_the_likelihood_of_the_slices_themselves() -> None:
    band = make_band()
    mean, images = true_columns(band)[0], all_images(band)
    # a CTF that stays the same along each shell
    ctf = np.random.default_rng(8).normal(1, 0.3, (len(images), band.k_c + 1)).astype(np.float32)
    pixels = np.bincount(band.disc.shell)
    images = replace(images, ctf=ctf[:, band.disc.shell], ctf_power=ctf**2 * pixels)
    turned = rotations.random(40, np.random.default_rng(3))
    prepared = band.projector.prepare(mean[None])
    bank = SliceBank.of(band, prepared, turned)
    pictures = Pictures((images.ctf * images.data)[:, None], images.ctf_power)
    found = bank.log_likelihood(pictures)[:, 0]
    for number, rotation in enumerate(turned):
        frame = images.frames(np.tile(rotation, (len(images), 1, 1)))
        slices = band.projector.project(prepared, frame, images.ctf)[:, 0]
        overlap = np.einsum("bn,bn->b", slices.conj(), images.data).real
        expected = overlap - 0.5 * np.sum(np.abs(slices) ** 2, axis=1)
        np.testing.assert_allclose(found[:, number], expected, rtol=1e-3, atol=1e-2)


def test_best_rotations_are_the_best_however_they_are_cut_into_pieces(monkeypatch) -> None:
    from solvar.estimation.poses import bank as module

    band = make_band()
    mean, images = true_columns(band)[0], all_images(band)
    turned = rotations.random(300, np.random.default_rng(4))
    pictures = Pictures((images.ctf * images.data)[:, None], images.ctf_power)
    prepared = band.projector.prepare(mean[None])
    whole = SliceBank.of(band, prepared, turned).log_likelihood(pictures)
    expected = np.sort(np.argsort(-whole[:, 0], axis=1)[:, :7], axis=1)
    monkeypatch.setattr(module, "_BLOCK", 64)
    found = best_rotations(band, prepared, pictures, turned, 7)
    assert np.mean(np.sort(found, axis=1) == expected) > 0.99
    near = rotations.random(len(images), np.random.default_rng(5))
    close = Pictures(pictures.moved, pictures.ctf_power, None, near, np.deg2rad(80))
    chosen = best_rotations(band, prepared, close, turned, 3)
    trace = np.einsum("bij,bkij->bk", near, turned[chosen])
    assert (trace >= 1 + 2 * np.cos(np.deg2rad(80)) - 1e-9).all()


def test_images_that_show_too_little_look_misplaced() -> None:
    products = np.zeros((3, 3, 3))
    products[:, 0, 0] = 100.0
    products[:, 0, -1] = products[:, -1, 0] = [98.0, 70.0, 30.0]
    assert look_misplaced(products, 0.0).tolist() == [False, True, True]
    # a spread of the contrast, or of the shapes, explains some of it
    assert look_misplaced(products, 0.5).tolist() == [False, False, True]
    products[:, 0, 1] = products[:, 1, 0] = 80.0
    assert look_misplaced(products, 0.0).tolist() == [False, False, False]


def test_what_the_shape_predicts_is_taken_away_and_nothing_where_it_predicts_nothing() -> None:
    rng = np.random.default_rng(6)
    z, error = rng.standard_normal((3000, 4)), rng.normal(0, 0.05, (3000, 3))
    rotated = error.copy()
    rotated[:, 0] += 0.04 * (z[:, 0] ** 2 - 1)
    rotated[:, 1] += 0.03 * z[:, 1]
    left = rotated - of_shape(rotated, z)
    assert np.sqrt(np.mean((left - error) ** 2)) < 0.008 < np.sqrt(np.mean((rotated - error) ** 2))
    assert np.sqrt(np.mean(of_shape(error, z) ** 2)) < 0.1 * 0.05 + 0.002


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.8])
def test_turns_that_follow_the_shape_arrive_sooner_when_they_go_on(kept: float) -> None:
    fault = np.random.default_rng(3).normal(0, 0.05, (500, 3))
    plain, hastened, turns = fault, fault, ShapeTurns(np.zeros((500, 3)))
    for _ in range(5):
        plain = kept * plain
        turns = ShapeTurns((kept - 1) * hastened).after(turns)
        hastened = hastened + (1 + turns.haste) * turns.step
        assert 1 <= turns.haste < 4.001
    left = [np.linalg.norm(each) / np.linalg.norm(fault) for each in (hastened, plain)]
    assert left[0] < 0.02 and left[0] < max(left[1], 0.02)


@pytest.mark.parametrize("differ", [0.0, 1.0, 4.0])
def test_likelihoods_count_for_less_as_models_differ(differ: float) -> None:
    rng, count, trusted = np.random.default_rng(4), 4000, 0.8
    start = rotations.random(count, rng)
    state = replace(PoseState.of(start, tuple(SPREAD)), trust=trusted)
    unit = SPREAD[[0, 0, 0, 1, 1]]
    # images alone know poses as well as the prior; models put them apart by κ of that variance
    alone = np.diag(unit**-2)
    covariance = np.linalg.inv(trusted * alone + np.diag(unit**-2))
    found = []
    for _ in range(2):
        error = rng.standard_normal((count, 5)) * unit * np.sqrt(differ / 2)
        offset = error @ (trusted * alone @ covariance)
        moved = state.copied()
        moved.move(
            np.arange(count), rotations.from_rotation_vector(offset[:, :3]) @ start, offset[:, 3:]
        )
        found.append(replace(moved, covariance=np.tile(covariance, (count, 1, 1))))
    trust = found[1].trusted_after(found[0])
    assert trust == pytest.approx(1 / (1 + differ), rel=0.05)
    wider = np.linalg.inv(trust * alone + np.diag(unit**-2))
    np.testing.assert_allclose(found[1].trusting(trust).covariance[0], wider, rtol=0.1, atol=1e-6)
