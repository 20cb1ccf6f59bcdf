"""Images on disk: the same numbers as in memory, in whatever order they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.errors import SolvarError
from solvar.estimation.pixels import DiskPixels, MemoryPixels
from solvar.fitting.schedule import split_batches

COUNT, BANDS = 90, [7, 20, 33]


def _filled(store, rng: np.random.Generator):
    shape = COUNT, BANDS[-1]
    data = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
    ctf = rng.normal(size=shape).astype(np.float32)
    for row in np.array_split(np.arange(COUNT), 4):
        store.write(row, data[row], ctf[row])
    return store


@pytest.fixture(params=[np.ones(COUNT, np.int8), 1 + np.arange(COUNT, dtype=np.int8) % 2])
def stores(request, tmp_path):
    disk = DiskPixels(tmp_path, request.param, BANDS)
    memory = MemoryPixels.empty(COUNT, BANDS[-1])
    return [_filled(store, np.random.default_rng(0)) for store in (disk, memory)]


@pytest.mark.parametrize("pixels", [1, 7, 8, 20, 33])
def test_disk_gives_back_every_bit(stores, pixels: int) -> None:
    rng = np.random.default_rng(1)
    for row in (np.arange(COUNT), rng.permutation(COUNT)[:40], np.array([5]), np.array([], int)):
        for found, wanted in zip(*(store.read(row, pixels) for store in stores), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_what_is_read_may_be_changed(stores) -> None:
    for store in stores:
        row = np.arange(3)
        before = store.read(row, 7)[0].copy()
        store.read(row, 7)[0][:] = 0
        np.testing.assert_array_equal(store.read(row, 7)[0], before)


def test_half_precision_rounds_to_three_digits(tmp_path) -> None:
    rough = _filled(
        DiskPixels(tmp_path, np.ones(COUNT, np.int8), BANDS, True), np.random.default_rng(0)
    )
    exact = _filled(MemoryPixels.empty(COUNT, BANDS[-1]), np.random.default_rng(0))
    pairs = zip(rough.read(np.arange(COUNT), 33), exact.read(np.arange(COUNT), 33), strict=True)
    for found, wanted in pairs:
        error = np.abs(found - wanted)
        assert 0 < error.max() < 5e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("scale", [1e-7, 1e6])
def test_half_precision_holds_ctfs_of_any_size(tmp_path, scale: float) -> None:
    store = DiskPixels(tmp_path, np.ones(COUNT, np.int8), BANDS, True, scale)
    rng = np.random.default_rng(0)
    data = np.ones((COUNT, BANDS[-1]), np.complex64)
    ctf = (scale * rng.normal(size=data.shape)).astype(np.float32)
    store.write(np.arange(COUNT), data, ctf)
    found = store.read(np.arange(COUNT), BANDS[-1])[1]
    assert np.abs(found - ctf).max() < 2e-3 * scale


def test_what_half_precision_cannot_hold_is_told(tmp_path) -> None:
    store = DiskPixels(tmp_path, np.ones(COUNT, np.int8), BANDS, True)
    data, ctf = np.ones((2, COUNT, BANDS[-1]), np.complex64)
    data[3, 4] = 1e5
    with pytest.raises(
        SolvarError, match=r"1e\+05 standard deviations .* --cache-precision float32"
    ):
        store.write(np.arange(COUNT), data, ctf.real.astype(np.float32))


def test_no_file_can_be_seen_and_the_space_is_returned(tmp_path) -> None:
    store = DiskPixels(tmp_path, np.ones(COUNT, np.int8), BANDS)
    _filled(store, np.random.default_rng(0))
    assert list(tmp_path.iterdir()) == []
    store.close()


def test_a_full_disk_is_noticed_before_anything_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("solvar.machine.free_disk", lambda folder: 100)
    with pytest.raises(SolvarError, match=r"0\.0 GiB free.*--scratch"):
        DiskPixels(tmp_path, np.ones(COUNT, np.int8), BANDS)


def test_a_disk_that_loses_data_is_noticed(tmp_path) -> None:
    store = DiskPixels(tmp_path, np.ones(COUNT, np.int8), BANDS)
    with pytest.raises(SolvarError, match="lost data"):
        store.read(np.arange(3), 7)


@pytest.mark.parametrize("count", [19_999, 20_001])
def test_batches_are_a_partition_and_keep_neighbours_together_where_there_are_many(
    count: int,
) -> None:
    index = 3 * np.arange(count)
    batches = split_batches(index, None, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), index)
    assert max(map(len, batches)) - min(map(len, batches)) < 64
    runs = sum(np.count_nonzero(np.diff(batch) != 3) + 1 for batch in batches)
    assert (runs < count / 25) == (count > 20_000)
