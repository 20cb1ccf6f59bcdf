"""Star files as other programs and editors leave them."""

import numpy as np
import pandas as pd
import pytest

from particles import particle_files as files
from particles.particle_files import COLUMNS_31, OPTICS_31, changed
from solvar.errors import InputError
from solvar.particles import read_particles
from solvar.particles.star_blocks import read_blocks, write_blocks
from solvar.particles.star_lines import begins_block


def _upper(text):
    words = ("data_optics", "data_particles", "loop_")
    for word in words:
        text = text.replace(word, word.upper())
    return text


SPELLINGS = {
    "byte order mark": lambda text: "\ufeff" + text,
    "indented": lambda text: "\n".join("  \t" + line for line in text.split("\n")),
    "upper case": _upper,
    "mixed case": lambda text: text.replace("data_", "Data_").replace("loop_", "Loop_"),
    "comments behind headings": lambda text: text.replace("loop_", "loop_ # here"),
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "all of them": lambda text: "\ufeff" + _upper(text).replace("\n", "\r\n  "),
}


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=SPELLINGS)
def test_spelling_of_headings_changes_nothing(spelled, tmp_path):
    path = files.write_star31(tmp_path)
    wanted = read_particles(path)
    path.write_text(spelled(path.read_text()), encoding="utf-8", newline="")
    found = read_particles(path)
    assert found.optics.name == wanted.optics.name == ("krios",)
    np.testing.assert_array_equal(found.poses.rotation, wanted.poses.rotation)
    np.testing.assert_array_equal(found.poses.shift_angstrom, wanted.poses.shift_angstrom)
    assert found.digest() == wanted.digest()


def test_a_file_name_that_begins_like_a_heading_stays_a_value(tmp_path):
    (tmp_path / "a.star").write_text("data_\nloop_\n_name1 #1\n_b #2\nDATA_1.mrc 2\nLoop_x 3\n")
    table = read_blocks(tmp_path / "a.star")[""]
    assert table["name1"].tolist() == ["DATA_1.mrc", "Loop_x"]
    assert not begins_block("Data_1.mrcs\nDATA_2.mrcs\n")
    assert begins_block("\ufeff # made by hand\n DATA_x\n")


@pytest.mark.parametrize("value", ["DATA_x", "Loop_", "data_x", "Loop_y", "DATA_"])
def test_a_value_that_looks_like_a_heading_is_written_so_that_it_is_read_back(value, tmp_path):
    write_blocks(tmp_path / "a.star", {"b": pd.DataFrame({"only": [value, "other", value]})})
    assert read_blocks(tmp_path / "a.star")["b"]["only"].tolist() == [value, "other", value]


def _line_of(path, start):
    lines = path.read_text().split("\n")
    return lines, next(i for i, line in enumerate(lines) if line.startswith(start))


@pytest.mark.parametrize("row", [0, 2, 5])
@pytest.mark.parametrize("extra", [-1, 1, "all"])
def test_a_line_with_too_few_or_too_many_values_is_named(row, extra, tmp_path):
    path = files.write_star31(tmp_path)
    lines, first = _line_of(path, "000001@")
    words, count = lines[first + row].split(), len(COLUMNS_31)
    words = {1: [*words, "7"], -1: words[:-1], "all": words[:1]}[extra]
    lines[first + row] = " ".join(words)
    path.write_text("\n".join(lines))
    plural = "" if len(words) == 1 else "s"
    wanted = (
        f"row {row + 1}: line {first + row + 1} has {len(words)} value{plural} "
        f"for {count} columns of data_particles; "
    )
    with pytest.raises(InputError, match=wanted):
        read_particles(path)


def test_a_short_line_of_the_optics_and_a_label_without_value_are_named(tmp_path):
    path = files.write_star31(tmp_path, optics=OPTICS_31.replace(" 8 2\n", " 8\n"))
    _, line = _line_of(path, "1 krios")
    with pytest.raises(InputError, match=f"line {line + 1} has 7 values for 8 .*data_optics"):
        read_particles(path)
    path.write_text("data_general\n_rlnVersion\n\n" + path.read_text())
    with pytest.raises(InputError, match="line 2 has 0 values for 1 column of data_general"):
        read_particles(path)


def test_a_missing_value_that_is_written_is_no_short_line(tmp_path):
    last = ["nan", *(f"{i}" for i in range(1, files.COUNT))]
    path = files.write_star31(tmp_path, changed(COLUMNS_31, ("userColumn",), rlnLast=last))
    assert len(read_particles(path)) == files.COUNT
