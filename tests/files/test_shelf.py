"""Arrays on a shelf: the same values, out of memory while nobody looks, and nothing left behind."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from solvar.errors import SolvarError
from solvar.files import Shelf, rest

MIB = 1 << 20


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float64])
def test_values_stay_and_no_file_is_left(tmp_path, dtype) -> None:
    array = np.random.default_rng(0).standard_normal((3, 5, 7)).astype(dtype)
    shelf = Shelf(tmp_path, least=0)
    kept = shelf.keep(array)
    shelf.rest()
    np.testing.assert_array_equal(kept, array)
    assert kept.dtype == dtype and list(tmp_path.iterdir()) == []
    assert np.shares_memory(shelf.keep(kept[1:]), kept) and not kept.flags.writeable


@pytest.mark.parametrize("on_disk", [False, True])
def test_an_array_that_comes_in_pieces_is_the_same(tmp_path, on_disk) -> None:
    array = np.random.default_rng(0).standard_normal((11, 3, 2))
    pile = Shelf(tmp_path if on_disk else None, least=1).pile(array.shape, np.float64)
    for first in range(0, 11, 4):
        pile.put(array[first : first + 4])
    whole = pile.whole()
    np.testing.assert_array_equal(whole, array)
    assert whole.flags.writeable != on_disk and list(tmp_path.iterdir()) == []


def test_what_is_small_or_has_no_folder_stays_what_it_is(tmp_path) -> None:
    array = np.ones(10)
    assert Shelf().keep(array) is array and Shelf(tmp_path).keep(array) is array
    rest(array)
    assert array.sum() == 10


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("one", [False, True])
def test_who_rests_takes_no_memory(tmp_path, one) -> None:
    shelf = Shelf(tmp_path)
    kept = shelf.keep(np.ones(64 * MIB, np.uint8))
    assert kept.sum(dtype=np.int64) == 64 * MIB
    looked = _resident()
    if one:
        rest(kept[5:])
    else:
        shelf.rest()
    assert _resident() < looked - 48 * MIB and kept[-1] == 1


def test_a_full_disk_is_told(tmp_path, monkeypatch) -> None:
    def full(handle, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(SolvarError, match=r"cannot take .* --scratch"):
        Shelf(tmp_path, least=0).keep(np.ones(3))
