"""Noise measured on what a model leaves of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.noise import NoiseModel
from solvar.estimation.residual_noise import ResidualPower, renewed, residual_power
from toy_band import make_band, true_columns


def test_groups_that_differ_by_chance_share_one_ratio() -> None:
    rng = np.random.default_rng(0)
    count = np.full((400, 5), 30.0)
    power = rng.chisquare(30, (400, 5)) * 1.3
    ratio = ResidualPower(power, count).ratio()
    assert np.abs(ratio / 1.3 - 1).max() < 0.1


def test_groups_that_differ_keep_their_own_ratio() -> None:
    truth = np.array([[0.8], [1.0], [1.4]])
    count = np.full((3, 4), 1e4)
    ratio = ResidualPower(truth * count, count).ratio()
    np.testing.assert_allclose(ratio, np.broadcast_to(truth, (3, 4)), rtol=0.01)


def test_a_group_without_images_has_the_ratio_of_all() -> None:
    count = np.array([[1e4] * 3, [0.0] * 3])
    ratio = ResidualPower(1.2 * count, count).ratio()
    np.testing.assert_allclose(ratio, 1.2, rtol=1e-6)


def test_chance_is_told_from_a_difference() -> None:
    rng = np.random.default_rng(1)
    count = np.full((2, 8), 1e4)
    power = rng.chisquare(1e4, (2, 8))
    assert ResidualPower(power, count).is_chance
    power[:, 2] *= 1.05
    assert not ResidualPower(power, count).is_chance


def test_renewed_noise_is_multiplied_in_the_shells_that_were_seen() -> None:
    noise = renewed(NoiseModel(np.ones((2, 6))), np.full((2, 4), 3.0))
    np.testing.assert_array_equal(noise.power[:, :4], 3)
    np.testing.assert_array_equal(noise.power[:, 4:], 1)


@pytest.mark.parametrize("assumed", [0.7, 1.0, 1.4])
def test_noise_beside_a_signal_is_found_whatever_was_assumed(assumed: float) -> None:
    band = make_band()
    before = band.images.store.reference.power
    images = replace(band.images, noise=NoiseModel(before * assumed))
    model = BandModel(band.seeing(images), ColumnModel(true_columns(band), 0.0))
    ratio = residual_power(model, band.index, 1).ratio()[0]
    np.testing.assert_allclose(ratio[1:], 1 / assumed, rtol=0.1)
