"""Lists of rows as text: what other programs write is read, everything else is a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.particles.selection import read_selection


@pytest.mark.parametrize(
    "text", ["3\n5\n2\n", "3 5\t2", "# rows\n3 # first\n\n5\r\n+2", "3.0 5. 2e0"]
)
def test_whole_numbers_are_read(tmp_path, text) -> None:
    (tmp_path / "rows.txt").write_text(text)
    found = read_selection(tmp_path / "rows.txt", 10, tmp_path, tmp_path / "rows.txt")
    assert found.tolist() == [3, 5, 2] and found.dtype == np.int64


def test_what_savetxt_writes_is_read(tmp_path) -> None:
    rows = np.random.default_rng(0).permutation(5000)
    np.savetxt(tmp_path / "rows.txt", rows)
    assert read_selection(tmp_path / "rows.txt", 5000, tmp_path).tolist() == rows.tolist()


@pytest.mark.parametrize(
    "word", ["x", "1.5", "1e-1", "nan", "inf", "0x3", "1_0", "9" * 40, "²", "1,2"]
)
def test_other_words_are_named_with_their_row(tmp_path, word) -> None:
    (tmp_path / "rows.txt").write_text(f"1\n{word}\n", encoding="utf-8")
    with pytest.raises(InputError, match="row 2: is not a list of row numbers"):
        read_selection(tmp_path / "rows.txt", 10, tmp_path)
