"""The same particles in three programs' files are the same particles here."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest

from solvar.particles import read_particles


@pytest.fixture(scope="module")
def adk(shared_data):
    folder = shared_data / "adk_64"
    return {
        "relion": read_particles(folder / "particles.star"),
        "cryosparc": read_particles(folder / "particles.cs"),
        "cryodrgn": read_particles(
            folder / "particles.mrcs", poses=folder / "poses.pkl", ctf=folder / "ctf.pkl"
        ),
    }


FORMATS = ("relion", "cryosparc", "cryodrgn")


@pytest.mark.parametrize("name", FORMATS)
def test_poses_equal_the_simulated_truth(adk, shared_data, name):
    truth = np.load(shared_data / "adk_64" / "gt.npz")
    poses = adk[name].poses
    np.testing.assert_allclose(poses.rotation.transpose(0, 2, 1), truth["rotations"], atol=1e-4)
    np.testing.assert_allclose(poses.shift_angstrom, -3.5 * truth["shift_px"], atol=1e-4)


@pytest.mark.parametrize("name", FORMATS[1:])
def test_ctf_and_optics_agree_with_relion(adk, name):
    relion, other = adk["relion"], adk[name]
    for field in relion.exposures.ctf.columns:
        expected, value = getattr(relion.exposures.ctf, field), getattr(other.exposures.ctf, field)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    assert other.optics.voltage_kv == relion.optics.voltage_kv == [300.0]
    assert other.optics.spherical_aberration_mm == relion.optics.spherical_aberration_mm == [2.7]
    assert other.optics.amplitude_contrast == relion.optics.amplitude_contrast == [0.1]
    assert other.pixel_size_angstrom == relion.pixel_size_angstrom == 3.5
    assert other.box_size == relion.box_size == 64


def test_half_sets_of_relion_and_cryosparc_agree(adk):
    np.testing.assert_array_equal(adk["relion"].halfset, adk["cryosparc"].halfset)
    assert set(adk["relion"].halfset) == {1, 2}


def test_relion_and_cryodrgn_name_the_same_images_alike(adk):
    np.testing.assert_array_equal(adk["relion"].uid, adk["cryodrgn"].uid)


def test_what_relion_itself_wrote_is_close_to_the_truth(adk, shared_data):
    refined = read_particles(shared_data / "adk_64" / "particles_relion.star")
    cosine = np.sum(refined.poses.rotation[:, :, 2] * adk["relion"].poses.rotation[:, :, 2], axis=1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() == pytest.approx(6.2, abs=1.0)


def _with_dummy_stacks(path, column, tmp_path):
    """A copy of foreign metadata whose missing stacks exist (empty: reading needs only names)."""
    for name in set(column):
        stack = tmp_path / name.lstrip(">")
        stack.parent.mkdir(parents=True, exist_ok=True)
        stack.touch()
    return {"path": path, "datadir": tmp_path}


def test_a_real_cryosparc_refinement_equals_the_pickles_made_from_it(shared_data, tmp_path):
    folder = shared_data / "formats"
    path = folder / "cryosparc_P12_J24_001_particles.cs"
    names = [p.decode() for p in np.load(path)["blob/path"]]
    arguments = _with_dummy_stacks(path, names, tmp_path)
    direct = read_particles(**arguments)
    pickled = read_particles(**arguments, poses=folder / "pose.cs.pkl")
    np.testing.assert_allclose(direct.poses.rotation, pickled.poses.rotation, atol=1e-4)
    np.testing.assert_allclose(direct.poses.shift_angstrom, pickled.poses.shift_angstrom, atol=1e-3)
    # ctf2.pkl needs the edge of the images, so its first stack must be an image
    with mrcfile.new(direct.stacks[0], overwrite=True) as file:
        file.set_data(np.zeros((1, 180, 180), np.int8))
    pickled = read_particles(**arguments, ctf=folder / "ctf2.pkl")
    for field in direct.exposures.ctf.columns:
        expected, value = (
            getattr(pickled.exposures.ctf, field),
            getattr(direct.exposures.ctf, field),
        )
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5)
    assert pickled.pixel_size_angstrom == pytest.approx(direct.pixel_size_angstrom, rel=1e-6)


def test_relion_projections_centre_where_their_origins_say(shared_data, tmp_path):
    """RELION's own projections: the centres of mass are projections of one point.

    The centre of mass c of the object is seen at (Rᵀc)_xy after re-centring by the shift; the other
    handedness, the transposed rotation or the opposite shift do not fit.
    """
    folder = shared_data / "formats"
    ctf = np.tile([65, 1.0, 0, 0, 0, 300, 2.7, 0.1, 90], (4, 1))
    (tmp_path / "ctf.pkl").write_bytes(ctf.dumps())
    particles = read_particles(folder / "rln_proj_65_shifted.star", ctf=tmp_path / "ctf.pkl")
    shift = np.rint(particles.poses.shift_angstrom).astype(int)
    np.testing.assert_array_equal(shift, [[6, 10], [10, -5], [-8, 11], [-13, -3]])
    with mrcfile.open(folder / "rln_proj_65_shifted.mrcs", permissive=True) as file:
        images = np.asarray(file.data, dtype=np.float64)

    def misfit(sign: int, rows: np.ndarray) -> float:
        moved = [np.roll(i, sign * s[::-1], (0, 1)) for i, s in zip(images, shift, strict=True)]
        n = np.arange(65) - 32
        centre = [[(m * n).sum() / m.sum(), (m * n[:, None]).sum() / m.sum()] for m in moved]
        return float(np.linalg.lstsq(rows.reshape(8, 3), np.ravel(centre), rcond=None)[1][0])

    rotation = particles.poses.rotation
    right = misfit(1, rotation.transpose(0, 2, 1)[:, :2])
    assert right < 8.0  # squared pixels over eight coordinates: 0.9 px rms
    assert misfit(1, rotation[:, :2]) > 5 * right
    assert misfit(-1, rotation.transpose(0, 2, 1)[:, :2]) > 100 * right
