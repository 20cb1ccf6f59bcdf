"""Which particles are selected, and what is said when that makes no sense."""

import pickle

import numpy as np
import pytest

from export.runs import run_on, write_clusters
from solvar.analysis.selection import points_in_polygon, select
from solvar.errors import InputError
from solvar.export import Selection


@pytest.fixture
def run(tmp_path):
    return run_on("relion31", tmp_path, ind=[5, 0, 3, 2])[0]


def test_everything_by_default(run):
    assert select(run, Selection()).tolist() == [0, 1, 2, 3]


def test_clusters_and_their_complement(run):
    write_clusters(run, [3, 1, 3, 4])
    assert select(run, Selection(clusters=(3,))).tolist() == [0, 2]
    assert select(run, Selection(clusters=(3, 4))).tolist() == [0, 2, 3]
    assert select(run, Selection(clusters=(3,), invert=True)).tolist() == [1, 3]


def test_list_holds_rows_of_the_input_not_of_the_run(run, tmp_path):
    (tmp_path / "ind.txt").write_text("3\n5\n")
    (tmp_path / "ind.csv").write_text("row,z\n3,0.5\n5,0.1\n")
    np.save(tmp_path / "ind.npy", np.array([3, 5]))
    (tmp_path / "ind.pkl").write_bytes(pickle.dumps(np.array([3, 5])))
    for suffix in ("txt", "csv", "npy", "pkl"):
        assert select(run, Selection(ind=tmp_path / f"ind.{suffix}")).tolist() == [0, 2]


def test_polygon_in_the_plane_of_two_components(run, tmp_path):
    z = run.posterior.z
    x, y = z[2, 2], z[2, 0]
    corners = [(x - 1e-3, y - 1e-3), (x + 1e-3, y - 1e-3), (x, y + 1e-3)]
    (tmp_path / "p.csv").write_text("z3,z1\n" + "\n".join(f"{a},{b}" for a, b in corners))
    selection = Selection(polygon=tmp_path / "p.csv", components=(3, 1))
    assert select(run, selection).tolist() == [2]


def test_points_in_a_concave_polygon_agree_with_matplotlib():
    from matplotlib.path import Path

    corners = np.array([[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]])
    points = np.random.default_rng(0).uniform(-1, 5, (2000, 2))
    ours = points_in_polygon(points, corners)
    assert (ours == Path(corners).contains_points(points)).all() and 0 < ours.sum() < 2000


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(clusters=(0,)), ("analysis/particles.h5", "solvar analyze")),
        (Selection(invert=True), ("--not",)),
        (Selection(clusters=(1,), ind=[0]), ("--cluster and --ind",)),
        (Selection(ind=[1]), ("row 1", "did not use it")),
        (Selection(ind=[9]), ("row 9",)),
        (Selection(ind=[0, 2, 3, 5], invert=True), ("none of the 4",)),
    ],
)
def test_selections_that_make_no_sense(run, selection, words):
    with pytest.raises(InputError) as caught:
        select(run, selection)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word"),
    [("0,0\n1,1\n", "2 vertices"), ("0,0\n1,a\n1,1", "row 2"), ("0,0\n1\n1,1", "row 2")],
)
def test_polygons_that_are_none(run, tmp_path, text, word):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=word):
        select(run, Selection(polygon=tmp_path / "p.csv"))
    with pytest.raises(InputError, match="no such file"):
        select(run, Selection(polygon=tmp_path / "q.csv"))
    with pytest.raises(InputError, match="no component 4"):
        select(run, Selection(polygon=tmp_path / "p.csv", components=(1, 4)))


def test_labels_that_do_not_fit(run):
    write_clusters(run, [1, 2])
    with pytest.raises(InputError, match=r"shape \(2,\) where 4 numbers"):
        select(run, Selection(clusters=(0,)))


def test_unknown_cluster(run):
    write_clusters(run, [1, 2, 2, 3])
    with pytest.raises(InputError, match=r"no cluster 7.*from 1 to 3"):
        select(run, Selection(clusters=(7,)))


def test_keep_leaves_out_images_that_are_unlikely_to_show_a_particle(run):
    write_clusters(run, [3, 1, 3, 4])
    run.particle_probability = np.array([0.9, 0.4, 0.1, 1.0])
    assert select(run, Selection(keep=0.5)).tolist() == [0, 3]
    assert select(run, Selection(keep=0.5, invert=True)).tolist() == [1, 2]
    assert select(run, Selection(clusters=(3,), keep=0.5)).tolist() == [0]
    assert select(run, Selection(clusters=(3,), keep=0.5, invert=True)).tolist() == [3]
    with pytest.raises(InputError, match="--keep 2 is no probability"):
        select(run, Selection(keep=2))
