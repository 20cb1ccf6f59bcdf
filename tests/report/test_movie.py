"""Surfaces are where the density reaches the contour; movies hold what the halves support."""

import numpy as np
import pytest
from PIL import Image

from solvar.errors import InputError
from solvar.files import owned
from solvar.progress import SilentProgress
from solvar.report.movie import (
    FRAMES,
    best_camera,
    draw_movies,
    draw_path_movies,
    frames,
    movie_model,
    movie_name,
    resolved,
)
from solvar.report.movie_files import movie_formats, on_white, shown_once, write_movie
from solvar.report.surface import Camera, picture, silhouette
from synthetic import make_fit
from written import written

BOX, RADIUS = 48, 12.0


def ball(centre=(0, 0, 0)):
    axis = np.arange(BOX) - BOX // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2)
    return np.clip(RADIUS - distance + 0.5, 0, 1).astype(np.float32)


def camera(rotation=None, size=64):
    return Camera(np.eye(3) if rotation is None else rotation, BOX / 2, size)


def test_a_ball_is_seen_as_a_disc_with_its_nearest_point_in_the_middle():
    depth = silhouette(ball(), 0.5, camera())
    seen = depth < 1
    area = seen.mean() * BOX**2
    assert area == pytest.approx(np.pi * RADIUS**2, rel=0.05)
    assert depth[32, 32] * BOX == pytest.approx(BOX / 2 - RADIUS, abs=0.5)


@pytest.mark.parametrize(("axis", "row", "column"), [(0, 0, 1), (1, 1, 0)])
def test_right_is_x_and_down_is_y(axis, row, column):
    place = np.zeros(3)
    place[axis] = 8
    seen = silhouette(ball(place), 0.5, camera()) < 1
    middle = np.argwhere(seen).mean(axis=0) - 31.5
    assert middle @ [row, column] == pytest.approx(8 / BOX * 63, abs=1)
    assert abs(middle @ [column, row]) < 1


def test_light_comes_from_above_on_the_left_and_change_is_coloured():
    grey, red = np.full(3, 0.7), np.array([0.8, 0.2, 0.0])
    still = np.zeros((BOX,) * 3, np.float32)
    drawn = picture(ball(), still, 0.5, camera(), (grey, red))
    assert drawn.shape == (64, 64, 4) and drawn.dtype == np.uint8
    assert drawn[0, 0, 3] == 0 and drawn[32, 32, 3] == 255
    assert drawn[24, 26, :3].sum() > drawn[40, 38, :3].sum() + 50
    assert np.ptp(drawn[32, 32, :3].astype(int)) == 0
    moving = picture(ball(), still + 1, 0.5, camera(), (grey, red))
    assert moving[32, 32, 0] > 2 * moving[32, 32, 1]


def test_the_camera_looks_across_a_motion():
    away = best_camera(ball((-6, 0, 0)), ball((6, 0, 0)), 0.5).rotation[2]
    assert abs(away[0]) < 0.6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("movie")
    return written(folder / "run", make_fit(folder, rank=3, count=200, box=32))


def test_what_noise_shows_is_not_in_a_movie(run):
    noise = np.flatnonzero(~run.validation.reliable)
    assert len(noise)
    latents = np.zeros((2, run.rank))
    latents[1, noise] = 10
    model = movie_model(run)
    one, other = (model.volume_at(z) for z in latents)
    np.testing.assert_array_equal(one, other)


def test_movies_go_there_and_back(run, tmp_path):
    latents = np.zeros((4, run.rank))
    latents[:, 0] = np.linspace(-2, 2, 4) * np.sqrt(run.eigenvalues[0])
    pictures = frames(movie_model(run), latents)
    for suffix in (".webp", ".gif"):
        path = tmp_path / movie_name(1, suffix)
        write_movie(path, pictures)
        with Image.open(path) as movie:
            assert movie.format == suffix[1:].upper() and movie.n_frames == 6
            assert movie.size == pictures[0].shape[:2]
    assert set(resolved(run)) <= set(np.flatnonzero(run.validation.reliable) + 1)


@pytest.mark.skipif(".mp4" not in movie_formats(), reason="there is no ffmpeg")
def test_mp4_is_written_where_there_is_an_encoder_and_leaves_nothing_where_it_fails(tmp_path):
    pictures = [np.full((33, 33, 4), shade, np.uint8) for shade in (0, 100, 255)]
    write_movie(tmp_path / "movie.mp4", pictures)
    assert b"ftyp" in (tmp_path / "movie.mp4").read_bytes()[:16]
    with pytest.raises(OSError, match="ffmpeg"):
        write_movie(tmp_path / "none.mp4", [np.zeros((0, 0, 4), np.uint8)] * 3)
    assert not (tmp_path / "none.mp4").exists()


def test_what_is_transparent_is_white_where_a_format_has_no_transparency():
    picture = np.zeros((1, 3, 4), np.uint8)
    picture[0, :, 3] = 0, 255, 128
    assert on_white(picture)[0, :, 0].tolist() == [255, 0, 127]


def test_paths_have_movies_where_a_component_is_resolved(run, monkeypatch):
    points = np.zeros((5, run.rank))
    points[:, 0] = np.linspace(-1, 1, 5) * np.sqrt(run.eigenvalues[0])
    for components in ([], [1]):
        monkeypatch.setattr("solvar.report.movie.resolved", lambda run, found=components: found)
        with owned(run.folder, "test") as own:
            drawn = draw_path_movies(run, {"way": points}, own)
        assert [path.suffix for path in drawn] == (list(movie_formats()) if components else [])
    assert [path.name for path in shown_once(drawn)] == ["movie_way.gif"]
    with Image.open(drawn[0]) as movie:
        assert movie.n_frames == 2 * (FRAMES - 1)


def test_a_movie_that_cannot_be_drawn_is_told_and_no_harm(run, monkeypatch):
    def refused(self, component, count):
        raise InputError("the two ends fall on the same particle")

    monkeypatch.setattr("solvar.report.movie.resolved", lambda run: [1])
    monkeypatch.setattr("solvar.analysis.curves.Curves.along", refused)
    told = []

    class Listener(SilentProgress):
        def message(self, text):
            told.append(text)

    with owned(run.folder, "test") as own:
        assert draw_movies(run, own, Listener()) == []
    assert any("movie_component_01.webp was not drawn" in line for line in told)
