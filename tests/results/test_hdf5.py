"""HDF5 files that were made up: what is read lies in the file, is as long as it, and is plain numbers."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from hostile.damage import ANY_ARRAY, ATTRIBUTES, spoil_array, spoil_attribute
from solvar.errors import InputError
from solvar.results.hdf5 import opened, write_strings

VALUES = np.arange(12.0).reshape(4, 3)
# other numbers, or the same ones in another form: whether they make sense is asked later
NUMBERS = {
    *("nan", "infinite", "huge", "negative", "all zero", "all one", "enumeration"),
    *("half precision", "long precision", "other order"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["inside/z"] = VALUES
        file.attrs["run_id"] = "a" * 32
        file.attrs["width"] = 2.5
        write_strings(file, "names", ("one", "zwölf"))
    return tmp_path / "x.h5"


def _read(path: Path, name: str = "inside/z", truths: tuple[str, ...] = ()) -> np.ndarray:
    with opened(path.parent, path.name) as file:
        return file.arrays({name: (4, 3)}, truths)[name]


def test_what_was_written_is_read(path: Path) -> None:
    np.testing.assert_array_equal(_read(path), VALUES)
    with opened(path.parent, path.name, "a" * 32) as file:
        assert file.number("width") == 2.5 and file.strings("names") == ("one", "zwölf")
        assert "inside/z" in file and "inside/y" not in file and "names/z" not in file


@pytest.mark.parametrize("damage", ANY_ARRAY)
def test_a_made_up_array_is_plain_numbers_of_the_file_or_refused(path: Path, damage: str) -> None:
    """The external links among them would open a pipe, and wait for ever."""
    with h5py.File(path.with_name("other.h5"), "w") as file:
        file["inside/z"] = np.full((4, 3), 7.0)
    spoil_array(path, "inside/z", damage)
    tracemalloc.start()
    try:
        if damage in NUMBERS:
            found = _read(path)
            assert found.dtype.isnative and found.dtype.str[1:] in ("f4", "f8", "i8", "b1")
        else:
            with pytest.raises(InputError, match=r"x\.h5"):
                _read(path)
            with opened(path.parent, path.name) as file:
                try:
                    known = "inside/z" in file
                except InputError:
                    known = None  # a link
                assert known or damage in ("missing", "soft link") or known is None
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_truth_values_are_true_or_false(path: Path) -> None:
    """A byte of 7 in an array of truth values is neither to numpy."""
    with h5py.File(path, "r+") as file:
        del file["inside/z"]
        file["inside/z"] = np.ones((4, 3), bool)
    content = path.read_bytes()
    assert content.count(b"\1" * 12) == 1
    path.write_bytes(content.replace(b"\1" * 12, b"\7" * 12))
    found = _read(path, truths=("inside/z",))
    assert found.sum() == 12 and not (~found).any()
    with pytest.raises(InputError, match=r"holds bool .* numbers are needed"):
        _read(path)


def test_numbers_are_no_truth_values(path: Path) -> None:
    with pytest.raises(InputError, match=r"holds float64 .* truth values are needed"):
        _read(path, truths=("inside/z",))


@pytest.mark.parametrize("name", ["run_id", "width"])
@pytest.mark.parametrize("damage", ATTRIBUTES)
def test_made_up_attributes_are_refused(path: Path, name: str, damage: str) -> None:
    spoil_attribute(path, name, damage)
    if name == "width" and damage in ("huge", "half"):  # a number
        with opened(path.parent, path.name) as file:
            assert np.isfinite(file.number(name))
        return
    with (
        pytest.raises(InputError, match=r"x\.h5"),
        opened(path.parent, path.name, "a" * 32) as file,
    ):
        file.number(name)


def test_an_attribute_of_many_edges_cannot_overflow_its_count(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        space = h5py.h5s.create_simple((2**32, 2**32))  # 2**64 is 0 to a machine
        h5py.h5a.create(file.id, b"many", h5py.h5t.NATIVE_DOUBLE, space)
    with pytest.raises(InputError, match="many"), opened(path.parent, path.name) as file:
        file.attribute("many")


@pytest.mark.parametrize("names", [(), ("",), ("a" * 5000,)])
def test_lists_of_names_of_any_length_come_back(path: Path, names: tuple[str, ...]) -> None:
    with h5py.File(path, "r+") as file:
        del file["names"]
        write_strings(file, "names", names)
    with opened(path.parent, path.name) as file:
        assert file.strings("names") == names


def test_a_file_behind_a_block_of_the_user_is_read(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=1024) as file:
        file["inside/z"] = VALUES
    path.write_bytes(b"#!/bin/sh\n".ljust(1024, b"\n") + path.read_bytes()[1024:])
    np.testing.assert_array_equal(_read(path), VALUES)


def test_what_was_looked_at_is_what_is_read(path: Path, monkeypatch) -> None:
    """The name leads elsewhere as soon as the file is open."""
    import solvar.results.hdf5 as module

    look = module.open_inside

    def replaced(folder: Path, name: str) -> object:
        file = look(folder, name)
        os.unlink(path)
        os.mkfifo(path)
        return file

    monkeypatch.setattr(module, "open_inside", replaced)
    np.testing.assert_array_equal(_read(path), VALUES)
