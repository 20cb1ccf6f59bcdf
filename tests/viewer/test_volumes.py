"""Surfaces, contours and paths of the molecule."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from solvar.errors import InputError
from solvar.volume_file import read_volume, write_volume

pytest.importorskip("dash", reason="solvar[view] is not installed")
pytest.importorskip("skimage", reason="solvar[view] is not installed")

from solvar.report.movie import FRAMES
from solvar.viewer import figures, saving, viewing
from solvar.viewer.data import ViewerData
from solvar.viewer.meshes import BOX_SIZE, DisplayVolume, isosurface, open_volume, packed
from solvar.viewer.viewing import Contour

BOX, VOXEL, RADIUS = 32, 2.0, 10.0


def ball(centre=(0.0, 0.0, 0.0)):
    """A ball at (x, y, z) Å whose grey value falls linearly, 0 at its surface."""
    z, y, x = (np.indices((BOX,) * 3) - BOX // 2) * VOXEL
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    return DisplayVolume((RADIUS - distance).astype(np.float32), VOXEL)


def test_surface_of_a_ball_is_where_it_should_be_and_faces_outwards():
    centre = (6.0, -4.0, 2.0)
    surface = isosurface(ball(centre), 0.0)
    distance = np.linalg.norm(surface.corners - np.array(centre), axis=1)
    np.testing.assert_allclose(distance, RADIUS, atol=0.15)
    a, b, c = surface.corners[surface.faces].transpose(1, 0, 2)
    volume = float((np.cross(a, b) * c).sum() / 6)
    assert volume == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.03)


@pytest.mark.parametrize("level", [1e6, -1e6, np.nan])
def test_contour_that_the_volume_does_not_reach_is_empty(level):
    surface = isosurface(ball(), level)
    assert len(surface.faces) == 0 and surface.packed()["x"]["bdata"] == ""


def test_packed_array_reads_back():
    values = np.arange(6, dtype=np.float32)[::2]
    found = packed(values)
    content = np.frombuffer(base64.b64decode(found["bdata"]), "<f4")
    assert found["dtype"] == "f4"
    np.testing.assert_array_equal(content, values)


def test_model_is_the_mean_plus_eigenvolumes(run):
    data = ViewerData(run)
    point = np.array([1.5, -0.5, 0.25])
    z = point * np.sqrt(run.model.eigenvalues)
    expected = run.model.mean + np.tensordot(z, run.model.eigenvolumes, 1)
    np.testing.assert_allclose(data.model.volume(point).data, expected, atol=1e-5)
    inside = data.model.masked(data.model.volume(point)).data
    np.testing.assert_allclose(inside, expected * run.model.mask, atol=1e-5)


def test_large_volume_is_drawn_small_with_its_grey_values(tmp_path):
    z, y, x = np.indices((96,) * 3) - 48
    blob = np.exp(-0.5 * (x**2 + y**2 + z**2) / 8**2)
    write_volume(tmp_path / "big.mrc", 3 * blob, 1.5)
    small, voxel = open_volume(tmp_path / "big.mrc", tmp_path)
    assert small.shape == (BOX_SIZE,) * 3 and voxel == pytest.approx(1.5 * 96 / BOX_SIZE)
    assert small.max() == pytest.approx(3, rel=1e-3)
    assert small[32, 32, 36] == pytest.approx(3 * np.exp(-0.5 * 6**2 / 8**2), rel=1e-3)


def test_second_contour_is_larger_and_the_mask_cuts(run):
    data = ViewerData(run)
    point = [0.5, 0.0, 0.0]
    inner, outer = viewing.model_at(data, point, Contour(data.model.level, 0.5, masked=True))
    assert np.abs(outer.corners).max() > np.abs(inner.corners).max()
    drawn = figures.molecule([inner, outer], data.model.radius, dark=True)
    assert [t["opacity"] < 1 for t in drawn["data"]] == [False, True]
    alone = figures.molecule([inner], data.model.radius, dark=False)
    assert alone["data"][1]["x"]["bdata"] == ""


def test_path_is_walked_at_equal_steps(run):
    data = ViewerData(run)
    made = viewing.frames(data, [[0, 0, 0], [1, 0, 0], [1, 2, 0]], 7, Contour(data.model.level))
    steps = np.linalg.norm(np.diff(made["points"], axis=0), axis=1)
    np.testing.assert_allclose(steps, 0.5, atol=1e-9)
    assert len(made["surfaces"]) == 7
    assert made["surfaces"][0] != made["surfaces"][6]


@pytest.mark.parametrize("path", [[], [[0, 0, 0]], [[1, 0, 0], [1, 0, 0]]])
def test_path_without_length_is_refused(path):
    with pytest.raises(InputError, match="two different places"):
        viewing.along(path, 5)


def test_reconstruction_that_is_not_listed_is_refused(run):
    with pytest.raises(InputError, match="no longer"):
        viewing.reconstruction(ViewerData(run), "../../etc/passwd", Contour(1.0))


def test_what_changes_is_told_at_the_surface(run):
    data = ViewerData(run)
    point = [0.0, 0.0, 0.0]
    plain, told = (
        viewing.model_at(data, point, Contour(data.model.level, changes=on))[0]
        for on in (False, True)
    )
    assert plain.change is None and "intensity" not in plain.packed()
    assert told.change.shape == (len(told.corners),) and told.change.max() > told.change.min() >= 0
    mesh = figures.molecule([told], data.model.radius, dark=False)["data"][0]
    assert mesh["intensity"]["bdata"] and mesh["colorscale"][0][1] == mesh["color"]


def test_map_that_is_shown_is_kept_as_it_is(run, tmp_path):
    data = ViewerData(run)
    point = np.array([1.5, -0.5, 0.25])
    saved = saving.model_map(data, point.tolist())
    (tmp_path / saved.name).write_bytes(saved.content)
    volume, pixel_size = read_volume(tmp_path / saved.name)
    np.testing.assert_allclose(volume, run.volume_at(point * data.spread), atol=1e-6)
    assert pixel_size == pytest.approx(run.pixel_size_angstrom)
    with pytest.raises(InputError, match="no longer"):
        saving.map_of(data, "../../etc/passwd")


def test_movie_of_a_path_is_a_gif(run):
    data = ViewerData(run)
    saved = saving.movie(data, [[-1, 0, 0], [1, 0, 0]])
    with Image.open(io.BytesIO(saved.content)) as movie:
        assert movie.format == "GIF" and movie.n_frames == 2 * (FRAMES - 1)
    with pytest.raises(InputError, match="two different places"):
        saving.movie(data, [])
