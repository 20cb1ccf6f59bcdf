"""Each dialect, in hand-written minimal files: the same particles come out."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from particles import particle_files as files
from particles.particle_files import COLUMNS_30, COLUMNS_31, changed
from solvar.particles import read_particles


def _with_both_origins(folder):
    both = {k: v for k, v in COLUMNS_30.items() if k in ("rlnOriginX", "rlnOriginY")}
    return {"path": files.write_star31(folder, changed(COLUMNS_31, **both))}


def _with_pixel_origins(folder):
    new = {k: COLUMNS_30[k] for k in ("rlnOriginX", "rlnOriginY")}
    columns = changed(COLUMNS_31, ("rlnOriginXAngst", "rlnOriginYAngst"), **new)
    return {"path": files.write_star31(folder, columns)}


def _without_sizes(folder):
    optics = files.OPTICS_31.replace("_rlnImageSize #7\n", "").replace(" 2.0 8 2", " 2.0 2")
    return {"path": files.write_star31(folder, optics=optics)}


def _with_pixel_size_column(folder):
    drop = ("rlnDetectorPixelSize", "rlnMagnification")
    columns = changed(COLUMNS_30, drop, rlnPixelSize=["2.0"] * files.COUNT)
    return {"path": files.write_star30(folder, columns, block="images")}


def _list_of_stacks(folder):
    arguments = files.write_cryodrgn(folder)
    images = files.write_stack(folder / "all.mrcs")
    files.write_stack(folder / "a.mrcs", images[:2])
    files.write_stack(folder / "b.mrcs", images[2:])
    (folder / "list.txt").write_text("a.mrcs\nb.mrcs\n")
    return {**arguments, "path": folder / "list.txt"}


def _passthrough(folder):
    alignment = [n for n in files.cs_table().dtype.names if n.startswith(("alignments3D", "uid"))]
    shuffled = files.cs_table()[alignment][::-1]
    path = files.write_cs(folder, files.cs_table(drop=tuple(set(alignment) - {"uid"})))
    return {"path": path, "passthrough": (files.write_cs(folder, shuffled, "passthrough.cs"),)}


DIALECTS = {
    "relion 3.1": lambda folder: {"path": files.write_star31(folder)},
    "relion 3.1, optics last": lambda folder: {"path": _optics_last(folder)},
    "relion 3.1, box size from the images": _without_sizes,
    "relion 3.1 with pixel origins": _with_pixel_origins,
    "relion 3.1 with both origins": _with_both_origins,
    "relion 3.0": lambda folder: {"path": files.write_star30(folder)},
    "relion 2 with rlnPixelSize": _with_pixel_size_column,
    "cryosparc": lambda folder: {"path": files.write_cs(folder)},
    "cryosparc with passthrough": _passthrough,
    "cryodrgn": files.write_cryodrgn,
    "cryodrgn list": _list_of_stacks,
}


def _optics_last(folder):
    path = files.write_star31(folder, optics="")
    path.write_text(path.read_text() + files.OPTICS_31)
    return path


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_particles(tmp_path, dialect):
    particles = read_particles(**DIALECTS[dialect](tmp_path))
    np.testing.assert_allclose(particles.poses.rotation, files.rotations(), atol=1e-6)
    np.testing.assert_allclose(particles.poses.shift_angstrom, files.SHIFT, atol=1e-6)
    np.testing.assert_allclose(particles.exposures.ctf.defocus_u_angstrom, files.DEFOCUS_U)
    np.testing.assert_allclose(particles.exposures.ctf.defocus_v_angstrom, files.DEFOCUS_V)
    angle = np.rad2deg(particles.exposures.ctf.defocus_angle_radian)
    np.testing.assert_allclose(angle, files.ANGLE, atol=1e-5)
    optics = particles.optics
    constants = (optics.voltage_kv, optics.spherical_aberration_mm, optics.amplitude_contrast)
    assert [float(c[0]) for c in constants] == [300.0, 2.7, 0.1]
    assert (particles.box_size, particles.pixel_size_angstrom) == (files.BOX, files.APIX)
    assert len(np.unique(particles.uid)) == files.COUNT
    assert particles.uid.dtype == np.uint64 and particles.row.dtype == np.int64


def test_phase_shift_bfactor_and_half_set_of_a_star_file(tmp_path):
    columns = changed(
        COLUMNS_31, rlnPhaseShift=[90.0] * files.COUNT, rlnCtfBfactor=[50.0] * files.COUNT
    )
    particles = read_particles(files.write_star31(tmp_path, columns))
    np.testing.assert_allclose(particles.exposures.ctf.phase_shift_radian, np.pi / 2)
    np.testing.assert_allclose(particles.exposures.ctf.bfactor_angstrom2, 50.0)
    np.testing.assert_array_equal(particles.halfset, [1, 2] * 3)


def test_cryosparc_split_becomes_half_sets_one_and_two(tmp_path):
    particles = read_particles(files.write_cs(tmp_path))
    np.testing.assert_array_equal(particles.halfset, [1, 2] * 3)
    np.testing.assert_array_equal(particles.uid, files.cs_table()["uid"])


def test_alignment_without_pixel_size_is_in_image_pixels(tmp_path):
    table = files.cs_table(drop=("alignments3D/psize_A",), alignment_apix=files.APIX)
    particles = read_particles(files.write_cs(tmp_path, table))
    np.testing.assert_allclose(particles.poses.shift_angstrom, files.SHIFT, atol=1e-6)


def test_optics_groups_of_a_new_star_keep_their_constants(tmp_path):
    optics = files.OPTICS_31 + "2 talos 200.0 1.4 0.07 2.0 8 2\n"
    columns = changed(COLUMNS_31, rlnOpticsGroup=["2", "1", "1", "2", "2", "1"])
    particles = read_particles(files.write_star31(tmp_path, columns, optics=optics))
    voltage = particles.optics.voltage_kv[particles.exposures.optics_group]
    np.testing.assert_array_equal(voltage, [200, 300, 300, 200, 200, 300])
    assert set(particles.optics.name) == {"krios", "talos"}


def test_distinct_constants_in_an_old_star_become_groups(tmp_path):
    columns = changed(COLUMNS_30, rlnVoltage=["300", "200", "300", "200", "300", "300"])
    particles = read_particles(files.write_star30(tmp_path, columns))
    np.testing.assert_array_equal(particles.exposures.optics_group, [0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(particles.optics.voltage_kv, [300, 200])


def test_only_groups_in_use_are_judged(tmp_path):
    optics = files.OPTICS_31 + "2 other 300.0 2.7 0.1 1.0 16 2\n"
    columns = changed(COLUMNS_31, rlnOpticsGroup=["1", "1", "1", "2", "2", "1"])
    path = files.write_star31(tmp_path, columns, optics=optics)
    assert len(read_particles(path, ind=[0, 1, 5]).optics.name) == 1


def test_rotations_alone_mean_no_shift(tmp_path):
    arguments = files.write_cryodrgn(tmp_path, poses=files.cryodrgn_poses()[0])
    assert not read_particles(**arguments).poses.shift_angstrom.any()


def test_ctf_of_the_original_images_serves_downsampled_ones(tmp_path):
    ctf = files.ctf_rows()
    ctf[:, 0], ctf[:, 1] = 2 * files.BOX, files.APIX / 2
    particles = read_particles(**files.write_cryodrgn(tmp_path, ctf=ctf))
    assert particles.pixel_size_angstrom == files.APIX
    np.testing.assert_allclose(particles.poses.shift_angstrom, files.SHIFT, atol=1e-6)


def test_pickled_poses_replace_those_of_a_star_file(tmp_path):
    path = files.write_star31(tmp_path, changed(COLUMNS_31, ("rlnAngleRot", "rlnOriginXAngst")))
    with (tmp_path / "poses.pkl").open("wb") as file:
        pickle.dump(files.cryodrgn_poses(), file)
    particles = read_particles(path, poses=tmp_path / "poses.pkl")
    np.testing.assert_allclose(particles.poses.rotation, files.rotations(), atol=1e-6)
    np.testing.assert_allclose(particles.poses.shift_angstrom, files.SHIFT, atol=1e-6)


@pytest.mark.parametrize("kind", ["array", "pkl", "npy", "txt", "mask"])
def test_selection_keeps_rows_in_the_given_order(tmp_path, kind):
    path = files.write_star31(tmp_path)
    rows = np.array([4, 1, 3])
    ind: object = rows
    if kind == "mask":
        rows = np.array([1, 3, 4])
        ind = np.isin(np.arange(files.COUNT), rows)
    elif kind != "array":
        ind = tmp_path / f"ind.{kind}"
        writers = {"pkl": lambda f: pickle.dump(rows, f), "npy": lambda f: np.save(f, rows)}
        with ind.open("wb") as file:
            writers.get(kind, lambda f: np.savetxt(f, rows, "%d"))(file)
    chosen, whole = read_particles(path, ind=ind), read_particles(path)
    np.testing.assert_array_equal(chosen.row, rows)
    np.testing.assert_array_equal(chosen.uid, whole.uid[rows])
    np.testing.assert_array_equal(chosen.poses.rotation, whole.poses.rotation[rows])
    np.testing.assert_array_equal(chosen.exposures.frame, rows)


def _move_stack(folder, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    (folder / "stack.mrcs").rename(target)


@pytest.mark.parametrize(
    ("spelling", "place", "options"),
    [
        ("stack.mrcs", "job/stack.mrcs", {}),
        ("Extract/stack.mrcs", "Extract/stack.mrcs", {}),
        ("Extract/stack.mrcs", "job/stack.mrcs", {}),
        ("Extract/stack.mrcs", "far/Extract/stack.mrcs", {"datadir": "far"}),
        ("Extract/stack.mrcs", "far/stack.mrcs", {"datadir": "far"}),
        (
            "/old/disk/E/stack.mrcs",
            "far/E/stack.mrcs",
            {"datadir": "far", "strip_prefix": "/old/disk"},
        ),
        ("/old/disk/E/stack.mrcs", "job/stack.mrcs", {}),
    ],
)
def test_stacks_are_found_where_people_keep_them(tmp_path, spelling, place, options):
    (tmp_path / "job").mkdir()
    names = [n.replace("stack.mrcs", spelling) for n in COLUMNS_31["rlnImageName"]]
    path = files.write_star31(tmp_path / "job", changed(COLUMNS_31, rlnImageName=names))
    if place != "job/stack.mrcs":
        _move_stack(tmp_path / "job", tmp_path / place)
    if "datadir" in options:
        options = {**options, "datadir": tmp_path / options["datadir"]}
    assert read_particles(path, **options).stacks == (tmp_path / place,)


def test_format_is_judged_by_content(tmp_path):
    path = files.write_star31(tmp_path).rename(tmp_path / "particles.cs")
    assert read_particles(path).source_format == "relion"


def test_identity_does_not_depend_on_row_order_or_zero_padding(tmp_path):
    whole = read_particles(files.write_star31(tmp_path))
    reversed_columns = {k: list(v)[::-1] for k, v in COLUMNS_31.items()}
    reversed_columns["rlnImageName"] = [n.lstrip("0") for n in reversed_columns["rlnImageName"]]
    other = read_particles(files.write_star31(tmp_path, reversed_columns))
    np.testing.assert_array_equal(other.uid[::-1], whole.uid)
