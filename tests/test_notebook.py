"""A run in Python: it shows itself, draws its latents, and makes volumes."""

from pathlib import Path

import numpy as np
import pytest

import solvar
from report.reports import make_run
from solvar.errors import InputError
from written import written_analysis

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


@pytest.fixture
def run(tmp_path):
    return solvar.Run(make_run(tmp_path / "run", rank=3, count=60).folder)


def test_run_shows_itself_without_obeying_its_name(tmp_path):
    folder = tmp_path / "<script>alert(1)"
    shown = solvar.Run(make_run(folder, rank=12).folder)._repr_html_()
    assert "<script" not in shown and "&lt;script&gt;alert(1)" in shown
    assert "40 particles" in shown and "resolved to" in shown and "2 more" in shown


def test_latents_are_drawn_in_standard_deviations(run):
    (trace,) = run.plot_latents(1, 3).data
    spread = np.sqrt(run.model.eigenvalues)
    np.testing.assert_allclose(trace.x, run.posterior.z[:, 0] / spread[0], rtol=1e-5)
    np.testing.assert_allclose(trace.y, run.posterior.z[:, 2] / spread[2], rtol=1e-5)


def test_colours_are_numbers_or_labels(run):
    (contrast,) = run.plot_latents(color="contrast").data
    np.testing.assert_array_equal(contrast.marker.color, run.posterior.contrast)
    (defocus,) = run.plot_latents(color="defocus").data
    assert (np.asarray(defocus.marker.color) > 0.7).all()
    halves = run.plot_latents(color=run.particles["halfset"]).data
    assert [trace.name for trace in halves] == ["1", "2"]


def test_clusters_need_an_analysis(run):
    with pytest.raises(InputError, match="solvar analyze"):
        run.plot_latents(color="cluster")
    written_analysis(run, solvar.analyze(run))
    assert run.plot_latents(color="cluster").data[0].name == "1"


@pytest.mark.parametrize("arguments", [{"x": 4}, {"y": 0}, {"color": "mood"}])
def test_what_the_run_does_not_have_is_refused(run, arguments):
    with pytest.raises(InputError):
        run.plot_latents(**arguments)


def test_volume_at_is_the_mean_plus_a_sum_of_eigenvolumes(run):
    model = run.model
    np.testing.assert_array_equal(run.volume_at([0, 0, 0]), model.mean)
    expected = model.mean + 2 * model.eigenvolumes[0] - 3 * model.eigenvolumes[2]
    np.testing.assert_allclose(run.volume_at([2, 0, -3]), expected, atol=1e-5)


@pytest.mark.parametrize("z", [[1, 2], [[1, 2, 3]], [1, 2, np.nan]])
def test_point_that_is_none_is_refused(run, z):
    with pytest.raises(ValueError, match="3 finite latents"):
        run.volume_at(z)


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_notebook_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, 4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    assert path.stat().st_size < 1e6


def test_there_is_an_example_with_its_results():
    nbformat = pytest.importorskip("nbformat")
    assert EXAMPLES
    for path in EXAMPLES:
        cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in cells)
        assert any(output.output_type == "display_data" for c in cells for output in c.outputs)
