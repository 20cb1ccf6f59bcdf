"""Flat star files of tilt series against an independent parse, and the traps that they hold."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from particles import particle_files as files
from particles.particle_files import hollow_stack
from particles.tilt_files import DOSE, GROUPS, SCALE, write_tilts
from solvar.errors import InputError
from solvar.imaging.ctf import evaluate_ctf
from solvar.particles import ImageStack, read_particles, write_star
from solvar.particles.expansion import expanded
from solvar.particles.halfsets import assign_halfsets

# of the particles b and a, in this order, the rows in file order
ROWS = [0, 3, 4, 1, 2, 5]
NAMES = ("10076_classD_32_sim", "10076_classE_32_sim", "10076_both_32_sim")


def _angles(table):
    names = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]
    return Rotation.from_euler("ZYZ", table[names].to_numpy(float), degrees=True).as_matrix()


def test_rows_of_a_group_are_images_of_a_particle(tmp_path):
    particles = read_particles(write_tilts(tmp_path))
    images = particles.exposures
    assert len(particles) == 2 and images.particle.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.row.tolist() == ROWS == particles.image_row.tolist()
    assert images.frame.tolist() == ROWS and particles.row.tolist() == [0, 1]
    assert images.ctf.dose_per_angstrom2.tolist() == [DOSE[row] for row in ROWS]
    assert images.ctf.scale.tolist() == [SCALE[row] for row in ROWS]
    assert not images.ctf.bfactor_angstrom2.any()
    assert particles.halfset.tolist() == [2, 1] and not particles.remarks()


def test_the_pose_of_a_particle_is_that_of_its_least_exposed_tilt(tmp_path):
    particles = read_particles(write_tilts(tmp_path))
    np.testing.assert_allclose(particles.poses.rotation, files.rotations()[[3, 1]], atol=1e-12)
    assert not particles.poses.shift_angstrom.any()
    np.testing.assert_array_equal(particles.exposures.tilt[[1, 3]], [np.eye(3)] * 2)
    found = particles.image_poses
    np.testing.assert_allclose(found.rotation, files.rotations()[ROWS], atol=1e-12)
    np.testing.assert_allclose(found.shift_angstrom, files.SHIFT[ROWS], atol=1e-12)


def test_dose_damps_and_never_sharpens(tmp_path):
    particles = read_particles(write_tilts(tmp_path))
    images, kx = particles.exposures, np.arange(4)
    undamped = images.ctf.take(np.arange(6))
    undamped = type(undamped)(*list(vars(undamped).values())[:5])
    args = kx, 0 * kx, 16.0
    plain = evaluate_ctf(*args, undamped, particles.optics, images.optics_group)
    ctf = evaluate_ctf(*args, images.ctf, particles.optics, images.optics_group)
    left = (ctf / plain) / images.ctf.scale[:, None]
    np.testing.assert_allclose(left[:, 0], 1)
    assert (np.diff(left, axis=1) < 0).all()
    by_dose = left[np.argsort(images.ctf.dose_per_angstrom2, kind="stable")]
    assert (np.diff(by_dose[:, 3].reshape(3, 2).mean(axis=1)) < 0).all()


def test_a_column_of_exposures_is_believed_before_the_b_factor(tmp_path):
    before = [dose - 2 for dose in DOSE]
    found = read_particles(write_tilts(tmp_path, rlnMicrographPreExposure=before)).exposures.ctf
    assert found.dose_per_angstrom2.tolist() == [before[row] for row in ROWS]
    assert not found.bfactor_angstrom2.any()


def test_exposure_is_not_guessed_from_the_scale(tmp_path, caplog):
    micrographs = [f"tilt{dose:g}.mrc" for dose in DOSE]
    path = write_tilts(tmp_path, ("rlnCtfBfactor",), rlnMicrographName=micrographs)
    with caplog.at_level(logging.WARNING):
        particles = read_particles(path)
    assert particles.exposures.ctf.dose_per_angstrom2 is None
    assert "no exposures" in caplog.text and "no exposures" in particles.remarks()[0]
    # the first row of each, not the one of the largest scale
    np.testing.assert_allclose(particles.poses.rotation, files.rotations()[[0, 1]], atol=1e-12)


def test_rows_of_a_micrograph_are_one_exposure(tmp_path):
    micrographs = {"rlnMicrographName": [f"tilt{dose:g}.mrc" for dose in DOSE]}
    particles = read_particles(write_tilts(tmp_path, **micrographs))
    # 6, 2 and 4 e/Å² in order of appearance, of b and then of a
    assert particles.exposures.tilt_image.tolist() == [0, 1, 2, 1, 2, 0]
    assert particles.select(np.array([1])).exposures.tilt_image.tolist() == [1, 2, 0]
    assert particles.exposures.rows(np.array([3])).tilt_image.tolist() == [1]
    assert read_particles(write_tilts(tmp_path)).exposures.tilt_image is None


def test_a_missing_scale_is_the_cosine_of_the_tilt(tmp_path):
    path = write_tilts(tmp_path, ("rlnCtfScalefactor",), rlnMicrographTiltAngle=[60.0] * 6)
    np.testing.assert_allclose(read_particles(path).exposures.ctf.scale, 0.5)
    particles = read_particles(write_tilts(tmp_path, ("rlnCtfScalefactor",)))
    assert particles.exposures.ctf.scale is None and "same strength" in particles.remarks()[0]


def test_groups_that_are_micrographs_are_no_tilts(tmp_path):
    # fitted B-factors and scales of single particles, as refinement of the CTF leaves them
    fitted = {"rlnCtfBfactor": [-3.1, -7.7, -12.2, -5.4, -9.3, -1.5]}
    path = write_tilts(tmp_path, ("rlnCtfScalefactor",), **fitted)
    assert read_particles(path).exposures.are_single
    # tilts, by their numbers, but of the same micrograph
    micrograph = {"rlnMicrographName": [f"{name}.mrc" for name in GROUPS]}
    path = write_tilts(tmp_path, ("rlnCtfScalefactor",), **micrograph)
    assert read_particles(path).exposures.are_single
    # two groups of micrographs with a scale each
    scales = {"a": 1.0, "b": 0.9}
    path = write_tilts(
        tmp_path,
        ("rlnCtfBfactor",),
        rlnMicrographName=[f"{i}.mrc" for i in range(6)],
        rlnCtfScalefactor=[scales[name] for name in GROUPS],
    )
    with pytest.raises(InputError, match="factors of the CTF that differ"):
        read_particles(path)


def test_ordinary_files_hold_no_tilts(shared_data):
    from solvar.particles.relion_tilts import particles_of_tilts
    from solvar.particles.star_blocks import particle_block, read_blocks

    names = ("adk_64/particles_relion.star", "pol2_64/particles_relion.star")
    others = (
        "relion31.star",
        "relion31.6opticsgroups.star",
        "relion5.star",
        "toy_projections.star",
    )
    for name in (*names, *(f"formats/{other}" for other in others)):
        path = shared_data / name
        blocks = read_blocks(path)
        assert particles_of_tilts(blocks[particle_block(blocks, path)]) is None, name


def test_selections_and_half_sets_are_by_particle(tmp_path):
    path = write_tilts(tmp_path)
    whole, one = read_particles(path), read_particles(path, ind=[1])
    assert len(one) == 1 and one.exposures.row.tolist() == [1, 2, 5] and one.row.tolist() == [1]
    assert one.uid == whole.uid[1:] and len(set(whole.uid)) == 2
    with pytest.raises(InputError, match="row 2 is selected"):
        read_particles(path, ind=[2])
    torn = read_particles(write_tilts(tmp_path, rlnRandomSubset=["1", "2"] * 3))
    assert torn.halfset.tolist() == [0, 0]
    assert sorted(assign_halfsets(torn, 0).halfset) == [1, 2]


def test_what_is_written_reads_as_the_same_particles(tmp_path):
    whole = read_particles(write_tilts(tmp_path))
    for chosen in (whole, whole.select(np.array([1]))):
        path = tmp_path / "again.star"
        write_star(path, chosen, {"solvarZ1": np.arange(len(chosen)) + 0.5})
        table = starfile.read(path)
        assert table["userColumn"].tolist() == [float(f"0{row}.50") for row in chosen.image_row]
        assert table["solvarZ1"].tolist() == (chosen.exposures.particle + 0.5).tolist()
        again = read_particles(path)
        assert len(again) == len(chosen)
        for name in ("rotation", "shift_angstrom"):
            ours, theirs = (getattr(each.image_poses, name) for each in (again, chosen))
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        np.testing.assert_array_equal(again.exposures.frame, chosen.exposures.frame)
        np.testing.assert_array_equal(again.exposures.particle, chosen.exposures.particle)
        for name, values in chosen.exposures.ctf.columns.items():
            np.testing.assert_allclose(getattr(again.exposures.ctf, name), values)


@pytest.mark.parametrize(
    ("options", "changes", "pattern"),
    [
        ({"ctf": "ctf.pkl"}, {}, "scale and dose of the tilts would be lost; leave --ctf out"),
        ({"ignore_poses": True}, {}, "known from their poses, which would be ignored"),
        ({}, {"rlnCtfDataAreCtfPremultiplied": 1}, "multiplied by their CTF are not supported"),
        ({}, {"rlnCtfScalefactor": [1, 1, 0, 1, 1, 1]}, "row 3, .*Scalefactor: is not above 0"),
        ({}, {"rlnCtfScalefactor": [1, 1, "nan", 1, 1, 1]}, "row 3, .*not a finite number"),
        ({}, {"rlnAngleRot": [1, 1, 1, 1, "nan", 1]}, "row 5, column rlnAngleRot"),
        ({}, {"rlnDefocusU": [1e4, 1e4, 1e4, 1e4, "nan", 1e4]}, "row 5, column rlnDefocusU"),
        ({}, {"rlnImageName": ["1@stack.mrcs"] * 6}, "row 4: is the same image as row 1"),
    ],
)
def test_what_tilts_cannot_be_read_with_is_told(tmp_path, options, changes, pattern):
    files.write_cryodrgn(tmp_path)
    options = {k: tmp_path / v if k == "ctf" else v for k, v in options.items()}
    changes = {k: v if isinstance(v, list) else [v] * 6 for k, v in changes.items()}
    with pytest.raises(InputError, match=pattern):
        read_particles(write_tilts(tmp_path, **changes), **options)


def test_several_images_are_refused_where_one_is_needed(tmp_path):
    from solvar.imaging.point_groups import PointGroup

    particles = read_particles(write_tilts(tmp_path))
    with pytest.raises(InputError, match="one image a particle"):
        expanded(particles, PointGroup.named("C2"))


@pytest.mark.parametrize("name", NAMES)
def test_two_states_are_read_as_an_independent_parse_says(shared_data, name):
    folder = shared_data / "tomo" / "two_states"
    table = starfile.read(folder / f"{name}.star")
    particles = read_particles(folder / f"{name}.star", strip_prefix="data")
    images, ctf = particles.exposures, particles.exposures.ctf
    # the rows of a particle are neighbours in these files
    assert particles.image_row.tolist() == list(range(len(table)))
    groups = list(dict.fromkeys(table["rlnGroupName"]))
    assert [groups[p] for p in images.particle] == table["rlnGroupName"].tolist()
    frames = table["rlnImageName"].str.partition("@")
    assert (images.frame + 1).tolist() == frames[0].astype(int).tolist()
    named = [particles.stacks[s].name for s in images.stack_index]
    assert named == frames[2].str.replace("data/", "").tolist()
    expected = {
        "defocus_u_angstrom": table["rlnDefocusU"],
        "defocus_v_angstrom": table["rlnDefocusV"],
        "defocus_angle_radian": np.deg2rad(table["rlnDefocusAngle"]),
        "phase_shift_radian": np.deg2rad(table["rlnPhaseShift"]),
        "bfactor_angstrom2": 0 * table["rlnDefocusU"],
        "scale": table["rlnCtfScalefactor"],
        "dose_per_angstrom2": -table["rlnCtfBfactor"] / 4,
    }
    for field, values in expected.items():
        np.testing.assert_allclose(getattr(ctf, field), values, rtol=1e-12)
    assert images.sign is None and particles.image_poses.rotation.shape == (len(table), 3, 3)
    np.testing.assert_allclose(particles.image_poses.rotation, _angles(table), atol=1e-12)
    origin = table[["rlnOriginX", "rlnOriginY"]].to_numpy() * 13.1
    np.testing.assert_allclose(particles.image_poses.shift_angstrom, origin, atol=1e-9)
    optics = particles.optics
    told = (optics.voltage_kv, optics.spherical_aberration_mm, optics.amplitude_contrast)
    assert [v.tolist() for v in told] == [[300.0], [2.7], [0.1]]
    assert (particles.pixel_size_angstrom, particles.box_size) == (13.1, 32)
    assert ImageStack(particles).read(np.array([0, 3])).shape == (2, 32, 32)


def test_a_real_tilt_series_is_read(shared_data, tmp_path):
    path = shared_data / "formats" / "sta_testing_bin8.star"
    table = starfile.read(path)
    for name, rows in table.groupby(table["rlnImageName"].str.partition("@")[2]):
        hollow_stack(tmp_path / str(name), int(rows["rlnImageName"].str[:6].astype(int).max()), 64)
    particles = read_particles(path, datadir=tmp_path)
    assert len(particles) == table["rlnGroupName"].nunique()
    rows = particles.image_row
    doses = -table["rlnCtfBfactor"].to_numpy()[rows] / 4
    np.testing.assert_allclose(particles.exposures.ctf.dose_per_angstrom2, doses)
    np.testing.assert_allclose(particles.image_poses.rotation, _angles(table)[rows], atol=1e-12)
    assert "no shifts" in particles.remarks()[0]


def test_moves_that_images_have_in_common_are_those_of_their_particles(tmp_path):
    particles = read_particles(write_tilts(tmp_path))
    images, move = particles.exposures, np.array([[1.0, -2.0, 3.0], [0.5, 0.25, -4.0]])
    seen = np.einsum("mji,mj->mi", images.tilt[:, :, :2], move[images.particle])
    moved = replace(images, shift_angstrom=seen)
    np.testing.assert_allclose(moved.common_moves(), move, atol=1e-9)
    shifted = replace(images, shift_angstrom=None)
    np.testing.assert_allclose(shifted.moves(move[images.particle]), seen, atol=1e-12)
    assert not shifted.common_moves().any()
