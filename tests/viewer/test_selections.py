"""What is selected is exactly what was drawn, and what is kept is exactly what was selected."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from export.runs import assert_same_particles, run_on
from solvar.analysis.selection import points_in_polygon
from solvar.errors import InputError
from solvar.particles import read_particles

pytest.importorskip("dash", reason="solvar[view] is not installed")

from solvar.viewer import selections
from solvar.viewer.data import ViewerData
from solvar.viewer.selections import Selector
from synthetic import make_fit
from written import written

LASSO = {"kind": "lasso", "axes": ["z1", "z2"], "x": [-1, 1, 1.2, 0], "y": [-1, -0.8, 1, 0.1]}


@pytest.fixture
def data(run):
    return ViewerData(run)


@pytest.mark.parametrize("corners", [3, 4, 7, 300])
def test_polygon_agrees_with_matplotlib(corners):
    rng = np.random.default_rng(corners)
    points = rng.normal(size=(20_000, 2))
    outline = rng.normal(size=(corners, 2))  # it crosses itself
    if corners == 300:
        angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
        reach = 1 + 0.5 * np.sin(9 * angle)
        outline = np.stack([reach * np.cos(angle), reach * np.sin(angle)], axis=1)
    found = points_in_polygon(points, outline)
    if corners <= 4 or corners == 300:
        np.testing.assert_array_equal(found, Outline(outline).contains_points(points))
    crossings = np.zeros(len(points), int)
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        spans = (y1 > points[:, 1]) != (y2 > points[:, 1])
        crossings += spans & (points[:, 0] < x1 + (points[:, 1] - y1) * (x2 - x1) / (y2 - y1))
    np.testing.assert_array_equal(found, crossings % 2 == 1)


def test_points_on_a_grid_share_edges_without_gaps_or_overlaps():
    x, y = np.meshgrid(np.arange(5.0), np.arange(5.0))
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    left = points_in_polygon(points, [(0, 0), (2, 0), (2, 4), (0, 4)])
    right = points_in_polygon(points, [(2, 0), (4, 0), (4, 4), (2, 4)])
    both = points_in_polygon(points, [(0, 0), (4, 0), (4, 4), (0, 4)])
    assert not (left & right).any()
    np.testing.assert_array_equal(left | right, both)


def test_lasso_in_any_plane(data):
    for axes in (["z1", "z2"], ["z3", "umap1"]):
        plane = np.stack([data.axis(key) for key in axes], axis=1)
        outline = np.stack([LASSO["x"], LASSO["y"]], axis=1)
        expected = np.flatnonzero(points_in_polygon(plane, outline))
        found = selections.select(data, {**LASSO, "axes": axes})
        np.testing.assert_array_equal(found, expected)
        assert 0 < len(found) < 500


def test_box_has_its_edges_and_any_order_of_corners(data):
    x, y = data.axis("z1"), data.axis("z2")
    asked = {"kind": "box", "axes": ["z1", "z2"], "x": [x[3], -0.5], "y": [5, y[3]]}
    found = selections.select(data, asked)
    low, high = sorted([x[3], -0.5])
    np.testing.assert_array_equal(
        found, np.flatnonzero((x >= low) & (x <= high) & (y >= y[3]) & (y <= 5))
    )
    assert 3 in found


def test_other_ways_to_select(data):
    near = selections.select(data, {"kind": "near", "point": [0, 0, 0], "many": 9})
    assert len(near) == 9
    label = data.column("cluster")
    second = selections.select(data, {"kind": "cluster", "label": "2"})
    np.testing.assert_array_equal(second, np.flatnonzero(label.values == label.labels.index("2")))
    rest = selections.select(data, {"kind": "cluster", "label": "2", "inverted": True})
    assert len(rest) + len(second) == 500 and not set(rest) & set(second)
    assert len(selections.select(data, None)) == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "lasso", "axes": ["z1", "z2"], "x": [0, 1], "y": [0, 1]},
        {"kind": "lasso", "axes": ["z1", "z2"], "x": [0, 1, float("nan")], "y": [0, 1, 2]},
        {"kind": "lasso", "axes": ["z1", "z9"], "x": [0, 1, 1], "y": [0, 1, 2]},
        {"kind": "lasso", "axes": ["z1"], "x": [0, 1, 1], "y": [0, 1, 2]},
        {"kind": "box", "axes": ["z1", "z2"]},
        {"kind": "cluster", "label": "12"},
        {"kind": "saved", "name": "../particles"},
        {"kind": "exec"},
        {"nothing": 1},
    ],
)
def test_nonsense_is_refused(data, asked):
    with pytest.raises(InputError):
        selections.select(data, asked)


def test_selector_remembers(data, monkeypatch):
    chosen = Selector(data)
    first = chosen(LASSO)
    monkeypatch.setattr(selections, "select", None)
    assert chosen(dict(reversed(LASSO.items()))) is first


def test_saved_selection_holds_rows_of_the_input_and_comes_back(data, run):
    chosen = selections.select(data, LASSO)
    path = selections.save(data, " open-1 ", chosen)
    assert path == run.folder / "selections" / "open-1.npy"
    np.testing.assert_array_equal(np.load(path), np.sort(run.particles["row"][chosen]))
    again = selections.select(data, {"kind": "saved", "name": "open-1"})
    np.testing.assert_array_equal(again, chosen)
    (path.parent / "not ours.npy").write_bytes(b"x")
    (path.parent / "damaged.npy").write_bytes(b"x")
    assert selections.saved(data) == [selections.Saved("open-1", len(chosen))]
    assert not [p for p in path.parent.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(
    "name",
    [".hidden", "../up", "a/b", "a\\b", "-o", "a.npy", "nul\0", "x" * 65, "ä", "a b"],
)
def test_names_that_could_be_paths_are_refused(data, run, name):
    with pytest.raises(InputError, match="not a name"):
        selections.save(data, name, np.arange(3))
    assert not (run.folder / "selections").exists()


def test_nothing_is_not_saved_and_names_are_not_taken_twice(data):
    with pytest.raises(InputError, match="nothing is selected"):
        selections.save(data, "none", np.empty(0, np.int64))
    selections.save(data, "one", np.arange(3))
    with pytest.raises(InputError, match="there already"):
        selections.save(data, "one", np.arange(4))
    assert selections.saved(data)[0].count == 3


@pytest.mark.parametrize("linked", ["selections", "selections/one.npy"])
def test_links_are_neither_followed_nor_written_through(data, run, tmp_path, linked):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    np.save(elsewhere / "one.npy", run.particles["row"][:3])
    before = (elsewhere / "one.npy").read_bytes()
    (run.folder / linked).parent.mkdir(exist_ok=True)
    (run.folder / linked).symlink_to(elsewhere / ("" if linked == "selections" else "one.npy"))
    assert selections.saved(data) == []
    for name in ("one", "two"):
        if linked == "selections" or name == "one":
            with pytest.raises(InputError, match=r"is a link|did not write it"):
                selections.save(data, name, np.arange(3))
    for read in (selections.load, lambda *asked: selections.send(*asked, "relion")):
        with pytest.raises(InputError, match="it is a link"):
            read(data, "one")
    assert [p.name for p in elsewhere.iterdir()] == ["one.npy"]
    assert (elsewhere / "one.npy").read_bytes() == before


def test_a_selection_outlives_the_run_if_it_fits_the_next(data, run, tmp_path):
    path = selections.save(data, "kept", np.arange(3))
    again = ViewerData(written(run.folder, make_fit(tmp_path, rank=3, count=500)))
    assert again.run.run_id != run.run_id and path.is_file()
    np.testing.assert_array_equal(selections.load(again, "kept"), np.arange(3))
    with pytest.raises(InputError, match="another run than the one that was opened"):
        selections.save(data, "late", np.arange(3))  # by a page of the earlier run
    fewer = ViewerData(written(run.folder, make_fit(tmp_path, rank=3, count=100, seed=1)))
    with pytest.raises(InputError, match=r"rows that the run|is selected"):
        selections.load(fewer, "kept")


def test_what_solvar_did_not_write_is_not_replaced(tmp_path):
    run, _ = run_on("relion31", tmp_path)
    data = ViewerData(run)
    path = selections.save(data, "one", np.arange(3)).with_suffix(".star")
    path.write_text("mine")
    with pytest.raises(InputError, match="did not write it"):
        selections.send(data, "one", "relion")
    assert path.read_text() == "mine"


@pytest.mark.parametrize(("to", "suffix"), [("relion", ".star"), ("cryosparc", ".cs")])
def test_export_holds_exactly_the_saved_rows(tmp_path, to, suffix):
    kind = "relion31" if to == "relion" else "cryosparc"
    run, reading = run_on(kind, tmp_path, ind=[1, 2, 4, 5])
    data = ViewerData(run)
    selections.save(data, "some", np.array([0, 2]))
    sent = selections.send(data, "some", to)
    (path,) = sent.files
    assert (sent.particles, sent.refined_poses) == (2, False)
    assert path == run.folder / "selections" / f"some{suffix}"
    expected = read_particles(run.source, **reading, ind=[1, 4])
    assert_same_particles(read_particles(path), expected)
    assert selections.send(data, "some", to) == sent  # once more, in its place
    with pytest.raises(InputError, match="no such selection"):
        selections.send(data, "other", to)
    with pytest.raises(InputError, match="no target"):
        selections.send(data, "some", "shell")
