"""What was exported reads back as the same particles, in every format and from every format."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import starfile
from numpy.lib.recfunctions import repack_fields

from export.runs import assert_same_particles, check_relion31, make_run, run_on
from particles.particle_files import (
    BOX,
    COLUMNS_31,
    COUNT,
    OPTICS_31,
    changed,
    cs_table,
    hollow_stack,
    star_text,
    write_cs,
    write_stack,
    write_star31,
)
from solvar.export import ExportOptions, Selection, export
from solvar.particles import Poses, read_particles

KINDS = ("relion31", "relion30", "cryosparc", "cryodrgn")
SOME = Selection(ind=[4, 1, 2])


def expected(run, reading, rows, refined):
    """Those rows of the input, in the order of the file."""
    particles = read_particles(run.record["particles"]["source"], **reading, ind=rows)
    if refined:
        at = np.searchsorted(run.particles["row"], rows)
        poses = Poses(run.particles["rotation"][at], run.particles["shift_angstrom"][at])
        particles = replace(particles, poses=poses)
    return particles


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_relion(tmp_path, kind, refined):
    run, reading = run_on(kind, tmp_path, refined=refined)
    options = ExportOptions(SOME, refined_poses=refined, reading=reading)
    (path,) = export(run, "relion", tmp_path / "out.star", options).files
    check_relion31(path)
    wanted = expected(run, reading, [1, 2, 4], refined)
    assert_same_particles(read_particles(path), wanted, uid="relion" in kind)


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_cryosparc(tmp_path, kind, refined):
    run, reading = run_on(kind, tmp_path, refined=refined)
    options = ExportOptions(SOME, refined_poses=refined, reading=reading)
    (path,) = export(run, "cryosparc", tmp_path / "out.cs", options).files
    assert_same_particles(read_particles(path), expected(run, reading, [1, 2, 4], refined))


@pytest.mark.parametrize("refined", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_cryodrgn(tmp_path, kind, refined):
    run, reading = run_on(kind, tmp_path, ind=[1, 2, 4, 5], refined=refined)
    options = ExportOptions(SOME, refined_poses=refined, reading=reading)
    paths = export(run, "cryodrgn", tmp_path / "out", options).files
    files = {path.stem: path for path in paths}
    assert set(files) == {"poses", "ctf", "ind"}
    found = read_particles(run.record["particles"]["source"], **files)
    assert_same_particles(found, expected(run, reading, [1, 2, 4], refined))


def test_rows_that_are_not_exported_keep_their_poses_for_cryodrgn(tmp_path):
    run, _ = run_on("relion31", tmp_path, refined=True)
    source = run.record["particles"]["source"]
    export(run, "cryodrgn", tmp_path / "out", ExportOptions(SOME, refined_poses=True))
    out = tmp_path / "out"
    found = read_particles(source, poses=out / "poses.pkl", ctf=out / "ctf.pkl", ind=[0, 3, 5])
    assert_same_particles(found, read_particles(source, ind=[0, 3, 5]))


def test_pickles_open_with_plain_pickle(tmp_path):
    run, _ = run_on("cryosparc", tmp_path)
    export(run, "cryodrgn", tmp_path / "out", ExportOptions(SOME))
    rotation, shift, ctf, ind = (
        *pickle.loads((tmp_path / "out" / "poses.pkl").read_bytes()),
        *(pickle.loads((tmp_path / "out" / f"{n}.pkl").read_bytes()) for n in ("ctf", "ind")),
    )
    assert rotation.shape == (COUNT, 3, 3) and shift.shape == (COUNT, 2)
    assert np.abs(shift).max() < 1
    np.testing.assert_allclose(ctf[0, [0, 1, 5, 6, 7]], [8, 2, 300, 2.7, 0.1], rtol=1e-6)
    assert ind.tolist() == [1, 2, 4]


def test_star_rows_are_kept_as_they_are_spelled(tmp_path):
    run, _ = run_on("relion31", tmp_path)
    (path,) = export(run, "relion", tmp_path / "out", ExportOptions(SOME)).files
    read = {"always_dict": True, "parse_as_string": list(COLUMNS_31)}
    found = starfile.read(path, **read)["particles"]
    original = starfile.read(tmp_path / "particles.star", **read)["particles"]
    assert found.equals(original.iloc[[1, 2, 4]].reset_index(drop=True))


def test_optics_columns_that_we_do_not_know_survive_completion(tmp_path):
    optics = """
data_optics

loop_
_rlnOpticsGroup #1
_rlnMtfFileName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
5 k3.star 300.0 2.7 0.1 2.0
7 k2.star 200.0 1.4 0.1 2.0
"""
    write_stack(tmp_path / "stack.mrcs")
    columns = changed(COLUMNS_31, rlnOpticsGroup=["7", "5"] * (COUNT // 2))
    (tmp_path / "particles.star").write_text(star_text(columns, optics=optics))
    run = make_run(tmp_path / "job", read_particles(tmp_path / "particles.star"))
    (path,) = export(run, "relion", tmp_path / "out.star").files
    blocks = check_relion31(path)
    table = blocks["particles"].merge(blocks["optics"], on="rlnOpticsGroup")
    assert (table["rlnMtfFileName"] == ["k2.star", "k3.star"] * 3).all()
    assert (table["rlnVoltage"] == [200, 300] * 3).all()
    assert_same_particles(read_particles(path), read_particles(tmp_path / "particles.star"))


def test_cs_keeps_types_order_and_everything_but_poses(tmp_path):
    run, _ = run_on("cryosparc", tmp_path, refined=True)
    (path,) = export(
        run, "cryosparc", tmp_path / "o.cs", ExportOptions(SOME, refined_poses=True)
    ).files
    found, original = np.load(path), np.load(run.record["particles"]["source"])[[1, 2, 4]]
    assert found.dtype == original.dtype
    for name in original.dtype.names:
        same = np.array_equal(found[name], original[name])
        assert same != (name in ("alignments3D/pose", "alignments3D/shift")), name


def test_latents_become_columns_of_the_right_rows(tmp_path):
    run, _ = run_on("relion31", tmp_path, ind=[5, 0, 3])
    (path,) = export(run, "relion", tmp_path / "out.star", ExportOptions(latents=True)).files
    table = starfile.read(path)["particles"]
    np.testing.assert_array_equal(table["userColumn"], [0.5, 3.5, 5.5])
    at = [1, 2, 0]
    for j in range(run.rank):
        np.testing.assert_allclose(table[f"solvarZ{j + 1}"], run.posterior.z[at, j], atol=1e-5)
    np.testing.assert_allclose(table["solvarContrast"], run.posterior.contrast[at], atol=1e-5)


def test_poses_of_a_pickle_replace_those_of_the_star_file(tmp_path):
    run, _ = run_on("relion31", tmp_path, refined=True)
    export(run, "cryodrgn", tmp_path / "other", ExportOptions(refined_poses=True))
    reading = {"poses": tmp_path / "other" / "poses.pkl", "ctf": tmp_path / "other" / "ctf.pkl"}
    options = ExportOptions(reading=reading)
    for target, name in (("relion", "out.star"), ("cryosparc", "out.cs")):
        (path,) = export(run, target, tmp_path / name, options).files
        refined = expected(run, {}, list(range(COUNT)), True)
        assert_same_particles(read_particles(path), refined)


@pytest.mark.parametrize("to", ["relion", "cryosparc"])
def test_refined_shifts_keep_their_length_at_another_pixel_size(tmp_path, to):
    """The original has twice the box at half the pixel size, in the opposite order."""
    run, _ = run_on("relion31" if to == "relion" else "cryosparc", tmp_path, refined=True)
    project = tmp_path / "original"
    project.mkdir()
    if to == "relion":
        fine = {name: values[::-1] for name, values in COLUMNS_31.items()}
        optics = OPTICS_31.replace(" 2.0 8 2", " 1.0 16 2")
        original = write_star31(project, fine, optics=optics)
    else:
        table = cs_table(alignment_apix=0.5)[::-1]
        table["blob/psize_A"], table["blob/shape"] = 1.0, 2 * BOX
        original = write_cs(project, table)
    (stack,) = project.rglob("stack.mrcs")
    hollow_stack(stack, COUNT, 2 * BOX)
    options = ExportOptions(SOME, particles=original, refined_poses=True)
    (path,) = export(run, to, original.with_name("out" + original.suffix), options).files
    found = read_particles(path)
    at = [4, 2, 1]
    assert (found.pixel_size_angstrom, found.box_size) == (1.0, 16)
    np.testing.assert_array_equal(found.uid, run.particles["uid"][at])
    shift = run.particles["shift_angstrom"][at]
    np.testing.assert_allclose(found.poses.shift_angstrom, shift, atol=1e-5)
    np.testing.assert_allclose(found.poses.rotation, run.particles["rotation"][at], atol=1e-5)


def test_alignments_of_a_passthrough_are_written_beside_the_rows(tmp_path):
    table = cs_table()
    main = [n for n in table.dtype.names if not n.startswith("alignments3D")]
    other = ["uid", *(n for n in table.dtype.names if n.startswith("alignments3D"))]
    source = write_cs(tmp_path, repack_fields(table[main]))
    reading = {"passthrough": (write_cs(tmp_path, repack_fields(table[other]), "passthrough.cs"),)}
    run = make_run(tmp_path / "job", read_particles(source, **reading), refined=True)
    options = ExportOptions(SOME, refined_poses=True, reading=reading)
    (path,) = export(run, "cryosparc", tmp_path / "out.cs", options).files
    wanted = expected(run, reading, [1, 2, 4], True)
    assert_same_particles(read_particles(path), wanted)
    assert_same_particles(read_particles(path, **reading), wanted)


@pytest.mark.parametrize("name", ["relion31.star", "relion5.star"])
def test_star_files_of_relion_itself(shared_data, tmp_path, name):
    source = shared_data / "formats" / name
    blocks = starfile.read(source)
    names, box = blocks["particles"]["rlnImageName"], blocks["optics"]["rlnImageSize"].iloc[0]
    frame, stack = names.str.split("@").str[0].astype(int), names.str.split("@").str[1]
    for name in stack.unique():
        hollow_stack(tmp_path / name, frame[stack == name].max(), box)
    # the file of RELION 5 repeats some images
    ind = np.flatnonzero(~names.duplicated())
    reading = {"datadir": tmp_path}
    particles = read_particles(source, ind=ind, **reading)
    run = make_run(tmp_path / "job", particles)
    (path,) = export(run, "relion", tmp_path / "out.star").files
    check_relion31(path)
    assert_same_particles(read_particles(path, **reading), particles)
    original, found = (starfile.read(p)["particles"] for p in (source, path))
    assert found.equals(original.iloc[ind].reset_index(drop=True))


def test_cs_of_cryosparc_itself(shared_data, tmp_path):
    source = shared_data / "formats" / "cryosparc_P12_J24_001_particles.cs"
    table = np.load(source)
    for stack in np.unique(table["blob/path"]):
        count = table["blob/idx"][table["blob/path"] == stack].max() + 1
        hollow_stack(tmp_path / stack.decode().lstrip(">"), count, table["blob/shape"][0, 0])
    reading = {"datadir": tmp_path}
    particles = read_particles(source, **reading)
    run = make_run(tmp_path / "job", particles.select(np.arange(0, len(particles), 3)))
    (path,) = export(run, "cryosparc", tmp_path / "out.cs").files
    found = np.load(path)
    assert found.dtype == table.dtype and found.tobytes() == table[::3].tobytes()


def test_files_of_cryodrgn_itself(shared_data, tmp_path):
    folder = shared_data / "formats"
    source = folder / "toy_projections.mrcs"
    reading = {"poses": folder / "toy_rot_trans.pkl", "ctf": folder / "test_ctf.pkl"}
    run = make_run(tmp_path / "job", read_particles(source, **reading, ind=np.arange(90, 30, -2)))
    assert_same_particles(
        run.read_input(), read_particles(source, **reading, ind=np.arange(90, 30, -2))
    )
    paths = export(run, "cryodrgn", tmp_path / "out", ExportOptions(Selection(ind=[60, 40]))).files
    found = read_particles(source, **{path.stem: path for path in paths})
    assert_same_particles(found, read_particles(source, **reading, ind=[40, 60]))
