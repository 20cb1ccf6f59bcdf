"""Star files that are written: the way back to the user's own rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from particles import particle_files as files
from solvar.errors import InputError
from solvar.particles import Poses, read_particles, write_star


def _refined(particles, seed=0):
    """The same particles with other poses."""
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(len(particles), random_state=seed).as_matrix()
    return replace(particles, poses=Poses(rotation, rng.normal(0, 2, (len(particles), 2))))


def _assert_same(particles, other):
    np.testing.assert_allclose(other.poses.rotation, particles.poses.rotation, atol=1e-6)
    shift = particles.poses.shift_angstrom
    np.testing.assert_allclose(other.poses.shift_angstrom, shift, atol=2e-6)
    for field in particles.exposures.ctf.columns:
        expected = getattr(particles.exposures.ctf, field)
        np.testing.assert_allclose(
            getattr(other.exposures.ctf, field), expected, rtol=1e-6, atol=1e-6
        )
    np.testing.assert_array_equal(other.halfset, particles.halfset)
    np.testing.assert_array_equal(other.exposures.frame, particles.exposures.frame)
    assert other.pixel_size_angstrom == particles.pixel_size_angstrom
    assert other.box_size == particles.box_size


WRITERS = {
    "relion 3.1": lambda folder: {"path": files.write_star31(folder)},
    "relion 3.0": lambda folder: {"path": files.write_star30(folder)},
    "cryosparc": lambda folder: {"path": files.write_cs(folder)},
    "cryodrgn": files.write_cryodrgn,
}


@pytest.mark.parametrize("source", WRITERS)
def test_written_particles_are_read_back(tmp_path, source):
    particles = _refined(read_particles(**WRITERS[source](tmp_path), ind=[5, 0, 3]))
    write_star(tmp_path / "out.star", particles)
    again = read_particles(tmp_path / "out.star")
    _assert_same(particles, again)
    if source.startswith("relion"):
        np.testing.assert_array_equal(again.uid, particles.uid)


def test_unknown_columns_and_blocks_keep_their_spelling(tmp_path):
    path = files.write_star31(tmp_path)
    path.write_text(path.read_text() + "\ndata_general\n\n_rlnFinalResolution 3.140\n")
    particles = _refined(read_particles(path, ind=[4, 2]))
    write_star(tmp_path / "out.star", particles, {"solvarLatent1": np.array([0.5, np.nan])})
    names = ["userColumn", "rlnImageName", "rlnMicrographName", "rlnFinalResolution"]
    blocks = starfile.read(tmp_path / "out.star", parse_as_string=names)
    table = blocks["particles"]
    assert list(table["userColumn"]) == ["04.50", "02.50"]
    assert list(table["rlnImageName"]) == ["000005@stack.mrcs", "000003@stack.mrcs"]
    np.testing.assert_array_equal(table["solvarLatent1"], [0.5, np.nan])
    assert list(table.columns)[: len(files.COLUMNS_31)] == list(files.COLUMNS_31)
    assert blocks["optics"]["rlnOpticsGroupName"].iloc[0] == "krios"
    assert "3.140" in (tmp_path / "out.star").read_text()


def test_new_star_files_hold_no_pixel_origins(tmp_path):
    columns = files.changed(
        files.COLUMNS_31,
        ("rlnOriginXAngst", "rlnOriginYAngst"),
        **{k: files.COLUMNS_30[k] for k in ("rlnOriginX", "rlnOriginY")},
    )
    particles = read_particles(files.write_star31(tmp_path, columns))
    write_star(tmp_path / "out.star", particles)
    written = set(starfile.read(tmp_path / "out.star")["particles"].columns)
    assert {"rlnOriginXAngst", "rlnOriginYAngst"} <= written
    assert not {"rlnOriginX", "rlnOriginY"} & written


def test_old_star_files_stay_in_pixels(tmp_path):
    particles = read_particles(files.write_star30(tmp_path))
    write_star(tmp_path / "out.star", particles)
    table = starfile.read(tmp_path / "out.star")
    np.testing.assert_allclose(table["rlnOriginX"], files.SHIFT[:, 0] / files.APIX)
    assert "rlnOriginXAngst" not in table.columns


def test_source_may_be_overwritten(tmp_path):
    path = files.write_star31(tmp_path)
    particles = _refined(read_particles(path))
    write_star(path, particles)
    _assert_same(particles, read_particles(path))


def test_failure_leaves_the_old_file_and_no_litter(tmp_path):
    particles = read_particles(files.write_star31(tmp_path))
    (tmp_path / "out.star").write_text("old")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(InputError, match="column z: column has shape"):
        write_star(tmp_path / "out.star", particles, {"z": np.zeros(3)})
    (tmp_path / "particles.star").write_text(files.star_text({"rlnImageName": ["1@stack.mrcs"]}))
    with pytest.raises(InputError, match="has 1 rows, fewer"):
        write_star(tmp_path / "out.star", particles)
    assert (tmp_path / "out.star").read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_views_along_the_axis_survive(tmp_path):
    particles = read_particles(files.write_star31(tmp_path))
    rotation = Rotation.from_euler("Z", np.arange(6)[:, None] * 50.0, degrees=True).as_matrix()
    rotation[3:] = rotation[3:] @ np.diag([1.0, -1.0, -1.0])
    particles = replace(particles, poses=Poses(rotation, np.zeros((6, 2))))
    write_star(tmp_path / "out.star", particles)
    _assert_same(particles, read_particles(tmp_path / "out.star"))


word = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    angles=st.lists(st.floats(-360, 360), min_size=6, max_size=6),
    shift=st.lists(st.floats(-15, 15), min_size=6, max_size=6),
    words=st.lists(word, min_size=6, max_size=6),
    order=st.permutations(range(6)),
)
def test_any_poses_and_any_words_make_the_round_trip(tmp_path_factory, angles, shift, words, order):
    folder = tmp_path_factory.mktemp("star")
    columns = {
        **files.COLUMNS_31,
        "rlnAngleRot": angles,
        "rlnOriginXAngst": shift,
        "userColumn": [f"w{w}" for w in words],
    }
    particles = read_particles(files.write_star31(folder, columns)).select(np.array(order))
    write_star(folder / "out.star", particles)
    _assert_same(particles, read_particles(folder / "out.star"))
    table = starfile.read(folder / "out.star", parse_as_string=["userColumn"])["particles"]
    assert list(table["userColumn"]) == [f"w{words[i]}" for i in order]
