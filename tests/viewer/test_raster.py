"""A picture of many points says what the points say."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
import pytest

pytest.importorskip("dash", reason="solvar[view] is not installed")

from solvar.report.interactive import raster, theme
from solvar.report.interactive.raster import Window
from solvar.viewer import figures, palette
from solvar.viewer.columns import Column
from solvar.viewer.data import ViewerData
from solvar.viewer.figures import Look


def test_points_are_counted_where_they_are():
    window = Window((0.0, 4.0), (0.0, 2.0), width=4, height=2)
    x = np.array([0.5, 0.6, 3.9999999, 4.0, -0.1, 2.5])
    y = np.array([1.5, 1.2, 0.0, 1.0, 1.0, np.nan])
    inside, pixel = window.place(x, y)
    assert inside.tolist() == [0, 1, 2]
    counts = raster.count(pixel, window).reshape(2, 4)
    assert counts.tolist() == [[2, 0, 0, 0], [0, 0, 0, 1]]  # the first row is the top


def test_count_of_a_picture_agrees_with_numpy():
    x, y = np.random.default_rng(0).normal(size=(2, 10_000))
    window = Window((-2.0, 2.0), (-1.0, 3.0), width=37, height=23)
    _, pixel = window.place(x, y)
    expected, _, _ = np.histogram2d(y, x, bins=(23, 37), range=((-1, 3), (-2, 2)))
    np.testing.assert_array_equal(raster.count(pixel, window).reshape(23, 37), expected[::-1])


def test_lone_particle_is_seen_beside_thousands():
    strength = raster.opacity(np.array([0.0, 1.0, 5000.0]))
    assert strength[0] == 0 and strength[1] > 0.3 and strength[2] == 1
    assert not raster.opacity(np.zeros(4)).any()


def test_colours_are_the_mean_of_the_points():
    window = Window((0.0, 2.0), (0.0, 1.0), width=2, height=1)
    pixel = np.array([0, 0, 1])
    rgba = raster.by_colour(
        pixel, np.array([[200, 0, 0], [0, 100, 0], [1, 2, 3]], np.uint8), window
    )
    assert rgba[0, :3].tolist() == [100, 50, 0] and rgba[1, :3].tolist() == [1, 2, 3]


def test_picture_on_picture():
    front = np.array([[10, 20, 30, 255], [0, 0, 0, 0]], np.uint8)
    back = np.array([[90, 90, 90, 255], [50, 60, 70, 128]], np.uint8)
    assert raster.over(front, back).tolist() == [[10, 20, 30, 255], [50, 60, 70, 128]]


def test_png_reads_back():
    from PIL import Image

    window = Window((0, 1), (0, 1), width=3, height=2)
    rgba = np.arange(24, dtype=np.uint8).reshape(6, 4)
    content = base64.b64decode(raster.png(rgba, window).split(",")[1])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))).reshape(6, 4), rgba)


def test_unknown_values_have_a_colour_and_labels_keep_theirs():
    numbers = Column("x", np.array([np.nan, 0, 1], np.float32))
    assert palette.colours(numbers, dark=False).shape == (3, 3)
    labels = Column("x", np.array([1, 0, 1], np.float32), ("a", "b"))
    shades = palette.colours(labels, dark=True)
    assert (shades[0] == shades[2]).all() and (shades[0] != shades[1]).any()


@pytest.mark.parametrize("colour", [None, "cluster", "contrast"])
@pytest.mark.parametrize("most", [100, 100_000])
def test_plane_of_few_and_of_many_particles(run, monkeypatch, most, colour):
    monkeypatch.setattr("solvar.viewer.data.MOST_POINTS", most)
    data = ViewerData(run)
    look = Look(("z1", "umap2"), colour, chosen=np.arange(20))
    figure = figures.latents(data, look, figures.marks(data, look, np.zeros(3), [[0.0] * 3] * 2))
    *_, first, second, point = figure["layout"]["shapes"]
    assert (point["xanchor"], point["yanchor"]) == data.place_of(np.zeros(3), look.axes)
    assert [a["text"] for a in figure["layout"]["annotations"]] == ["1", "2"]
    assert first["xanchor"] == second["xanchor"] == point["xanchor"]
    clouds = [t for t in figure["data"] if t["type"] == "scattergl"]
    assert bool(clouds) == (most > 500)
    assert ("images" in figure["layout"]) == (most < 500)


@pytest.mark.parametrize("labels", [None, ("<a href='http://x'>a", "&lt;b")])
@pytest.mark.parametrize("most", [100, 100_000])
def test_names_of_columns_and_labels_are_no_markup(run, monkeypatch, most, labels):
    monkeypatch.setattr("solvar.viewer.data.MOST_POINTS", most)
    data = ViewerData(run)
    column = Column("<b>rlnOdd</b>", (np.arange(len(data)) % 2).astype(np.float32), labels)
    monkeypatch.setattr(data, "column", lambda key: column)
    monkeypatch.setattr(data, "axes", {"z1": "<i>one", "z2": "two"})
    look = Look(("z1", "z2"), "star:rlnOdd")
    figure = figures.latents(data, look, {})
    told = str({**figure, "layout": {**figure["layout"], "template": None}})
    assert "<" not in told and "&lt;i&gt;one, σ" in told
    for name in labels or [column.title]:
        assert escape(name, quote=False) in told.replace("\\'", "'")


def test_selected_particles_stand_out_of_a_picture(run, monkeypatch):
    monkeypatch.setattr("solvar.viewer.data.MOST_POINTS", 100)
    data = ViewerData(run)
    window = Window((-3, 3), (-3, 3), 60, 60)
    inside, pixel = window.place(data.axis("z1"), data.axis("z2"))
    look = Look(("z1", "z2"), "cluster", chosen=inside[:1])
    rgba = figures._painted(data, look, inside, pixel, window)
    grey = np.array(theme.rgb(palette.marks(False).left_out))
    shown = rgba[:, 3] > 0
    coloured = shown & (np.abs(rgba[:, :3].astype(int) - grey).max(axis=1) > 8)
    assert coloured.sum() == 1 and coloured[pixel[0]]
