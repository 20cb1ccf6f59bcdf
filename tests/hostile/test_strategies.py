"""Files that no program wrote, made up piece by piece: every one is read or refused in a sentence."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from particles import particle_files as files
from solvar.errors import InputError
from solvar.particles import ImageStack, read_particles, write_star
from solvar.particles.selection import read_selection
from solvar.particles.unpickle import read_pickled_arrays
from solvar.volume_file import read_volume

quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
_ODD_VALUES = st.sampled_from(
    (
        *("nan", "inf", "-inf", "1e999", "-1", "0", "1e308", "9" * 30, "", "''", '""', '"', "'"),
        *("a b", '"a b"', "'a b'", "it's", 'a"b', "#", "a#b", '"#a"', "_a", "data_", "loop_"),
        *("\x00", "\r", "\u2028", "é", "𝟙", "٣", "x" * 20_000, "<NA>", "None", "../x", "~/x"),
    )
)
_TEXT_VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@st.composite
def star_files(draw):
    """The columns of RELION 3.1 with values, labels or rows that are not as they should be."""
    columns = {name: [str(v) for v in values] for name, values in files.COLUMNS_31.items()}
    names = list(columns)
    for _ in range(draw(st.integers(0, 3))):
        column, row = draw(st.sampled_from(names)), draw(st.integers(0, files.COUNT - 1))
        columns[column][row] = draw(st.one_of(_ODD_VALUES, _TEXT_VALUES))
    for name in draw(st.lists(st.sampled_from(names), max_size=1)):
        del columns[name]
    text = files.star_text(columns)
    old = draw(st.sampled_from(("loop_", "_rlnDefocusU", "data_particles", "krios", "300.0", "#3")))
    new = draw(st.one_of(st.just(old), _ODD_VALUES, st.just("_rlnDefocusV")))
    return text.replace(old, new, 1) + draw(st.sampled_from(("", "1 2 3\n", "data_x\n", "\x00")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("hostile")
    files.write_cryodrgn(place)
    return place


def _read_or_refused(read, *arguments, **keywords):
    """What `read` gives; None where it refuses, in one printable line."""
    try:
        return read(*arguments, **keywords)
    except InputError as error:
        assert error.file is not None and str(error).isprintable() and len(str(error)) < 2100
        return None


@quick
@given(text=star_files())
def test_star_files(folder, text):
    (folder / "odd.star").write_bytes(text.encode())
    particles = _read_or_refused(read_particles, folder / "odd.star")
    if particles is None:
        return
    assert np.isfinite(particles.poses.rotation).all() and particles.box_size == files.BOX
    write_star(folder / "again.star", particles)
    again = read_particles(folder / "again.star")
    stacks = [[each.stacks[i] for i in each.exposures.stack_index] for each in (particles, again)]
    assert all(a.samefile(b) for a, b in zip(*stacks, strict=True))
    np.testing.assert_array_equal(again.exposures.frame, particles.exposures.frame)


_EDGES = st.sampled_from((0, 1, 3, 6, 8, -1, 2**31 - 1, -(2**31), 65536, 65537))


@quick
@given(
    edges=st.tuples(_EDGES, _EDGES, _EDGES),
    mode=st.sampled_from((0, 1, 2, 3, 4, 6, 12, 101, -1, 2**30)),
    extra=st.sampled_from((0, 80, -1, 2**31 - 1)),
    order=st.sampled_from("<>"),
    length=st.sampled_from((0, 1023, 1024, 1500, 1024 + 6 * 64 * 4)),
)
@pytest.mark.slow
def test_mrc_headers(folder, edges, mode, extra, order, length):
    header = bytearray(1024)
    header[:16] = struct.pack(order + "4i", *edges, mode)
    header[92:96] = struct.pack(order + "i", extra)
    header[208:212] = b"MAP "
    body = np.random.default_rng(0).standard_normal(6 * 64).astype(order + "f4").tobytes()
    path = folder / "odd.mrcs"
    path.write_bytes((bytes(header) + body)[:length])
    companions = {"poses": folder / "poses.pkl", "ctf": folder / "ctf.pkl"}
    tracemalloc.start()
    particles = _read_or_refused(read_particles, path, **companions)
    if particles is not None:
        _read_or_refused(lambda: ImageStack(particles).read(np.arange(files.COUNT)))
    _read_or_refused(read_volume, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


@quick
@given(
    shape=st.lists(st.sampled_from((0, 1, 6, -1, 2**31, 2**62, 2**64)), max_size=3).map(tuple),
    descr=st.sampled_from(
        (
            *(
                "'<i8'",
                "'|O'",
                "'<V4000000000'",
                "'|S99999999999'",
                "[('uid', '<u8')]",
                "'nonsense'",
            ),
            *("[('uid', '<u8'), ('uid', '<u8')]", "[('uid', '|O')]", "(" * 300, "__import__('os')"),
        )
    ),
    version=st.sampled_from(((1, 0), (2, 0), (3, 0), (9, 9))),
)
@pytest.mark.slow
def test_npy_headers(folder, shape, descr, version):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    content = b"\x93NUMPY" + bytes(version) + length + header + np.arange(6).tobytes()
    for name in ("odd.npy", "odd.cs"):
        (folder / name).write_bytes(content)
    tracemalloc.start()
    rows = _read_or_refused(read_selection, folder / "odd.npy", 100, folder)
    _read_or_refused(read_particles, folder / "odd.cs")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert rows is None or len(rows) <= 6


@pytest.mark.parametrize(
    "content",
    [
        # memo bomb: a list that holds itself twice, doubled sixty times
        b"\x80\x02]q\x00" + b"".join(b"(h%ch%ce]q%c" % (i, i, i + 1) for i in range(60)) + b".",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x05\x95" + (2**63).to_bytes(8, "little") + b".",
        b"\x80\x05\x8d" + (2**60).to_bytes(8, "little") + b".",
        b"\x80\x04\x8b" + (2**31 - 1).to_bytes(4, "little") + b".",
        b"I" + b"9" * 1_000_000 + b"\n.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nndarray\n(tR.",
        b"cnumpy\nndarray\n)\x81.",
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"\x80\x02cnumpy\ndtype\n(U\x07V999999I0\nI1\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.",
    ],
)
def test_pickles_that_ask_for_more_than_arrays(tmp_path, content):
    path = tmp_path / "odd.pkl"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(InputError, match="is not a plain numpy pickle"):
        read_pickled_arrays(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


_NESTED = st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=2),
    ),
    max_leaves=10,
)


@quick
@given(content=_NESTED, protocol=st.integers(0, 5))
def test_pickles_of_other_things(folder, content, protocol):
    path = folder / "odd.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    _read_or_refused(read_selection, path, 100, folder)
    _read_or_refused(read_particles, folder / "stack.mrcs", poses=path, ctf=folder / "ctf.pkl")


@quick
@given(content=st.one_of(st.binary(max_size=200), _TEXT_VALUES.map(str.encode)))
def test_lists_of_rows(folder, content):
    for name in ("odd.txt", "odd.npy", "odd.pkl", "odd"):
        (folder / name).write_bytes(content)
        _read_or_refused(read_selection, folder / name, 100, folder)


def test_a_list_of_stacks_that_is_no_text_further_down(folder):
    (folder / "list.txt").write_bytes(b"stack.mrcs\n\xff\xfe\n")
    companions = {"poses": folder / "poses.pkl", "ctf": folder / "ctf.pkl"}
    with pytest.raises(InputError, match="cannot be read as a list of stacks"):
        read_particles(folder / "list.txt", **companions)


def test_a_field_of_another_type_is_named(tmp_path):
    table = files.cs_table()
    for name in ("uid", "blob/path", "ctf/df1_A", "alignments3D/pose", "blob/shape"):
        values = {n: table[n] for n in table.dtype.names}
        values[name] = np.zeros(len(table), "M8[s]")
        with pytest.raises(InputError, match=rf"column {name}: holds datetime64"):
            read_particles(files.write_cs(tmp_path, files.structured(values)))


def test_bytes_behind_an_array_are_left_alone(tmp_path):
    stream = io.BytesIO()
    np.save(stream, np.arange(4))
    (tmp_path / "rows.npy").write_bytes(stream.getvalue() + b"more")
    np.testing.assert_array_equal(read_selection(tmp_path / "rows.npy", 9, tmp_path), range(4))
