"""Shifts of tilt images: what images tell of them, and what of them belongs to particles."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.poses import TiltShifts, ToldOfTilts, told_of_tilts
from solvar.estimation.poses.objective import PosedImages
from solvar.imaging import rotations
from solvar.imaging.fourier import centring_phase
from toy_band import COUNT, tilted_band, true_columns

EACH, SERIES = 6, 5
PARTICLES, TILTS = COUNT // EACH, EACH * SERIES


@pytest.fixture
def tilted() -> Band:
    """Particles of five tilt series, seen at the six tilts of theirs, one of them in fewer."""
    rng = np.random.default_rng(4)
    rotation = rotations.random(PARTICLES, rng)
    series = np.arange(PARTICLES) % SERIES
    each = rotations.from_rotation_vector(rng.normal(0, 0.6, (TILTS, 3)))
    number = (EACH * series[:, None] + np.arange(EACH)).ravel()
    return tilted_band(rng, rotation, each[number], 3, tilt_image=number)


def _moved(band: Band, shift: np.ndarray) -> Band:
    return band.seeing(band.images.tilt_images_moved(shift))


@pytest.mark.parametrize("contrast_sd", [0.0, 0.2])
def test_what_images_tell_is_the_slope_of_their_evidence(tilted: Band, contrast_sd: float) -> None:
    model = ColumnModel(3 * true_columns(tilted), contrast_sd)
    told = told_of_tilts(tilted, model, TILTS)

    def evidence(step: np.ndarray) -> np.ndarray:
        total = np.zeros(SERIES)
        band = _moved(tilted, step)
        prepared = BandModel(band, model)
        for batch in band.batches():
            found = PosedImages.of(prepared, batch, batch.data, batch.frame).found
            np.add.at(total, batch.index % SERIES, found.log_likelihood)
        return total

    # one tilt of each series at a time: series share no particle
    for axis in (0, 1):
        step = np.zeros((TILTS, 2))
        step[2::EACH, axis] = 2e-4
        numeric = (evidence(step) - evidence(-step)) / 4e-4
        np.testing.assert_allclose(told.gradient[2::EACH, axis], numeric, rtol=0.02, atol=1.0)
    assert np.linalg.eigvalsh(told.curvature).min() > 0


def test_steps_find_the_shifts_and_how_wide_they_are(tilted: Band) -> None:
    true = np.random.default_rng(1).normal(0, 0.02, (TILTS, 2))
    store = tilted.images.store
    store.pixels.data[:] *= centring_phase(tilted.disc, -true[store.tilt_image])
    model, tilts = ColumnModel(3 * true_columns(tilted), 0.0), TiltShifts.none(TILTS)
    for _ in range(4):
        tilts = tilts.moved(told_of_tilts(_moved(tilted, tilts.shift), model, TILTS))
    assert np.std(tilts.shift - true) < 0.1 * true.std()
    assert tilts.spread == pytest.approx(true.std(), rel=0.05)


def test_shifts_of_which_nothing_is_told_stay_in_the_prior() -> None:
    told = ToldOfTilts(np.array([[50.0, 0.0], [0.0, 0.0]]), np.eye(2) * [[[1e3]], [[0.0]]])
    found = TiltShifts(np.zeros((2, 2))).moved(told)
    assert found.shift[0, 0] > 0 and not found.shift[1].any()
    # less is believed of what counts for less
    less = TiltShifts(np.zeros((2, 2))).moved(told.trusted(0.01))
    assert less.shift[0, 0] < 0.5 * found.shift[0, 0]


def test_what_particles_can_do_is_theirs_and_no_image_sees_a_difference(tilted: Band) -> None:
    rng, images = np.random.default_rng(2), tilted.images
    tilts = TiltShifts(rng.normal(0, 0.02, (TILTS, 2)))
    left, moves = tilts.without_moves(images)
    before = next(_moved(tilted, tilts.shift).batches()).data
    posed = images.posed(images.rotation, images.shift + moves).tilt_images_moved(left.shift)
    np.testing.assert_allclose(next(tilted.seeing(posed).batches()).data, before, atol=2e-3)
    # … and nothing of them is left
    again, none = left.without_moves(images)
    np.testing.assert_allclose(none, 0, atol=1e-12)
    np.testing.assert_allclose(again.shift, left.shift, atol=1e-12)
    assert np.abs(moves).max() > 0.005
