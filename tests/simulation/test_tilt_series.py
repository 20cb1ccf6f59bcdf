"""Simulated tilt series: against sums over atoms, the single-particle images, and what readers find."""

from dataclasses import replace

import mrcfile
import numpy as np
import pytest
import starfile
from pydantic import ValidationError

from solvar.errors import InputError
from solvar.evaluation.truth import Truth
from solvar.particles import Poses, read_particles
from solvar.simulation import SimulationSettings, simulate

BOX, PIXEL, SIGMA = 32, 4.0, 2.5
CHARGE = 6  # of carbon


def small(**changes):
    settings = {"particles": 24, "box_size": BOX, "pixel_size": PIXEL, "tilts": 7, "seed": 3}
    return SimulationSettings(**{**settings, **changes})


def every_image(particles):
    return np.arange(particles.image_count)


@pytest.fixture(scope="module")
def atom_file(tmp_path_factory):
    """A few hundred atoms, centred, as they stand in the file."""
    atoms = np.random.default_rng(8).normal(0, 12, (300, 3))
    atoms = (atoms - atoms.mean(axis=0)).round(3)
    # which the program would do for the third digit
    atoms[-1] -= atoms.sum(axis=0)
    lines = [
        f"ATOM  {i + 1:5d}  CA  ALA A{i + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C"
        for i, (x, y, z) in enumerate(atoms)
    ]
    path = tmp_path_factory.mktemp("atoms") / "cloud.pdb"
    path.write_text("\n".join([*lines, "END"]) + "\n")
    return path, atoms


def about(axis, degree):
    """4 × 4 matrix of a right-handed rotation about x, y or z."""
    c, s = np.cos(np.deg2rad(degree)), np.sin(np.deg2rad(degree))
    matrix, (i, j) = np.eye(4), {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def moved(*by):
    matrix = np.eye(4)
    matrix[: len(by), 3] = by
    return matrix


def projection(tomogram, tilt):
    """RELION 5's: voxels of a tomogram to pixels of an exposure."""
    edges = np.array([tomogram[f"rlnTomoSize{axis}"] for axis in "XYZ"])
    pixel = tomogram["rlnTomoTiltSeriesPixelSize"]
    turn = about("z", tilt["rlnTomoZRot"]) @ about("y", tilt["rlnTomoYTilt"])
    turn = turn @ about("x", tilt["rlnTomoXTilt"])
    shift = moved(tilt["rlnTomoXShiftAngst"] / pixel, tilt["rlnTomoYShiftAngst"] / pixel)
    return moved(*edges[:2] / 2) @ shift @ turn @ moved(*-edges / 2)


def transfer(sx, sy, defocus, optics, tilt):
    """CTF, damping and scale at frequencies in 1/Å."""
    volt = 1e3 * optics["rlnVoltage"]
    wavelength = 12.2643247 / np.sqrt(volt * (1 + volt * 0.978466e-6))
    s = np.hypot(sx, sy)
    u, v = defocus
    angle = np.arctan2(sy, sx) - np.deg2rad(tilt["rlnDefocusAngle"])
    along = u * np.cos(angle) ** 2 + v * np.sin(angle) ** 2
    aberration = optics["rlnSphericalAberration"] * 1e7
    chi = np.pi * wavelength * along * s**2 - np.pi / 2 * aberration * wavelength**3 * s**4
    w = optics["rlnAmplitudeContrast"]
    wave = np.sqrt(1 - w**2) * np.sin(chi) + w * np.cos(chi)
    # Grant & Grigorieff 2015: at 200 kV, electrons do a quarter more
    with np.errstate(divide="ignore"):
        critical = (0.245 * s**-1.665 + 2.81) * (0.8 if volt < 250e3 else 1.0)
    return (
        tilt["rlnCtfScalefactor"]
        * wave
        * np.exp(-tilt["rlnMicrographPreExposure"] / (2 * critical))
    )


def drawn(atoms, row, tomogram, tilt, optics, strength):
    """An image of a particle as its star files say, by direct summation over atoms."""
    matrix, pixel = projection(tomogram, tilt), tomogram["rlnTomoTiltSeriesPixelSize"]
    edges = np.array([tomogram[f"rlnTomoSize{axis}"] for axis in "XYZ"])
    coordinate = np.array([row[f"rlnCenteredCoordinate{axis}Angst"] for axis in "XYZ"])
    origin = np.array([row[f"rlnOrigin{axis}Angst"] for axis in "XYZ"])
    euler = (row["rlnAngleRot"], row["rlnAngleTilt"], row["rlnAnglePsi"])
    angles = zip("zyz", euler, strict=True)
    first, second, third = (about(axis, degree) for axis, degree in angles)
    volume_of = (first @ second @ third)[:3, :3]
    # the particle's own frame is turned into the tomogram's by the transpose
    specimen = (coordinate - origin + atoms @ volume_of) / pixel + edges / 2
    cut, centre, at = (
        matrix @ np.append(point, 1)
        for point in (coordinate / pixel + edges / 2, edges / 2, specimen.mean(axis=0))
    )
    seen = (np.column_stack([specimen, np.ones(len(atoms))]) @ matrix.T)[:, :2] - cut[:2]
    depth = tomogram["rlnTomoHand"] * (at[2] - centre[2]) * pixel
    ky, kx = np.mgrid[-BOX // 2 : BOX // 2, -BOX // 2 : BOX // 2]
    inside = kx**2 + ky**2 < (BOX / 2) ** 2
    kx, ky = kx[inside], ky[inside]
    waves = np.exp(-2j * np.pi * (np.outer(kx, seen[:, 0]) + np.outer(ky, seen[:, 1])) / BOX)
    sx, sy = kx / (BOX * pixel), ky / (BOX * pixel)
    form = np.exp(-2 * np.pi**2 * SIGMA**2 * (sx**2 + sy**2))
    defocus = tilt["rlnDefocusU"] + depth, tilt["rlnDefocusV"] + depth
    transform = np.zeros((BOX, BOX), complex)
    transform[inside] = strength * CHARGE * waves.sum(axis=1) * form
    transform[inside] *= transfer(sx, sy, defocus, optics, tilt)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(transform))).real


@pytest.mark.parametrize("hand", [1, -1])
def test_images_are_sums_over_atoms_as_the_star_files_of_relion_5_say(atom_file, hand, tmp_path):
    path, atoms = atom_file
    particles = simulate(
        small(
            atoms=path,
            heterogeneity="rigid",
            blob_sigma=SIGMA,
            hand=hand,
            optics_groups=2,
            shift_sd=1.5,
        )
    )
    folder = particles.write(tmp_path).parent
    rows = starfile.read(folder / "particles.star")
    tomograms = starfile.read(folder / "tomograms.star").set_index("rlnTomoName", drop=False)
    optics = rows["optics"].set_index("rlnOpticsGroup")
    truth = np.load(folder / "gt.npz")
    strength = float(truth["alpha"]) * truth["contrast"]
    expected = []
    for number, row in rows["particles"].iterrows():
        tomogram = tomograms.loc[row["rlnTomoName"]]
        tilts = starfile.read(folder / tomogram["rlnTomoTiltSeriesStarFile"])
        shown = [flag == "1" for flag in row["rlnTomoVisibleFrames"].strip("[]").split(",")]
        group = optics.loc[row["rlnOpticsGroup"]]
        for _, tilt in tilts[shown].iterrows():
            expected.append(drawn(atoms, row, tomogram, tilt, group, strength[number]))
    found = particles.clean_images(every_image(particles))
    assert found.shape == np.shape(expected) and len(found) > 6 * len(particles)
    error = np.linalg.norm(found - expected, axis=(1, 2)) / np.linalg.norm(expected, axis=(1, 2))
    assert error.max() < 1e-4, error.max()


def test_defocus_shifts_and_hand_are_large_enough_to_be_seen(atom_file):
    """Without any of them the images would be others, by far more than they may be off."""
    path, _ = atom_file
    particles = simulate(small(atoms=path, heterogeneity="rigid", blob_sigma=SIGMA))
    index, series = every_image(particles), particles.series
    images = particles.clean_images(index)
    tilted = series.tilt != 3
    other = replace(series, hand=-1).ctf_of_images(particles.poses.shift_angstrom)
    flat = Poses(particles.poses.rotation, particles.poses.shift_angstrom * [1, 1, 0])
    for changed in (replace(particles, ctf=other), replace(particles, poses=flat)):
        error = np.linalg.norm(changed.clean_images(index) - images, axis=(1, 2))
        assert np.median(error[tilted] / np.linalg.norm(images[tilted], axis=(1, 2))) > 0.03


def test_one_untilted_unexposed_image_is_that_of_a_single_particle():
    particles = simulate(small(tilts=1, dose_per_tilt=0.0, heterogeneity="discrete"))
    series = particles.series
    flat = replace(
        series,
        angle_degree=np.zeros_like(series.angle_degree),
        coordinate_angstrom=series.coordinate_angstrom * [1, 1, 0],
    )
    shift = particles.poses.shift_angstrom * [1, 1, 0]
    poses = Poses(particles.poses.rotation, shift)
    tilts = replace(particles, series=flat, poses=poses, ctf=flat.ctf_of_images(shift))
    ctf = replace(series.ctf.take(series.specimen), scale=None, dose_per_angstrom2=None)
    alone = replace(particles, series=None, poses=Poses(poses.rotation, shift[:, :2]), ctf=ctf)
    index = np.arange(len(particles))
    np.testing.assert_allclose(tilts.images(index), alone.images(index), atol=1e-6)


def test_doses_go_from_the_untilted_image_outwards_side_by_side():
    series = simulate(small(tilts=5, dose_per_tilt=2.0, tilt_range=40.0)).series
    np.testing.assert_allclose(series.angle_degree[0, :, 1], [-40, -20, 0, 20, 40])
    np.testing.assert_allclose(series.dose_per_angstrom2[0], [8, 4, 0, 2, 6])
    scale = series.ctf.scale[:5]
    np.testing.assert_allclose(scale, np.cos(np.deg2rad([40, 20, 0, 20, 40])))


def test_snr_is_that_of_the_least_exposed_images_and_later_ones_are_weaker():
    particles = simulate(small(particles=300, snr=0.2))
    index = every_image(particles)
    clean = particles.clean_images(index)
    noise = particles.images(index) - clean
    first = particles.least_exposed(np.arange(300))
    assert (particles.ctf.dose_per_angstrom2[first] == 0).all()
    assert clean[first].var() == pytest.approx(0.2, rel=1e-3)
    of_tilt = [clean[particles.series.tilt == tilt].var() for tilt in range(7)]
    assert of_tilt[0] < 0.5 * of_tilt[1] < of_tilt[2] < of_tilt[3]
    for tilt in range(7):
        assert noise[particles.series.tilt == tilt].var() == pytest.approx(1, rel=0.02)


def test_an_image_does_not_depend_on_its_company():
    particles = simulate(small())
    together = particles.images(every_image(particles))
    alone = particles.images(np.array([17, 3]))
    np.testing.assert_allclose(alone, together[[17, 3]], atol=2e-5)


def test_images_that_leave_the_exposure_are_not_visible():
    particles = simulate(small(particles=400, tilts=13))
    series = particles.series
    assert 1e-4 < 1 - series.visible.mean() < 0.1
    np.testing.assert_array_equal(
        series.particle[particles.least_exposed(np.arange(400))], np.arange(400)
    )
    half = 0.5 * (series.size_pixel[:2] - BOX) * PIXEL
    for number in range(3):
        geometry = series.geometry[series.specimen[number]]
        seen = geometry.rotation[:, :2] @ series.coordinate_angstrom[number]
        seen = seen + series.shift_angstrom[series.specimen[number]]
        np.testing.assert_array_equal((np.abs(seen) <= half).all(axis=1), series.visible[number])


@pytest.fixture(scope="module", params=["relion5", "warp1"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    particles = simulate(small(particles=60, tilt_format=request.param, optics_groups=2, hand=-1))
    return particles, particles.write(folder)


def test_the_reader_finds_the_images_that_were_written(written):
    particles, star = written
    found, index = read_particles(star), every_image(particles)
    exposures, series = found.exposures, particles.series
    np.testing.assert_array_equal(exposures.particle, series.particle)
    true = series.poses_of(index, particles.poses)
    rotation = found.poses.rotation[exposures.particle] @ exposures.tilt
    np.testing.assert_allclose(rotation, true.rotation, atol=2e-6)
    np.testing.assert_array_equal(found.halfset, particles.halfset)
    np.testing.assert_array_equal(exposures.optics_group, particles.optics_group[series.particle])
    for name in ("scale", "dose_per_angstrom2"):
        expected = getattr(particles.ctf, name)
        np.testing.assert_allclose(getattr(exposures.ctf, name), expected, atol=1e-5)
    defocus = exposures.ctf.defocus_u_angstrom
    np.testing.assert_allclose(defocus, particles.ctf.defocus_u_angstrom, atol=1e-3)
    for image in (0, 100, len(index) - 1):
        with mrcfile.open(found.stacks[exposures.stack_index[image]]) as stack:
            pixels = np.atleast_3d(stack.data)[exposures.frame[image]]
        np.testing.assert_allclose(pixels, particles.images(index[image : image + 1])[0], atol=2e-5)


def test_the_truth_is_in_the_frame_of_the_reader(written):
    particles, star = written
    found, truth = read_particles(star), np.load(star.parent / "gt.npz")
    rotation = np.swapaxes(truth["rotations"], 1, 2)
    np.testing.assert_allclose(found.poses.rotation, rotation, atol=2e-6)
    exposures, shift = found.exposures, -truth["shift_px"] * PIXEL
    assert shift.shape == (60, 3)
    seen = np.einsum("mji,mj->mi", exposures.tilt, shift[exposures.particle])[:, :2]
    true = particles.series.poses_of(every_image(particles), particles.poses)
    np.testing.assert_allclose(seen, true.shift_angstrom[:, :2], atol=1e-4)


def test_one_tilt_of_a_row_each_is_read_as_a_single_particle(tmp_path):
    particles = simulate(small(tilts=1, tilt_format="warp1", dose_per_tilt=0.0))
    found, true = read_particles(particles.write(tmp_path)), particles.poses_as_read
    assert found.exposures.are_single and found.exposures.ctf.scale is None
    np.testing.assert_allclose(found.poses.rotation, true.rotation, atol=2e-6)
    np.testing.assert_allclose(found.poses.shift_angstrom, true.shift_angstrom[:, :2], atol=1e-5)


def test_shifts_are_the_true_ones_with_what_images_have_of_their_own(written):
    particles, star = written
    found, true = read_particles(star), particles.poses_as_read
    if particles.settings.tilt_format == "relion5":
        assert found.exposures.shift_angstrom is None
        np.testing.assert_allclose(found.poses.shift_angstrom, true.shift_angstrom, atol=1e-5)
        return
    whole = found.poses.shift_angstrom + found.exposures.common_moves()
    np.testing.assert_allclose(whole, true.shift_angstrom, atol=1e-5)


def test_truth_is_compared_along_the_axes_that_are_known(written):
    truth = Truth.load(written[1].parent)
    assert truth.along(3) is truth
    flat = truth.along(2)
    np.testing.assert_array_equal(flat.shift_angstrom, truth.shift_angstrom[:, :2])
    with pytest.raises(InputError, match="those of the run were tilted"):
        flat.along(3)


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"hand": 0}, "--hand is 1 or -1"),
        ({"tilts": 0, "tilt_range": 50.0}, "--tilt-range is of tilt series"),
        ({"stacks": 2}, "leave out --stacks"),
        ({"tilt_range": 90.0}, "less than 90"),
    ],
)
def test_settings_of_tilts_that_do_not_go_together_are_refused(bad, word):
    with pytest.raises(ValidationError, match=word):
        small(**bad)
