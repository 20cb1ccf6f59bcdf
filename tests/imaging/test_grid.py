"""One grid for images of several sizes."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.imaging.grid import CommonGrid, per_image
from solvar.imaging.optics import Optics


def optics(pixel_sizes, boxes, magnification=None) -> Optics:
    count = len(boxes)
    constants = (np.full(count, v) for v in (300.0, 2.7, 0.1))
    names = tuple(f"g{i}" for i in range(count))
    return Optics(names, *constants, np.array(pixel_sizes), np.array(boxes), magnification)


def test_images_that_are_alike_stay_as_they_are():
    grid = CommonGrid.of(optics([1.5, 1.5 * (1 + 3e-6)], [65, 65]))
    assert (grid.box_size, grid.pixel_size_angstrom, grid.extent_angstrom) == (65, 1.5, 97.5)
    assert grid.stretch is None and grid.kept.tolist() == [65, 65]


def test_exact_multiples_need_no_stretch():
    grid = CommonGrid.of(optics([7.0, 3.5], [32, 64]))
    assert (grid.box_size, grid.pixel_size_angstrom, grid.extent_angstrom) == (32, 7.0, 224.0)
    assert grid.stretch is None and grid.kept.tolist() == [32, 64]


@pytest.mark.parametrize(
    ("pixel_sizes", "boxes"),
    [
        ([1.06, 0.825], [256, 360]),
        ([0.825, 1.06], [300, 256]),
        ([1.0, 1.0], [100, 120]),
        ([2.1, 1.37, 1.37], [80, 130, 97]),
    ],
)
def test_nothing_is_padded_and_no_frequency_grows(pixel_sizes, boxes):
    given = optics(pixel_sizes, boxes)
    grid = CommonGrid.of(given)
    extent = grid.box_size * grid.pixel_size_angstrom
    assert grid.pixel_size_angstrom == max(pixel_sizes)
    assert np.all(grid.kept <= boxes) and np.all(grid.kept >= grid.box_size)
    assert extent <= min(np.multiply(pixel_sizes, boxes)) * (1 + 1e-6)
    # not even two pixels of the coarsest are given away
    assert extent > min(np.multiply(pixel_sizes, boxes)) - 2 * max(pixel_sizes)
    kept = grid.kept * np.array(pixel_sizes)
    assert np.all(kept > extent * (1 - 1e-5)) and np.all(kept < extent + np.array(pixel_sizes))
    if grid.stretch is not None:
        scale = np.einsum("gii->gi", grid.stretch) / 2
        np.testing.assert_allclose(scale.sum(axis=1), extent / kept, atol=1e-5)
        assert np.all(scale.sum(axis=1) <= 1)
        group = np.arange(len(boxes))
        np.testing.assert_allclose(per_image(grid.extent_angstrom, group)[:, 0], kept, rtol=1e-5)


def test_magnification_and_pixel_size_are_in_one_matrix():
    matrices = np.array([np.eye(2), [[1.02, 0.01], [0.01, 0.99]]])
    plain = CommonGrid.of(optics([1.0, 1.0], [64, 64], matrices))
    np.testing.assert_array_equal(plain.stretch, matrices)
    grid = CommonGrid.of(optics([1.0, 0.85], [64, 80], matrices))
    scale = 64 / (76 * 0.85)
    np.testing.assert_allclose(grid.stretch, matrices * np.array([1, scale])[:, None, None])
