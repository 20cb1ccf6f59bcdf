"""Particles of tomograms (RELION 4 and 5, WarpTools) against an independent parse, and their traps."""

from __future__ import annotations

import ast
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from particles import tomo_files as files
from particles.tomo_files import (
    COLUMNS,
    TILTS,
    without,
    write_particles,
    write_set,
    write_tomograms,
)
from solvar.errors import InputError
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.particles import ImageStack, ParticleSet, read_particles, write_star

WARP = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12"
# of all particles' images, where they stand: (particle, tilt)
SEEN = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]


def _turn(axis: int, degree: float) -> np.ndarray:
    """A rotation about x, y or z, written out."""
    c, s = np.cos(np.deg2rad(degree)), np.sin(np.deg2rad(degree))
    turn = np.eye(3)
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    turn[a, a] = turn[b, b] = c
    turn[a, b], turn[b, a] = -s, s
    return turn


def _exposure(tilt: int) -> np.ndarray:
    """Rz·Ry·Rx of RELION 5: from the tomogram into an image."""
    angles = files.Z_ROT[tilt], files.Y_TILT[tilt], files.X_TILT[tilt]
    return _turn(2, angles[0]) @ _turn(1, angles[1]) @ _turn(0, angles[2])


def _particle(number: int) -> np.ndarray:
    angles = [COLUMNS[f"rlnAngle{name}"][number] for name in ("Rot", "Tilt", "Psi")]
    return _turn(2, angles[0]) @ _turn(1, angles[1]) @ _turn(2, angles[2])


def test_images_lie_as_their_exposures_do(tmp_path):
    particles = read_particles(write_set(tmp_path))
    images = particles.exposures
    assert particles.source.name == "particles.star" and len(particles) == 3
    assert list(zip(images.particle, images.frame, strict=True)) == SEEN
    found = particles.image_poses
    for place, (particle, tilt) in enumerate(SEEN):
        seen = _exposure(tilt)
        np.testing.assert_allclose(found.rotation[place], _particle(particle) @ seen.T, atol=1e-12)
        shift = (seen @ files.ORIGIN[particle])[:2]
        np.testing.assert_allclose(found.shift_angstrom[place], shift, atol=1e-12)
    assert particles.halfset.tolist() == [1, 2, 1] and not particles.remarks()
    assert len(set(images.tilt_image.tolist())) == 5


def test_defocus_follows_height_and_hand(tmp_path):
    ctf = read_particles(write_set(tmp_path)).exposures.ctf
    for place, (particle, tilt) in enumerate(SEEN):
        height = (_exposure(tilt) @ (files.CENTRED - files.ORIGIN)[particle])[2]
        series = files.OF[particle]
        u = files.DEFOCUS[series][tilt] + files.HAND[series] * height
        np.testing.assert_allclose(ctf.defocus_u_angstrom[place], u, rtol=1e-12)
        np.testing.assert_allclose(ctf.defocus_v_angstrom[place], u - files.SPLIT, rtol=1e-12)
    tilts = [tilt for _, tilt in SEEN]
    assert ctf.dose_per_angstrom2.tolist() == [files.DOSE[tilt] for tilt in tilts]
    assert ctf.scale.tolist() == [files.SCALE[tilt] for tilt in tilts]


def test_coordinates_in_pixels_are_counted_from_the_first_voxel(tmp_path):
    wanted = read_particles(write_set(tmp_path)).exposures.ctf.defocus_u_angstrom
    pixels = files.CENTRED / files.SERIES_APIX + np.array(files.SIZE) // 2
    centred = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]
    for digits, binned in ((8, 1.0), (8, 2.0)):
        named = {
            f"rlnCoordinate{axis}": np.round(pixels[:, i] / binned, digits)
            for i, axis in enumerate("XYZ")
        }
        write_particles(tmp_path, without(COLUMNS, *centred, **named))
        found = read_particles(tmp_path / "particles.star")
        np.testing.assert_allclose(found.exposures.ctf.defocus_u_angstrom, wanted, atol=1e-3)
        # as WarpTools writes them, and said
        assert (binned == 2) == any("binned pixels" in told for told in found.remarks())
    np.testing.assert_allclose(found.picks.coordinate_pixel, pixels, atol=1e-6)


def test_matrices_say_the_same_as_angles(tmp_path):
    wanted = read_particles(write_set(tmp_path)).exposures
    matrices = [np.c_[_exposure(tilt), [7.0, 8.0, 9.0]] for tilt in range(3)]
    rows = {
        f"rlnTomoProj{axis}": ["[" + ",".join(f"{v:.9g}" for v in m[i]) + "]" for m in matrices]
        for i, axis in enumerate("XYZ")
    }
    angles = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
    write_tomograms(tmp_path, without(TILTS, *angles, rlnTomoProjW=["[0,0,0,1]"] * 3, **rows))
    found = read_particles(tmp_path / "particles.star").exposures
    np.testing.assert_allclose(found.tilt, wanted.tilt, atol=1e-8)
    names = ("defocus_u_angstrom", "scale", "dose_per_angstrom2")
    for ours, theirs in ((getattr(found.ctf, n), getattr(wanted.ctf, n)) for n in names):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7)


def test_stacks_have_the_visible_tilts_or_all(tmp_path):
    write_set(tmp_path)
    write_particles(
        tmp_path, without(COLUMNS, rlnTomoVisibleFrames=["[1,1,1]", "[0,1,1]", "[1,1,1]"])
    )
    visible = read_particles(tmp_path / "particles.star").exposures
    assert visible.frame[3:5].tolist() == [0, 1]
    write_particles(
        tmp_path,
        without(COLUMNS, rlnTomoVisibleFrames=["[1,1,1]", "[0,1,1]", "[1,1,1]"]),
        depth=(3, 3, 3),
    )
    whole = read_particles(tmp_path / "particles.star").exposures
    assert whole.frame[3:5].tolist() == [1, 2]
    np.testing.assert_array_equal(visible.tilt, whole.tilt)


def test_an_exposure_of_scale_zero_is_left_out(tmp_path):
    write_set(tmp_path)
    write_tomograms(tmp_path, without(TILTS, rlnCtfScalefactor=[0.77, 0.0, 0.82]))
    images = read_particles(tmp_path / "particles.star").exposures
    assert images.particle.tolist() == [0, 0, 1, 2, 2] and images.frame.tolist() == [0, 2, 0, 0, 2]


def test_a_missing_scale_is_the_cosine_of_the_tilt(tmp_path):
    write_set(tmp_path)
    write_tomograms(tmp_path, without(TILTS, "rlnCtfScalefactor"))
    scale = read_particles(tmp_path / "particles.star").exposures.ctf.scale
    np.testing.assert_allclose(scale, [_exposure(tilt)[2, 2] for _, tilt in SEEN])


def test_without_doses_nothing_is_guessed(tmp_path):
    write_set(tmp_path)
    write_tomograms(tmp_path, without(TILTS, "rlnMicrographPreExposure"))
    particles = read_particles(tmp_path / "particles.star")
    assert particles.exposures.ctf.dose_per_angstrom2 is None
    assert sum("no exposures" in told for told in particles.remarks()) == 1


def test_a_b_factor_by_dose_takes_the_place_of_the_critical_exposure(tmp_path):
    write_set(tmp_path)
    write_tomograms(tmp_path, without(TILTS, "rlnTomoXTilt"), rlnCtfBfactorPerElectronDose=[4, 0])
    ctf = read_particles(tmp_path / "particles.star").exposures.ctf
    dose = np.array([files.DOSE[tilt] for _, tilt in SEEN])
    first = np.array([files.OF[particle] == 0 for particle, _ in SEEN])
    assert ctf.bfactor_angstrom2.tolist() == (4 * dose * first).tolist()
    assert ctf.dose_per_angstrom2.tolist() == (dose * ~first).tolist()


def test_angles_of_subtomograms_turn_the_particle(tmp_path):
    write_set(tmp_path)
    box = {"Rot": 20.0, "Tilt": 50.0, "Psi": -70.0}
    named = {f"rlnTomoSubtomogram{name}": [angle] * 3 for name, angle in box.items()}
    write_particles(tmp_path, {**COLUMNS, **named})
    particles = read_particles(tmp_path / "particles.star")
    turn = _turn(2, 20.0) @ _turn(1, 50.0) @ _turn(2, -70.0)
    for number in range(3):
        wanted = _particle(number) @ turn
        np.testing.assert_allclose(particles.poses.rotation[number], wanted, atol=1e-12)
        # the shift is along the subtomogram's axes
        shift = turn.T @ files.ORIGIN[number]
        np.testing.assert_allclose(particles.poses.shift_angstrom[number], shift, atol=1e-12)
    _same(_written(tmp_path, particles), particles)


def _written(folder: Path, particles: ParticleSet, **extra) -> ParticleSet:
    path = folder / "elsewhere" / "again.star"
    path.parent.mkdir(exist_ok=True)
    write_star(path, particles, extra)
    return read_particles(path)


def _same(found: ParticleSet, wanted: ParticleSet) -> None:
    ours, theirs = found.image_poses, wanted.image_poses
    np.testing.assert_allclose(ours.rotation, theirs.rotation, atol=1e-6)
    np.testing.assert_allclose(ours.shift_angstrom, theirs.shift_angstrom, atol=1e-5)
    np.testing.assert_array_equal(found.exposures.frame, wanted.exposures.frame)
    np.testing.assert_allclose(
        found.exposures.ctf.defocus_u_angstrom, wanted.exposures.ctf.defocus_u_angstrom
    )
    np.testing.assert_array_equal(found.uid, wanted.uid)


def test_what_is_written_reads_as_the_same_particles_from_anywhere(tmp_path):
    whole = read_particles(write_set(tmp_path))
    for chosen in (whole, whole.select(np.array([2, 1]))):
        found = _written(tmp_path, chosen, solvarZ1=np.arange(len(chosen)) + 0.5)
        _same(found, chosen)
        table = starfile.read(tmp_path / "elsewhere" / "again.star")
        assert table["particles"]["solvarZ1"].tolist() == (np.arange(len(chosen)) + 0.5).tolist()
        assert table["particles"]["userColumn"].tolist() == [row + 0.5 for row in chosen.row]
        assert table["general"]["rlnTomoSubTomosAre2DStacks"].tolist() == [1]
        np.testing.assert_array_equal(
            ImageStack(found).read(range(len(found.exposures))),
            ImageStack(chosen).read(range(len(chosen.exposures))),
        )


def test_tomograms_may_be_named(tmp_path):
    write_particles(tmp_path)
    with pytest.raises(
        InputError, match=r"nothing beside it says how these were tilted.*--tomograms"
    ):
        read_particles(tmp_path / "particles.star")
    other = write_tomograms(tmp_path / "other", name="t.star")
    particles = read_particles(tmp_path / "particles.star", tomograms=other)
    assert len(particles.exposures) == 8 and other in particles.reading.files


BROKEN = {
    "unknown tomogram": (
        {"rlnTomoName": ["TS_01", "TS_03", "TS_01"]},
        {},
        {},
        "no tomogram 'TS_03', which the particles name",
    ),
    "visible frames": (
        {"rlnTomoVisibleFrames": ["[1,1,1]", "[1,1]", "[1,1,1]"]},
        {},
        {},
        r"row 2, column rlnTomoVisibleFrames: '\[1,1\]' does not say which of the 3 tilts",
    ),
    "nothing visible": (
        {"rlnTomoVisibleFrames": ["[1,1,1]", "[1,1,0]", "[0,0,0]"]},
        {},
        {},
        "row 3, column rlnTomoVisibleFrames: no tilt is visible",
    ),
    "images": (
        {"rlnTomoVisibleFrames": ["[1,1,1]", "[1,0,0]", "[1,1,1]"]},
        {},
        {},
        "row 2, column rlnImageName: its stack has 2 images, .* 3 exposures, 1 of them visible",
    ),
    "frame and stack": (
        {"rlnImageName": ["2@stacks/a.mrcs", "stacks/b.mrcs", "stacks/c.mrcs"]},
        {},
        {},
        "row 1, column rlnImageName: names one image of a stack",
    ),
    "hand": ({}, {}, {"rlnTomoHand": [1.0, 0.0]}, "row 2, column rlnTomoHand: is 0, neither"),
    "no angles": ({}, {"rlnTomoYTilt": None}, {}, "TS_01.star, column rlnTomoYTilt: is missing"),
    "no defocus angle": ({}, {"rlnDefocusAngle": None}, {}, "rlnDefocusAngle: is missing"),
    "dose below 0": (
        {},
        {"rlnMicrographPreExposure": [6.0, 0.0, -3.0]},
        {},
        "TS_01.star, row 3, column rlnMicrographPreExposure: is below 0",
    ),
    "no rotation": (
        {},
        {f"rlnTomoProj{axis}": ["[1,0,0,0]"] * 3 for axis in "XYZ"},
        {},
        "TS_01.star, row 1, column rlnTomoProjX: the projection matrix is no rotation",
    ),
    "no matrix": (
        {},
        {f"rlnTomoProj{axis}": ["[1,0,0"] * 3 for axis in "XYZ"},
        {},
        r"column rlnTomoProjX: '\[1,0,0' is no row of four numbers",
    ),
    "subtomograms": ({"rlnCtfImage": ["a.mrc"] * 3}, {}, {}, "rlnCtfImage: the images are subtom"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_is_explained(tmp_path, case):
    rows, tilts, tomograms, message = BROKEN[case]
    write_particles(tmp_path, {**COLUMNS, **rows})
    dropped = [name for name, values in tilts.items() if values is None]
    added = {name: values for name, values in tilts.items() if values is not None}
    write_tomograms(tmp_path, without(TILTS, *dropped, **added), **tomograms)
    with pytest.raises(InputError, match=message):
        read_particles(tmp_path / "particles.star")


def test_options_that_know_nothing_of_tilts_are_refused(tmp_path):
    path = write_set(tmp_path)
    other = tmp_path / "tomograms.star"
    for option in ({"poses": other}, {"ctf": other}, {"ignore_poses": True}):
        with pytest.raises(InputError, match="particles of tomograms"):
            read_particles(path, **option)


@pytest.fixture
def warp(shared_data):
    folder = shared_data / "tomo" / "warp"
    if not folder.is_dir():
        pytest.skip(f"tilt series of WarpTools are not at {folder}")
    return folder


def test_every_field_of_warptools_is_as_another_parser_has_it(warp):
    """Row by row, with nothing of the program's own."""
    particles = read_particles(warp / f"{WARP}_optimisation_set.star")
    tables, tomograms = (starfile.read(warp / f"{WARP}{end}.star") for end in ("", "_tomograms"))
    rows, overall = tables["particles"], tomograms["global"].set_index("rlnTomoName")
    images, poses, place = particles.exposures, particles.image_poses, 0
    assert len(particles) == len(rows) == 40
    assert particles.optics.premultiplied.all() and (particles.optics.box_size == 32).all()
    assert (particles.optics.pixel_size_angstrom == 12).all()
    for number, row in rows.iterrows():
        tomogram, tilts = overall.loc[row.rlnTomoName], tomograms[row.rlnTomoName]
        # in binned pixels, whatever RELION's column is said to hold
        pixel = (
            row[["rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ"]].to_numpy(float) * 7.19856
        )
        size = tomogram[["rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ"]].to_numpy(float)
        position = (pixel - size // 2) * tomogram.rlnTomoTiltSeriesPixelSize
        angles = row[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy(float)
        own = Rotation.from_euler("ZYZ", angles, degrees=True).as_matrix()
        for frame, shown in enumerate(ast.literal_eval(row.rlnTomoVisibleFrames)):
            if not shown:
                continue
            tilt = tilts.iloc[frame]
            seen = np.array([ast.literal_eval(tilt[f"rlnTomoProj{a}"])[:3] for a in "XYZ"])
            assert images.particle[place] == number and images.frame[place] == frame
            assert (
                particles.optics.name[images.optics_group[place]]
                == f"opticsGroup{row.rlnOpticsGroup}"
            )
            np.testing.assert_allclose(poses.rotation[place], own @ seen.T, atol=2e-6)
            assert not poses.shift_angstrom[place].any()
            higher = tomogram.rlnTomoHand * (seen @ position)[2]
            ctf = images.ctf.take(np.array([place]))
            np.testing.assert_allclose(ctf.defocus_u_angstrom, tilt.rlnDefocusU + higher, atol=0.02)
            np.testing.assert_allclose(ctf.defocus_v_angstrom, tilt.rlnDefocusV + higher, atol=0.02)
            np.testing.assert_allclose(np.rad2deg(ctf.defocus_angle_radian), tilt.rlnDefocusAngle)
            assert ctf.scale[0] == tilt.rlnCtfScalefactor
            assert ctf.dose_per_angstrom2[0] == tilt.rlnMicrographPreExposure
            assert not ctf.bfactor_angstrom2[0] and not ctf.phase_shift_radian[0]
            place += 1
    assert place == len(images)
    stack = ImageStack(particles)
    for number in (0, 17, 39):
        with mrcfile.open(warp / rows.rlnImageName[number], permissive=True) as file:
            theirs = file.data[images.frame[images.particle == number]].astype(np.float32)
        ours = stack.read(np.flatnonzero(images.particle == number))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_mean_of_warptools_images_is_the_volume_that_it_made(warp):
    """Of other particles beside these, and of the other hand than RELION's geometry gives."""
    from solvar.fitting.fit import fit
    from solvar.fitting.settings import FitSettings
    from solvar.volume_file import read_volume

    found = fit(read_particles(warp / f"{WARP}_optimisation_set.star"), FitSettings(rank=1))
    volume, _ = read_volume(warp / "warptools_test_box-32_angpix-12_reconstruct.mrc")
    mirrored = np.roll(volume[::-1], 1, axis=0)
    assert not found.inverted
    mean, mask = found.model.mean, found.model.mask
    fsc = fourier_shell_correlation(mean, mirrored * mask, 9)[1:]
    assert (fsc[:5] > 0.85).all() and (fsc > 0.7).all(), fsc
    other = fourier_shell_correlation(mean, volume * mask, 9)[1:]
    assert other[3:].max() < 0.4


def test_what_holds_no_images_is_told_what_to_pass(tmp_path):
    write_set(tmp_path)
    for name in ("tomograms.star", "tilts/TS_01.star"):
        with pytest.raises(InputError, match=r"column rlnImageName: is missing \(data_"):
            read_particles(tmp_path / name)
    with pytest.raises(
        InputError, match=r"data_global in the file.; pass particles that were extr"
    ):
        read_particles(tmp_path / "tomograms.star")


def test_limits_are_by_dose_and_leave_particles_without_images_out(tmp_path):
    path = write_set(tmp_path)
    whole = read_particles(path).exposures
    for limit, doses in (({"tilts": 2}, {0.0, 3.0}), ({"dose": 3.5}, {0.0, 3.0})):
        images = read_particles(path, **limit).exposures
        kept = np.isin(whole.ctf.dose_per_angstrom2, list(doses))
        assert images.particle.tolist() == whole.particle[kept].tolist()
        assert images.frame.tolist() == whole.frame[kept].tolist()
    # the second one is seen in the most exposed tilt alone
    write_particles(
        tmp_path,
        without(COLUMNS, rlnTomoVisibleFrames=["[1,1,1]", "[1,0,0]", "[1,1,1]"]),
        depth=(3, 1, 3),
    )
    found = read_particles(path, tilts=1)
    assert found.row.tolist() == [0, 2] and found.exposures.frame.tolist() == [1, 1]
    assert "were left out: 1." in found.remarks()[0]
    with pytest.raises(InputError, match=r"--dose 0\.5 leaves no image"):
        read_particles(path, ind=[1], dose=0.5)


def test_pseudo_subtomograms_are_refused(tmp_path):
    head = files.HEAD.replace("Are2DStacks 1", "Are2DStacks 0")
    write_particles(tmp_path, head=head), write_tomograms(tmp_path)
    with pytest.raises(InputError, match=r"pseudo-subtomograms \(three-dim.*extract .* 2D stacks"):
        read_particles(tmp_path / "particles.star")
