"""Columns in blocks: each in a place of its own, and none mixes with those of another."""

import numpy as np
import pytest

from solvar.estimation.blocks import together
from solvar.estimation.held_out import held_out_scale
from solvar.estimation.latents import along, leading_of_blocks, principal_axes
from solvar.estimation.support import Support
from solvar.imaging.masks import soft_sphere

BOX = 16
LABELS = np.array([0, 0, 1])


@pytest.fixture
def support():
    """Two small places that overlap, in a larger one; two columns, one, and two outside."""
    small = soft_sphere(BOX, 6)
    focus = np.stack([np.roll(small, -2, axis=2), np.roll(small, 2, axis=2)])
    return Support.of_blocks(soft_sphere(BOX, 12), focus, (2, 1, 2))


@pytest.fixture
def columns():
    return np.random.default_rng(0).standard_normal((3, BOX, BOX, BOX)).astype(np.float32)


def test_each_column_lives_in_the_mask_of_its_block(support):
    ones = np.ones((6, BOX, BOX, BOX), np.float32)
    mean, *rest = support.masked(ones)
    np.testing.assert_array_equal(mean, support.mean)
    first, second = support.focus
    outside = support.mean * (1 - np.maximum(first, second))
    for found, mask in zip(rest, (first, first, second, outside, outside), strict=True):
        np.testing.assert_allclose(found, mask, atol=1e-6)
    weighted = support.weighted(np.full_like(mean, 0.5)).step(ones)
    np.testing.assert_allclose(weighted[0], support.mean)
    np.testing.assert_allclose(weighted[3], 0.5 * second, atol=1e-6)


def test_what_is_outside_follows_the_mask_of_the_mean(support):
    wider = support.around(np.ones_like(support.mean))
    corner = np.zeros(3, int)
    assert support.blocks.masks[2][tuple(corner)] == 0
    assert wider.blocks.masks[2][tuple(corner)] == 1
    np.testing.assert_array_equal(wider.all_focus, support.all_focus)


def test_shares_of_columns_are_those_of_their_masks(support):
    half = support.resampled(BOX // 2)
    for one in (support, half, support.with_counts((1, 3, 2))):
        masks = one.blocks.masks[one.labels(0)]
        np.testing.assert_allclose(one.share_of_columns(0), (masks**2).mean(axis=(1, 2, 3)), 1e-5)


def test_axes_of_blocks_do_not_mix_and_fall(columns):
    columns[2] *= 1.5
    axes = principal_axes(columns, LABELS)
    assert np.all(np.diff(axes.eigenvalues) <= 0)
    assert axes.block.tolist() == [1, 0, 0]
    assert np.all(axes.rotation[together(LABELS)[:, [2, 0, 1]] == 0] == 0)
    flat = columns.reshape(3, -1)
    made = (axes.rotation.T @ flat) / np.sqrt(axes.eigenvalues)[:, None]
    np.testing.assert_allclose(made, axes.eigenvolumes.reshape(3, -1), atol=1e-5)


def test_leading_columns_keep_the_covariance_of_each_block(columns):
    found = leading_of_blocks(columns, LABELS, (2, 1)).reshape(3, -1)
    flat = columns.reshape(3, -1)
    np.testing.assert_allclose(found[:2].T @ found[:2], flat[:2].T @ flat[:2], atol=1e-4)
    np.testing.assert_allclose(abs(found[2]), abs(flat[2]), atol=1e-5)


def test_columns_turn_onto_those_of_their_block(columns):
    turn = np.array([[0.6, -0.8], [0.8, 0.6]], np.float32)
    mixed = columns.copy()
    mixed[:2] = np.tensordot(turn, columns[:2], axes=1)
    # the axes of the final model come in another order
    order = np.array([2, 0, 1])
    found = along(mixed, columns[order], LABELS, LABELS[order])
    np.testing.assert_allclose(found, columns[order], atol=1e-5)


def test_amplitudes_of_blocks_stay_apart():
    rng = np.random.default_rng(1)
    common = rng.standard_normal(500)
    z = np.stack([common, rng.standard_normal(500), 0.5 * common], axis=1)
    basis = rng.standard_normal((40, 4))
    data = basis[:, 0] + z @ basis[:, 1:].T + 0.1 * rng.standard_normal((500, 40))
    stacked = np.concatenate([np.broadcast_to(basis, (500, 40, 4)), data[:, :, None]], axis=2)
    products = np.swapaxes(stacked, 1, 2) @ stacked
    free = held_out_scale(products, 0.0, 8).factor
    blocks = held_out_scale(products, 0.0, 8, together(LABELS)).factor
    assert abs((free @ free.T)[0, 2]) > 0.3
    assert np.all((blocks @ blocks.T)[:2, 2] == 0)
    np.testing.assert_allclose(np.diag(blocks @ blocks.T), z.var(axis=0), rtol=0.15)
