"""A mean with a symmetry is that of the expanded set; sweeps leave it as it is."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.pixels import MemoryPixels
from solvar.estimation.prior import Prior
from solvar.estimation.solvers.em import IncrementalEm
from solvar.estimation.whitening import in_memory_images
from solvar.fitting.start import band_means
from solvar.imaging.point_groups import PointGroup
from solvar.progress import SilentProgress
from toy_band import make_band, true_columns

COUNT = 60


def _some(band: Band, operations: np.ndarray) -> Band:
    """The first particles, each at all equivalent poses, as rows of their own."""
    store = band.images.store
    pixels, order = store.pixels, len(operations)
    row = np.repeat(np.arange(COUNT), order)
    rotation = (operations @ band.images.rotation[:COUNT, None]).reshape(-1, 3, 3)
    copied = MemoryPixels(pixels.data[row], pixels.ctf[row])
    images = in_memory_images(copied, rotation, store.disc, store.box, 4.0, store.ctf_power[row])
    return Band(images, None, band.k_c, band.support, team=band.team)


@pytest.mark.parametrize("name", ["D2", "O"])
def test_it_is_that_of_the_expanded_set(name):
    band, operations = make_band(), PointGroup.named(name).operations
    expanded, order = _some(band, operations), len(operations)
    halves = [np.arange(COUNT // 2), np.arange(COUNT // 2, COUNT)]
    plain = [band.restricted(half) for half in halves]
    found, precision = band_means([each.with_operations(operations) for each in plain])
    wanted, other = band_means(
        [expanded.restricted((half[:, None] * order + np.arange(order)).ravel()) for half in halves]
    )
    for first, second in zip(found, wanted, strict=True):
        assert np.linalg.norm(first - second) < 1e-5 * np.linalg.norm(second)
    # copies of N particles weigh n times as much, and so does what is known before
    finite = np.isfinite(precision)
    assert np.allclose(order * precision[finite], other[finite], rtol=1e-4)
    assert not np.allclose(found[0], band_means(plain)[0][0], rtol=0.1)


def test_sweeps_leave_it_as_it_is_and_move_the_columns():
    band = make_band().with_operations(PointGroup.named("C2").operations)
    start = true_columns(band) * np.float32(0.5)
    flat = np.full(band.k_c + 1, 1e-3)
    solver = IncrementalEm(band, ColumnModel(start, 0.0), Prior(flat, flat), [band.index])
    with SilentProgress().step("", 1) as step:
        solver.sweep(np.array([0]), step)
    assert np.array_equal(solver.columns[0], start[0])
    assert not np.allclose(solver.columns[1], start[1])
