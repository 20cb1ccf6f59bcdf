"""What the page is told of a run: axes, properties, places."""

from __future__ import annotations

import numpy as np
import pytest

from solvar.errors import InputError

pytest.importorskip("dash", reason="solvar[view] is not installed")

from solvar.report.interactive.latents import number_limits
from solvar.report.interactive.theme import MOST_LABELS
from solvar.viewer.columns import Column, open_star
from solvar.viewer.data import ViewerData


@pytest.fixture
def data(run):
    return ViewerData(run)


def test_axes_are_latents_in_standard_deviations(data, run):
    for j in range(3):
        expected = run.posterior.z[:, j] / np.sqrt(run.model.eigenvalues[j])
        np.testing.assert_allclose(data.axis(f"z{j + 1}"), expected)
    assert list(data.axes) == ["z1", "z2", "z3", "umap1", "umap2"]
    assert "noise?" in data.axes["z3"]  # the half-sets of the fit say so


@pytest.mark.parametrize("key", ["z0", "z4", "umap3", "../run.json", ""])
def test_unknown_axis_is_refused(data, key):
    with pytest.raises(InputError):
        data.axis(key)
    with pytest.raises(InputError):
        data.column(f"star:{key}")


def test_every_property_has_a_value_for_each_particle(data):
    for key in data.colourings:
        column = data.column(key)
        assert column.values.shape == (500,), key
        if column.labels is not None:
            assert 0 <= column.values.min() <= column.values.max() < len(column.labels), key


def test_properties_are_those_of_the_run(data, run):
    np.testing.assert_allclose(data.column("contrast").values, run.posterior.contrast, rtol=1e-6)
    source = run.read_star = open_star(run.folder / "particles.star")
    u, v = (source.read(name).values for name in ("rlnDefocusU", "rlnDefocusV"))
    np.testing.assert_allclose(data.column("defocus").values, (u + v) / 2e4, rtol=1e-5)
    assert set(data.column("cluster").labels) == {"1", "2", "3"}
    assert "star:rlnImageName" not in data.colourings and "star:solvarZ1" not in data.colourings


def test_star_column_of_a_file_with_comments_and_two_blocks(tmp_path):
    path = tmp_path / "x.star"
    path.write_text(
        "# made by hand\n\ndata_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnOpticsGroupName #2\n1 one\n\n"
        "data_particles\n\nloop_\n_rlnImageName #1\n_rlnDefocusU #2\n_rlnMicrographName #3\n"
        "1@a.mrcs 10000.5 m1\n2@a.mrcs 20000 m2\n3@a.mrcs 15000 m1\n\n"
    )
    table = open_star(path)
    assert table.columns == ("rlnImageName", "rlnDefocusU", "rlnMicrographName")
    np.testing.assert_array_equal(table.read("rlnDefocusU").values, [10000.5, 20000, 15000])
    named = table.read("rlnMicrographName")
    assert named.labels == ("m1", "m2") and named.values.tolist() == [0, 1, 0]
    with pytest.raises(InputError):
        table.read("rlnPsi")
    assert open_star(tmp_path / "absent.star") is None


def test_too_many_labels_become_numbers():
    many = Column.of_labels("x", np.arange(MOST_LABELS + 1).astype(str))
    assert many.labels is None and len(np.unique(many.values)) == MOST_LABELS + 1


def test_range_is_never_empty():
    assert number_limits(np.array([np.nan, np.inf])) == (0.0, 1.0)
    assert number_limits(np.full(9, 3.0)) == (2.5, 3.5)
    assert number_limits(np.array([0.0] * 999 + [1.0])) == (0.0, 1.0)


def test_click_in_a_plane_of_components_moves_these_two_alone(data):
    point = data.point_at(("z3", "z1"), (0.5, -1.0), np.array([9.0, 0.25, 9.0]))
    np.testing.assert_allclose(point, [-1.0, 0.25, 0.5])
    assert data.place_of(point, ("z3", "z1")) == (0.5, -1.0)
    far = data.point_at(("z1", "z2"), (1e9, 0), np.zeros(3))
    assert far[0] == data.reach


def test_click_in_a_umap_is_the_mean_of_the_particles_there(data):
    x, y = data.axis("umap1"), data.axis("umap2")
    nearby = np.argsort((x - 0.1) ** 2 + (y + 0.2) ** 2)[:50]
    point = data.point_at(("umap1", "umap2"), (0.1, -0.2), np.zeros(3))
    np.testing.assert_allclose(point, data.latents[:, nearby].mean(axis=1))
    place = data.place_of(data.latents[:, 7], ("umap1", "umap2"))
    assert place == (x[7], y[7])


def test_nearest_particles(data):
    point = np.array([0.3, -0.2, 0.1])
    # in eigenvolume units, where distances of latents are those of volumes
    distance = (((data.latents.T - point) * data.spread) ** 2).sum(axis=1)
    expected = np.sort(np.argsort(distance)[:17])
    np.testing.assert_array_equal(data.near(point, 17), expected)
    assert len(data.near(point, 10_000)) == 500


def test_run_without_analysis_has_no_clusters(run):
    (run.folder / "analysis" / "particles.h5").unlink()
    data = ViewerData(run)
    assert "cluster" not in data.colourings and "umap1" not in data.axes


def test_damaged_run_is_told(run):
    (run.folder / "particles.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match="missing or damaged"):
        ViewerData(run)
