"""Foreign pickles are data here, never programs."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from solvar.errors import InputError
from solvar.particles.unpickle import read_pickled_arrays


@pytest.fixture(scope="module")
def pickle_path(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "file.pkl"


@given(
    array=hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f8", "<i8", "<u2", "|b1", "<f2"]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=5, min_side=0),
    ),
    protocol=st.integers(0, pickle.HIGHEST_PROTOCOL),
    fortran=st.booleans(),
)
def test_any_plain_array_survives(pickle_path, array, protocol, fortran):
    array = np.asfortranarray(array) if fortran else array
    pickle_path.write_bytes(pickle.dumps((array, array[:1]), protocol))
    first, second = read_pickled_arrays(pickle_path)
    np.testing.assert_array_equal(first, array)
    np.testing.assert_array_equal(second, array[:1])
    assert first.dtype == array.dtype


@settings(max_examples=300)
@given(data=st.data())
def test_damage_gives_an_array_or_an_input_error_and_nothing_else(pickle_path, data):
    content = bytearray(pickle.dumps((np.arange(12.0).reshape(3, 4), np.zeros((3, 2), "f4")), 2))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    pickle_path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        arrays = read_pickled_arrays(pickle_path)
    except InputError:
        return
    assert all(isinstance(a, np.ndarray) for a in arrays)


def test_names_of_numpy_1_and_2_are_both_read(pickle_path):
    content = pickle.dumps(np.arange(3.0), 0)
    new, old = b"numpy._core.multiarray", b"numpy.core.multiarray"
    assert new in content or old in content
    for spelling in (content.replace(old, new), content.replace(new, old)):
        pickle_path.write_bytes(spelling)
        np.testing.assert_array_equal(read_pickled_arrays(pickle_path)[0], np.arange(3.0))


def test_list_of_numbers_is_an_array(pickle_path):
    pickle_path.write_bytes(pickle.dumps([1, 2, 3]))
    np.testing.assert_array_equal(read_pickled_arrays(pickle_path)[0], [1, 2, 3])
    pickle_path.write_bytes(pickle.dumps([np.int64(4), np.int64(5)]))
    np.testing.assert_array_equal(read_pickled_arrays(pickle_path)[0], [4, 5])


class _Attack:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_malicious_pickle_is_refused_and_not_run(pickle_path, tmp_path):
    proof = tmp_path / "owned"
    attacks = [
        _Attack(os.system, f"touch {proof}"),
        _Attack(eval, f"open({str(proof)!r}, 'w')"),
        (np.zeros(3), _Attack(os.system, f"touch {proof}")),
        _Attack(np.load, str(proof)),
        np.array([_Attack(os.system, f"touch {proof}")], dtype=object),
    ]
    for attack in attacks:
        for protocol in (0, 2, pickle.HIGHEST_PROTOCOL):
            pickle_path.write_bytes(pickle.dumps(attack, protocol))
            with pytest.raises(InputError, match="is not a plain numpy pickle"):
                read_pickled_arrays(pickle_path)
    assert not proof.exists()


@pytest.mark.parametrize(
    "content",
    [
        # a bytearray of 2^62 bytes, bytes of 2^62 bytes, a memo index of 2^32 - 1
        b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b".",
        b"\x80\x05\x8e" + (2**62).to_bytes(8, "little") + b".",
        b"\x80\x02Nr\xff\xff\xff\xff.",
        b"",
        b"not a pickle at all",
        b"\x80\x63.",
        b"\x80\x02]q\x00h\x00a.",
    ],
)
def test_absurd_claims_allocate_nothing(pickle_path, content):
    pickle_path.write_bytes(content)
    with pytest.raises(InputError, match="is not a plain numpy pickle"):
        read_pickled_arrays(pickle_path)


def test_shape_that_the_file_cannot_fill_is_refused(pickle_path):
    content = pickle.dumps(np.zeros((3, 7), "u1"), 2)
    assert content.count(b"K\x03K\x07\x86") == 1
    pickle_path.write_bytes(content.replace(b"K\x03K\x07\x86", b"J\xff\xff\xff\x7fK\x07\x86"))
    with pytest.raises(InputError, match="does not fit"):
        read_pickled_arrays(pickle_path)
