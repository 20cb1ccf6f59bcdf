"""Files that lack something usual are read where what they hold leaves no doubt."""

import logging

import numpy as np
import pytest

from particles import particle_files as files
from particles.particle_files import COLUMNS_31, changed
from solvar.errors import InputError
from solvar.particles import read_particles


def _with(table, **added):
    """A table with fields of `alignments3D_multi` in place of alignments to one volume."""
    kept = [name for name in table.dtype.names if not name.startswith("alignments3D/")]
    multi = {f"alignments3D_multi/{name}": values for name, values in added.items()}
    return files.structured({**{name: table[name] for name in kept}, **multi})


def _classes(count, posterior):
    """Alignments to `count` classes of which the last is the true one."""
    table = files.cs_table()
    pose = np.zeros((files.COUNT, count, 3), np.float32)
    shift = np.full((files.COUNT, count, 2), 9, np.float32)
    pose[:, -1], shift[:, -1] = table["alignments3D/pose"], table["alignments3D/shift"]
    classes = np.tile(np.arange(count, dtype=np.uint32), (files.COUNT, 1))
    return _with(
        table,
        pose=pose,
        shift=shift,
        psize_A=table["alignments3D/psize_A"],
        split=table["alignments3D/split"],
        class_posterior=np.asarray(posterior, np.float32),
        **{"class": classes},
    )


def _posterior(*likeliest):
    posterior = np.full((files.COUNT, 3), 0.2)
    posterior[np.arange(files.COUNT), likeliest] = 0.6
    return posterior


@pytest.mark.parametrize(
    ("count", "posterior"),
    [(1, np.zeros((files.COUNT, 1))), (3, _posterior(*[2] * files.COUNT))],
    ids=["one class", "likeliest of every particle"],
)
def test_alignments_to_one_class_are_the_poses(count, posterior, tmp_path, caplog):
    wanted = read_particles(files.write_cs(tmp_path))
    with caplog.at_level(logging.WARNING):
        found = read_particles(files.write_cs(tmp_path, _classes(count, posterior)))
    assert not caplog.text
    np.testing.assert_array_equal(found.poses.rotation, wanted.poses.rotation)
    np.testing.assert_array_equal(found.poses.shift_angstrom, wanted.poses.shift_angstrom)
    np.testing.assert_array_equal(found.halfset, wanted.halfset)


def test_each_particle_has_the_pose_of_its_likeliest_class_and_it_is_said(tmp_path, caplog):
    wanted = read_particles(files.write_cs(tmp_path))
    likeliest = [0, 1, 2, 1, 1, 2]
    table = _classes(3, _posterior(*likeliest))
    row = np.arange(files.COUNT)
    for name in ("pose", "shift"):
        values = table[f"alignments3D_multi/{name}"]
        right = values[:, -1].copy()
        values[:] = 0.5
        values[row, likeliest] = right
    with caplog.at_level(logging.WARNING):
        found = read_particles(files.write_cs(tmp_path, table))
    assert "likeliest of 3 classes (of 1, 3, 2 particles)" in caplog.text
    assert "likeliest of 3 classes" in " ".join(found.remarks()), "a run keeps it as a warning"
    np.testing.assert_array_equal(found.poses.rotation, wanted.poses.rotation)
    np.testing.assert_array_equal(found.poses.shift_angstrom, wanted.poses.shift_angstrom)


@pytest.mark.parametrize(
    ("posterior", "message"),
    [
        (np.full((files.COUNT, 3), 1 / 3), "row 1, column .*class_posterior: no class is likelier"),
        (_posterior(*[2] * files.COUNT) * [[1], [1], [1], [np.nan], [1], [1]], "row 4, column"),
        (np.ones((files.COUNT, 2)), "no posterior that says which"),
    ],
    ids=["tied", "NaN", "another number of classes"],
)
def test_a_particle_without_a_likeliest_class_is_refused(posterior, message, tmp_path):
    path = files.write_cs(tmp_path, _classes(3, posterior))
    with pytest.raises(InputError, match=message):
        read_particles(path)


def test_alignments_to_one_volume_go_before_those_to_classes(tmp_path):
    table = files.cs_table()
    values = {name: table[name] for name in table.dtype.names}
    values["alignments3D_multi/pose"] = np.zeros((files.COUNT, 3, 3), np.float32)
    found = read_particles(files.write_cs(tmp_path, files.structured(values)))
    np.testing.assert_allclose(found.poses.rotation, files.rotations(), atol=1e-6)


def test_poses_of_classes_of_another_shape_are_refused(tmp_path):
    table = _with(files.cs_table(), pose=np.zeros((files.COUNT, 3), np.float32))
    with pytest.raises(InputError, match="alignments3D_multi/pose: holds float32 of shape"):
        read_particles(files.write_cs(tmp_path, table))


def _star_without_origins(folder):
    return files.write_star31(folder, changed(COLUMNS_31, ("rlnOriginXAngst", "rlnOriginYAngst")))


def _cs_without_shifts(folder):
    return files.write_cs(folder, files.cs_table(drop=("alignments3D/shift",)))


@pytest.mark.parametrize("write", [_star_without_origins, _cs_without_shifts])
def test_particles_without_origins_are_centred_and_it_is_said(write, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        found = read_particles(write(tmp_path))
    assert not found.poses.shift_angstrom.any()
    np.testing.assert_allclose(found.poses.rotation, files.rotations(), atol=1e-6)
    assert "taken to be centred" in caplog.text
    assert "taken to be centred" in " ".join(found.remarks()), "a run keeps it as a warning"


def test_a_cs_file_of_very_many_fields_is_read(tmp_path):
    table = files.cs_table()
    values = {name: table[name] for name in table.dtype.names}
    values |= {f"some_group/a_field_of_number_{i}": table["blob/idx"] for i in range(1500)}
    path = files.write_cs(tmp_path, files.structured(values))
    assert path.read_bytes().index(b"\n") > 65536
    assert len(read_particles(path)) == files.COUNT


@pytest.mark.parametrize("text", ["(" * 60000, "-" * 200000, "[" * 250000])
def test_a_large_header_that_is_no_table_is_refused(text, tmp_path):
    path = files.write_cs(tmp_path)
    header = b"{'descr': [" + text.encode()
    path.write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header)
    with pytest.raises(InputError, match=r"particles.cs: cannot be read as a .cs file"):
        read_particles(path)
