"""Bad inputs, one line each: the sentence names the file, the row or column, and a remedy."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from particles import particle_files as files
from particles.particle_files import COLUMNS_30, COLUMNS_31, OPTICS_31, changed, with_value
from solvar.errors import InputError
from solvar.particles import read_particles


def _without(*names):
    return lambda folder: {"path": files.write_star31(folder, changed(COLUMNS_31, names))}


def _value(name, row, value):
    return lambda folder: {
        "path": files.write_star31(folder, with_value(COLUMNS_31, name, row, value))
    }


def _added(**columns):
    full = {name: [value] * files.COUNT for name, value in columns.items()}
    return lambda folder: {"path": files.write_star31(folder, changed(COLUMNS_31, **full))}


def _optics(old, new):
    text = OPTICS_31.replace(old, new)
    return lambda folder: {"path": files.write_star31(folder, optics=text)}


def _two_groups(second):
    columns = with_value(COLUMNS_31, "rlnOpticsGroup", 3, "2")
    return lambda folder: {"path": files.write_star31(folder, columns, optics=OPTICS_31 + second)}


def _old_without(*names):
    return lambda folder: {"path": files.write_star30(folder, changed(COLUMNS_30, names))}


def _damaged_star(folder):
    path = files.write_star31(folder)
    path.write_text(path.read_text().rstrip()[:-80])
    return {"path": path}


def _cs_without(*names):
    return lambda folder: {"path": files.write_cs(folder, files.cs_table(drop=names))}


def _cs_value(name, row, value):
    def make(folder):
        table = files.cs_table()
        table[name][row] = value
        return {"path": files.write_cs(folder, table)}

    return make


def _cs_truncated(folder):
    path = files.write_cs(folder)
    path.write_bytes(path.read_bytes()[:-100])
    return {"path": path}


def _cs_half_a_shift(folder):
    table = files.cs_table()
    values = {name: table[name] for name in table.dtype.names}
    values["alignments3D/shift"] = values["alignments3D/shift"][:, 0]
    return {"path": files.write_cs(folder, files.structured(values))}


def _cs_stream(folder):
    path = files.write_cs(folder)
    path.write_bytes(b"\x94CSDAT" + path.read_bytes()[6:])
    return {"path": path}


def _foreign_passthrough(folder):
    other = files.cs_table()
    other["uid"] += 1
    main = files.write_cs(folder, files.cs_table(drop=("alignments3D/pose",)))
    return {"path": main, "passthrough": (files.write_cs(folder, other, "other.cs"),)}


def _dgn(poses=None, ctf=None, **options):
    return lambda folder: {**files.write_cryodrgn(folder, poses, ctf), **options}


def _changed_pose(row, matrix):
    rotation, shift = files.cryodrgn_poses()
    rotation[row] = matrix
    return rotation, shift


def _changed_ctf(row, column, value):
    table = files.ctf_rows()
    table[row, column] = value
    return table


def _cut(name):
    def make(folder):
        arguments = files.write_cryodrgn(folder)
        path = folder / name
        path.write_bytes(path.read_bytes()[:-40])
        return arguments

    return make


def _star_with(**options):
    return lambda folder: {"path": files.write_star31(folder), **options}


def _text_file(text):
    def make(folder):
        (folder / "file.txt").write_text(text)
        return {"path": folder / "file.txt"}

    return make


ROTATION, SHIFT = files.cryodrgn_poses()

BAD = {
    # RELION
    "no image name": (_without("rlnImageName"), "column rlnImageName: is missing"),
    "no angle": (_without("rlnAngleTilt"), "column rlnAngleTilt: is missing; .*--poses"),
    "no origin": (_without("rlnOriginYAngst"), "column rlnOriginYAngst: is missing"),
    "no defocus": (_without("rlnDefocusV"), "column rlnDefocusV: is missing; .*--ctf"),
    "no optics block": (
        lambda folder: {"path": files.write_star31(folder, optics="")},
        "column rlnVoltage: is missing; the data_optics block is missing from the file, pass "
        "--voltage, --cs, --amplitude-contrast and --pixel-size or --ctf",
    ),
    "no voltage": (
        _optics("_rlnVoltage", "_rlnOther"),
        "column rlnVoltage: is missing; pass --voltage or --ctf",
    ),
    "no pixel size": (
        _optics("_rlnImagePixelSize", "_x"),
        "column rlnImagePixelSize: is missing.*; pass --pixel-size or",
    ),
    "no magnification": (_old_without("rlnMagnification"), "rlnImagePixelSize: is missing"),
    "no old voltage": (_old_without("rlnVoltage"), "column rlnVoltage: is missing"),
    "unknown optics group": (_value("rlnOpticsGroup", 2, 9), "row 3, .*group 9 is not in"),
    "NaN angle": (_value("rlnAngleRot", 4, "nan"), "row 5, column rlnAngleRot.*not a finite"),
    "infinite defocus": (_value("rlnDefocusU", 1, "inf"), "row 2, column rlnDefocusU.*finite"),
    "NaN origin": (_value("rlnOriginXAngst", 0, "nan"), "row 1, column rlnOriginXAngst"),
    "text in numbers": (_value("rlnDefocusU", 1, "thick"), "row 2, .*'thick' is not a number"),
    "negative defocus": (
        lambda folder: {
            "path": files.write_star31(
                folder,
                changed(COLUMNS_31, rlnDefocusU=-files.DEFOCUS_U, rlnDefocusV=-files.DEFOCUS_V),
            )
        },
        "row 1, column rlnDefocusU: defocus is negative.*5 more rows; change the sign",
    ),
    "one negative defocus": (
        lambda folder: {
            "path": files.write_star31(
                folder,
                with_value(
                    with_value(COLUMNS_31, "rlnDefocusU", 2, -9000.0), "rlnDefocusV", 2, -9100.0
                ),
            )
        },
        "row 3, column rlnDefocusU: defocus is negative, .* here; correct the value, or .*--ind",
    ),
    "defocus in µm": (_added(rlnDefocusU="1.2", rlnDefocusV="1.1"), "micrometres"),
    "volts": (_optics("300.0", "300000.0"), "column rlnVoltage.*volts"),
    "no common grid": (
        _two_groups("2 talos 300.0 2.7 0.1 0.5 8 2\n"),
        "rlnImagePixelSize: .*images of talos are 4 Å wide, pixels of krios are 2 Å",
    ),
    "half a magnification": (_added(rlnMagMat00=1.01), "rlnMagMat01: is missing, but rlnMagMat00"),
    "no magnification matrix": (
        _added(rlnMagMat00=1, rlnMagMat01=0, rlnMagMat10=0, rlnMagMat11=0),
        "rlnMagMat00: .*krios has a magnification matrix that is nowhere near the identity",
    ),
    "half a beam tilt": (_added(rlnBeamTiltX=0.1), "rlnBeamTiltY: is missing"),
    "beam tilt in degrees": (_added(rlnBeamTiltX=0, rlnBeamTiltY=900), "beyond 100 mrad"),
    "Zernike words": (_added(rlnOddZernike="[0.1,x]"), "rlnOddZernike: cannot be read as numbers"),
    "Zernike NaN": (_added(rlnEvenZernike="[0.1,inf]"), "rlnEvenZernike: .*not a finite number"),
    "many Zernikes": (_added(rlnOddZernike="[" + "1," * 99 + "1]"), "lists 100 coefficients"),
    "frame zero": (_value("rlnImageName", 1, "0@stack.mrcs"), "row 2, column rlnImageName"),
    "frame not a number": (_value("rlnImageName", 1, "x@stack.mrcs"), "row 2, .*000001@stack"),
    "missing stack": (_value("rlnImageName", 5, "1@E/no.mrcs"), "row 6: .*E/no.mrcs.*--datadir"),
    "repeated image": (_value("rlnImageName", 3, "2@stack.mrcs"), "row 4: is the same.*row 2"),
    "origins disagree": (_added(rlnOriginX="3.0", rlnOriginY="0.0"), "row 1, .*OriginX says 6 Å"),
    "huge shift": (_value("rlnOriginXAngst", 2, "17.0"), "row 3, .*larger than the whole image"),
    "tomogram": (
        _added(rlnTomoName="tomo1"),
        "nothing beside it says how these were tilted; pass the optimisation set.*--tomograms",
    ),
    "three dimensions": (
        _optics(" 8 2", " 8 3"),
        "rlnImageDimensionality: the images are subtomograms",
    ),
    "CTF scales": (
        lambda folder: {
            "path": files.write_star31(
                folder, changed(COLUMNS_31, rlnCtfScalefactor=[1, 1, 1, 0.5, 1, 1])
            )
        },
        "row 4, .*CtfScalefactor: is 0.5 here and 1 in row 1.*set the column to 1",
    ),
    "mirrored": (_added(rlnIsFlip=1), "row 1, .*rlnIsFlip: says that the image is to be mirrored"),
    "half flipped": (
        _added(rlnCtfDataArePhaseFlipped=0.5),
        "row 1, .*PhaseFlipped: is 0.5, neither",
    ),
    "cut star": (_damaged_star, "row 6|star file"),
    "no rows": (
        lambda folder: {"path": files.write_star31(folder, {k: [] for k in COLUMNS_31})},
        "holds no particles",
    ),
    "no particle block": (
        lambda folder: {"path": files.write_star31(folder, {"rlnMicrographName": ["a"]})},
        "data_particles in the file.; pass the particle star",
    ),
    # cryoSPARC
    "2D alignments only": (_cs_without("alignments3D/pose"), "3D/pose: is missing; .*passthrough"),
    "half a shift": (_cs_half_a_shift, r"column alignments3D/shift: holds float32, not what"),
    "no blob": (_cs_without("blob/path"), "column blob/path: is missing; .*--passthrough"),
    "no ctf": (_cs_without("ctf/df1_A"), "column ctf/df1_A: is missing; .*--passthrough"),
    "no uid": (_cs_without("uid"), "column uid: is missing"),
    "cs NaN": (_cs_value("alignments3D/shift", 3, np.nan), "row 4, column alignments3D/shift"),
    "cs pose NaN": (_cs_value("alignments3D/pose", 3, np.nan), "row 4, column alignments3D/pose"),
    "cs uid twice": (_cs_value("uid", 3, 2**63 + 11), "row 4: is the same particle as row 1"),
    "cs voltage of one row": (
        _cs_value("ctf/accel_kv", 3, 0),
        r"column ctf/accel_kv: optics group exposure group 7 .row 4. has 0, outside",
    ),
    "cs path of one row": (
        _cs_value("blob/path", 3, b"\xff.mrcs"),
        "row 4, column blob/path: .*UTF-8",
    ),
    "cs stream": (_cs_stream, r"particles.cs: is a compressed stream .CSDAT.*Dataset.load"),
    "cs pixel sizes": (_cs_value("blob/psize_A", 3, 9.0), "column blob/psize_A.*no grid in common"),
    "empty cs": (
        lambda folder: {"path": files.write_cs(folder, files.cs_table()[:0])},
        "named columns and rows",
    ),
    "cut cs": (_cs_truncated, "cannot be read as a .cs file"),
    "foreign passthrough": (_foreign_passthrough, "other.cs, column uid: has no row for uid"),
    # cryoDRGN
    "poses too short": (_dgn((ROTATION[:4], SHIFT[:4])), "poses.pkl: has 4 rows.* has 6 particles"),
    "poses too long": (_dgn(np.repeat(ROTATION, 2, axis=0)), "has 12 rows of poses"),
    "ctf too short": (_dgn(ctf=files.ctf_rows()[:5]), "ctf.pkl: has 5 rows.* has 6 particles"),
    "shifts too short": (_dgn((ROTATION, SHIFT[:4])), r"shape \(4, 2\).*\(6, 2\) shifts"),
    "euler angles": (_dgn(np.zeros((6, 3))), r"poses.pkl: holds an array of shape \(6, 3\)"),
    "eight columns": (_dgn(ctf=files.ctf_rows()[:, :8]), r"ctf.pkl: .*\(6, 8\).*\(N, 9\) CTF"),
    "no rotation": (_dgn(_changed_pose(2, np.eye(3) * 1.1)), "poses.pkl, row 3: .*not a rotation"),
    "reflection": (_dgn(_changed_pose(2, -np.eye(3))), "poses.pkl, row 3: .*not a rotation"),
    "pose NaN": (_dgn(_changed_pose(1, np.nan)), "poses.pkl, row 2: value is not a finite"),
    "pixel shifts": (
        _dgn((ROTATION, files.SHIFT)),
        "poses.pkl, row 1: shift is larger than the whole",
    ),
    "ctf NaN": (_dgn(ctf=_changed_ctf(4, 2, np.nan)), "ctf.pkl, row 5, column dfU"),
    "cut pickle": (_cut("poses.pkl"), "poses.pkl: is not a plain numpy pickle"),
    "pickle of a dict": (_dgn({"rot": ROTATION}), "is not a plain numpy pickle .it holds a dict"),
    "text for poses": (_star_with(poses=__file__), "is not a plain numpy pickle"),
    # selections and paths
    "row out of range": (_star_with(ind=[0, 6]), "row 6 is selected, but .* has rows 0 to 5"),
    "negative row": (_star_with(ind=[-1]), "row -1 is selected"),
    "row twice": (_star_with(ind=[2, 2]), "more than once"),
    "floats": (_star_with(ind=[0.5]), "not a list of rows"),
    "nothing selected": (_star_with(ind=np.array([], dtype=int)), "no particles are left"),
    "text for ind": (_star_with(ind=__file__), "is not a list of row numbers"),
    "missing ind": (_star_with(ind="nowhere.pkl"), "nowhere.pkl: no such file"),
    "missing file": (lambda folder: {"path": folder / "no.star"}, "no.star: no such file"),
    "folder": (lambda folder: {"path": folder}, "is a folder"),
    "missing datadir": (_star_with(datadir="/nowhere"), "/nowhere: is not a folder"),
    "other text": (_text_file("hello\n"), "is no RELION star file"),
    "list of missing stacks": (_text_file("no.mrcs\n"), "does not hold poses; pass --poses"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_explained_in_one_sentence(tmp_path, case):
    make, pattern = BAD[case]
    with pytest.raises(InputError, match=pattern) as failure:
        read_particles(**make(tmp_path))
    assert "\n" not in str(failure.value)
    assert len(str(failure.value)) < 500 + 3 * len(str(tmp_path))


def test_bad_row_counts_in_the_file_also_when_rows_are_selected(tmp_path):
    path = files.write_star31(tmp_path, with_value(COLUMNS_31, "rlnAngleRot", 4, "nan"))
    with pytest.raises(InputError, match="row 5, column rlnAngleRot"):
        read_particles(path, ind=[5, 4, 0])
    assert len(read_particles(path, ind=[0, 1, 2, 3, 5])) == 5


def test_single_particle_groups_are_not_mistaken_for_tilt_series(tmp_path):
    groups = {
        "rlnGroupName": ["group1"] * 3 + ["group2"] * 3,
        "rlnCtfScalefactor": [1.0] * files.COUNT,
    }
    path = files.write_star30(tmp_path, changed(COLUMNS_30, **groups))
    assert len(read_particles(path)) == files.COUNT


def test_selection_file_that_is_a_pickle_of_a_list_is_read(tmp_path):
    path = files.write_star31(tmp_path)
    (tmp_path / "ind.pkl").write_bytes(pickle.dumps([3, 1]))
    np.testing.assert_array_equal(read_particles(path, ind=tmp_path / "ind.pkl").row, [3, 1])
