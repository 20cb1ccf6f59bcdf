"""The same image twice, under whatever name, is refused; what a base name led to is told."""

from __future__ import annotations

import time

import numpy as np
import pytest

from particles import particle_files as files
from particles.particle_files import COLUMNS_31, changed
from solvar.errors import InputError
from solvar.particles import read_particles, refuse_copied_stacks
from solvar.particles.identity import repeated
from solvar.preflight.table import table_findings


def _expanded(folder, **columns):
    """A .cs with six rows of different images and uids that are copies of three particles."""
    values = files.cs_table()
    fields = {name: values[name] for name in values.dtype.names}
    source = {"sym_expand/src_uid": np.array([5, 5, 6, 6, 7, 7], dtype=np.uint64)}
    return files.write_cs(folder, files.structured({**fields, **source, **columns}))


def _named(folder, names):
    """A star file with the image names as given."""
    return files.write_star31(folder, changed(COLUMNS_31, rlnImageName=names))


def _two_jobs():
    jobs = ["Extract/job005"] * 3 + ["Extract/job007"] * 3
    return [f"{i + 1}@{job}/stack.mrcs" for i, job in enumerate(jobs)]


def test_an_image_of_two_uids_is_refused(tmp_path):
    table = files.cs_table()
    table["blob/idx"][4] = table["blob/idx"][1]
    path = files.write_cs(tmp_path, table)
    with pytest.raises(
        InputError, match=r"row 5: is the same image as row 2, image 2 of .*keep one"
    ):
        read_particles(path)
    assert len(read_particles(path, ind=[0, 1, 2, 3, 5])) == 5


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_two_links_to_one_stack_are_one_stack(tmp_path, link):
    path = _named(tmp_path, [f"{i % 3 + 1}@{'ab'[i // 3]}.mrcs" for i in range(6)])
    files.write_stack(tmp_path / "a.mrcs")
    getattr(tmp_path / "b.mrcs", link)(tmp_path / "a.mrcs")
    with pytest.raises(
        InputError, match=r"row 4: .*row 1, .*b.mrcs, which .*a.mrcs.*; 3 repetitions"
    ):
        read_particles(path)
    assert len(read_particles(path, ind=[0, 1, 5])) == 3


def test_two_spellings_of_one_path_are_one_stack(tmp_path):
    path = _named(
        tmp_path, [f"{i + 1}@{'./' * (i % 2)}stack.mrcs" for i in range(5)] + ["2@stack.mrcs"]
    )
    with pytest.raises(InputError, match="row 6: is the same image as row 2"):
        read_particles(path)
    assert read_particles(path, ind=range(5)).found_elsewhere is None


def test_a_stack_that_is_listed_twice_is_refused(tmp_path):
    given = files.write_cryodrgn(tmp_path)
    files.write_stack(tmp_path / "half.mrcs", np.ones((3, files.BOX, files.BOX), np.float32))
    (tmp_path / "list.txt").write_text("half.mrcs\n./half.mrcs\n")
    with pytest.raises(
        InputError, match=r"row 4: is the same image as row 1.*; 3 repetitions in all"
    ):
        read_particles(**{**given, "path": tmp_path / "list.txt"})


def test_symmetry_copies_are_known_whatever_their_images(tmp_path):
    path = _expanded(tmp_path)
    particles = read_particles(path)
    assert particles.copy_of.tolist() == [0, 0, 2, 2, 4, 4]
    assert "6 rows show 3 particles" in particles.remarks()[0]
    without = read_particles(path, ignore_poses=True)
    assert (without.row.tolist(), without.symmetry_copies) == ([0, 2, 4], 3)
    assert "3 rows are copies of a particle" in without.remarks()[0]
    chosen = read_particles(path, ind=[1, 2, 5])
    assert (chosen.row.tolist(), chosen.remarks()) == ([1, 2, 5], [])


def test_a_set_with_one_copy_of_each_particle_is_read(tmp_path):
    path = _expanded(tmp_path, **{"sym_expand/src_uid": np.arange(6, dtype=np.uint64)})
    assert len(read_particles(path)) == 6


def test_one_file_for_two_names_is_refused_even_where_no_image_repeats(tmp_path):
    path = _named(tmp_path, _two_jobs())
    expected = (
        "row 4: Extract/job007/stack.mrcs and Extract/job005/stack.mrcs .row 1. are two stacks"
    )
    with pytest.raises(InputError, match=f"{expected}.*--datadir"):
        read_particles(path)
    assert len(read_particles(path, ind=[0, 1, 2])) == 3


def test_a_guess_at_a_file_that_another_row_names_is_refused(tmp_path):
    names = [f"{i + 1}@stack.mrcs" for i in range(5)] + ["6@Extract/job007/stack.mrcs"]
    with pytest.raises(
        InputError, match=r"row 6: Extract/job007/stack.mrcs and stack.mrcs .row 1."
    ):
        read_particles(_named(tmp_path, names))


def test_a_list_of_stacks_with_one_file_for_two_names_is_refused(tmp_path):
    given = files.write_cryodrgn(tmp_path)
    files.write_stack(tmp_path / "half.mrcs", np.ones((3, files.BOX, files.BOX), np.float32))
    (tmp_path / "list.txt").write_text("a/half.mrcs\nb/half.mrcs\n")
    with pytest.raises(InputError, match=r"b/half.mrcs and a/half.mrcs .* are two stacks"):
        read_particles(**{**given, "path": tmp_path / "list.txt"})


def test_stacks_found_by_their_base_name_are_told(tmp_path):
    names = [f"{i % 2 + 1}@Extract/job005/{'abc'[i // 2]}.mrcs" for i in range(6)]
    path = _named(tmp_path, names)
    for name in ("a.mrcs", "b.mrcs", "Extract/job005/c.mrcs"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        files.write_stack(tmp_path / name)
    particles = read_particles(path)
    elsewhere = particles.found_elsewhere
    assert (elsewhere.count, elsewhere.total) == (2, 3)
    assert (elsewhere.name, elsewhere.file) == ("Extract/job005/a.mrcs", tmp_path / "a.mrcs")
    told = [f for f in table_findings(particles) if f.topic == "rows"]
    assert [f.level for f in told] == ["warning"]
    assert told[0].text.startswith(
        "2 of 3 stacks are not where the particle file says and were found"
    )
    assert particles.select(np.array([5])).found_elsewhere == elsewhere


@pytest.mark.parametrize(
    "make", [files.write_star31, files.write_star30, files.write_cs], ids=["3.1", "3.0", "cs"]
)
def test_stacks_where_the_file_says_need_no_word(tmp_path, make):
    particles = read_particles(make(tmp_path))
    assert particles.found_elsewhere is None
    assert not [f for f in table_findings(particles) if f.topic == "rows"]


def test_first_repetition_is_found_among_several():
    stack, frame = np.array([0, 1, 0, 1, 1, 0, 0]), np.array([3, 3, 4, 5, 3, 4, 3])
    assert repeated(frame, stack) == (1, 4, 3)
    assert repeated(frame[:4], stack[:4]) is None
    assert repeated(frame[:0], stack[:0]) is None


def test_a_million_rows_are_compared_in_a_second():
    rng = np.random.default_rng(0)
    order = rng.permutation(1_000_000)
    start = time.process_time()
    assert repeated(order % 1000, order // 1000) is None
    assert time.process_time() - start < 2


def _copied(folder, frames):
    """A star file that uses a stack and, in its last three rows, a copy of it."""
    names = [f"{f}@{'ab'[i // 3]}.mrcs" for i, f in enumerate(frames)]
    path = _named(folder, names)
    for name in ("a.mrcs", "b.mrcs"):
        (folder / name).write_bytes((folder / "stack.mrcs").read_bytes())
    return read_particles(path)


def test_an_image_of_a_stack_and_of_its_copy_is_refused(tmp_path):
    particles = _copied(tmp_path, [1, 2, 3, 4, 3, 1])
    expected = "row 5: is the same image as row 3: .*b.mrcs is a copy of .*a.mrcs; 2 repetitions"
    with pytest.raises(InputError, match=expected):
        refuse_copied_stacks(particles)
    refuse_copied_stacks(particles.select(np.array([0, 1, 3, 4])))


def test_stacks_of_other_images_are_no_copies(tmp_path):
    particles = _copied(tmp_path, [1, 2, 3, 1, 2, 3])
    files.write_stack(tmp_path / "b.mrcs", seed=1)
    refuse_copied_stacks(particles)


def test_images_that_only_their_neighbours_have_in_common_are_no_copies(tmp_path):
    particles = _copied(tmp_path, [2, 4, 3, 6, 2, 1])
    images = files.write_stack(tmp_path / "a.mrcs")
    images[1] += 1
    files.write_stack(tmp_path / "b.mrcs", images)
    refuse_copied_stacks(particles)
