"""`solvar analyze`: what it writes, what it says, and its sentences for bad input."""

import csv
import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from solvar.analysis import AnalysisSettings
from solvar.analysis.analyze import analyze, parse_end
from solvar.analysis.space import latent_space
from solvar.cli.analyze import app
from solvar.results.run import Run
from synthetic import make_fit
from written import written

COUNT, RANK = 300, 3


def analyze_command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def make_run(folder, *, count=COUNT, rank=RANK, halfsets=True, nothing_reliable=False):
    """A run whose particles are in three states along the first two components."""
    fit = make_fit(folder, rank=rank, count=count, halfsets=halfsets)
    spread = np.sqrt(fit.model.eigenvalues)
    states = np.eye(max(rank, 3))[np.arange(count) % 3][:, :rank]
    z = (0.15 * fit.posterior.z / spread + 1.5 * states) * spread
    precision = np.tile(np.diag(16 / spread**2), (count, 1, 1))
    fit = replace(fit, posterior=replace(fit.posterior, z=z, precision=precision))
    if nothing_reliable:
        none = fit.validation.reliable & False
        fit = replace(fit, validation=replace(fit.validation, reliable=none))
    written(folder / "run", fit)
    return folder / "run"


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def read_csv(path):
    with path.open() as stream:
        rows = list(csv.reader(stream))
    return rows[0], np.array(rows[1:], float)


def assert_sentence(result, *words):
    assert result.exit_code == 2, result.output
    sentence = result.stderr.strip().splitlines()[-1]
    assert sentence.startswith("solvar: ") and sentence.endswith("."), sentence
    for word in words:
        assert word in sentence


def test_analysis_is_written_and_told(run):
    result = analyze_command(run)
    assert result.exit_code == 0, result.output
    for words in (
        "3 separate states",
        "3 clusters",
        "do not fit the model",
        "density.png",
        "trajectory_extremes.csv",
    ):
        assert words in result.stdout
    report = run / "report.html"
    assert str(report) in result.stdout and 'id="analysis"' in report.read_text(encoding="utf-8")
    folder = run / "analysis"
    assert {path.name for path in folder.iterdir()} == {
        "analysis.json", "particles.h5", "clusters.csv", "states.csv", "trajectory_extremes.csv",
        "trajectory_distant.csv", "clusters.png", "density.png", "diagnostics.png",
    }  # fmt: skip
    assert all(path.stat().st_size > 10_000 for path in folder.glob("*.png"))


def test_particles_file_is_in_row_order(run):
    analyze_command(run, "--clusters", 3)
    with h5py.File(run / "analysis" / "particles.h5") as file:
        columns = {name: file[name][()] for name in file if name != "density"}
        assert file["density/deconvolved"].shape == (64, 64)
        assert list(file["density"].attrs["components"]) == [1, 2]
    assert all(len(column) == COUNT for column in columns.values())
    np.testing.assert_array_equal(columns["uid"], Run(run).particles["uid"])
    # particles i and i + 3 are in the same state
    np.testing.assert_array_equal(columns["cluster"][3:], columns["cluster"][:-3])
    assert set(columns["cluster"]) == {1, 2, 3}
    assert set(columns["state"]) <= {0, 1, 2, 3} and np.mean(columns["state"] > 0) > 0.9
    agree = [len(set(columns["cluster"][columns["state"] == k])) for k in (1, 2, 3)]
    assert agree == [1, 1, 1]


def test_points_are_latents_whose_noise_components_are_zero(run):
    analyze_command(run, "--points", 7, "--clusters", 3)
    header, points = read_csv(run / "analysis" / "trajectory_extremes.csv")
    assert header == ["z1", "z2", "z3"] and points.shape == (7, 3)
    _, centres = read_csv(run / "analysis" / "clusters.csv")
    assert centres.shape == (3, 3)
    # the made-up run calls its last component unreliable
    assert (points[:, 2] == 0).all() and (centres[:, 2] == 0).all()
    spread = np.sqrt(Run(run).model.eigenvalues)
    assert centres[:, 0].max() == pytest.approx(1.5 * spread[0], rel=0.1)


def test_json_alone_on_stdout(run):
    content = json.loads(analyze_command(run, "--json", "--method", "mixture").stdout)
    assert content == json.loads((run / "analysis" / "analysis.json").read_text())
    assert content["clusters"]["count"] == 3
    assert content["components"] == [1, 2]
    assert {one["factor"] for one in content["associations"]} == {
        "viewing direction", "shift", "contrast",
    }  # fmt: skip
    # the input of the made-up run cannot be read
    assert any("Defocus and micrograph were not compared" in text for text in content["messages"])


def test_same_seed_same_analysis(run):
    first = analyze_command(run, "--json").stdout
    assert analyze_command(run, "--json").stdout == first


def test_path_between_ends_of_your_own(run):
    result = analyze_command(
        run, "--start", 0, "--end", "-10,3,0", "--component", 1, "--component", 2
    )
    assert result.exit_code == 0, result.output
    _, points = read_csv(run / "analysis" / "trajectory_own.csv")
    np.testing.assert_allclose(points[0, :2], Run(run).posterior.z[0, :2], rtol=1e-6)
    np.testing.assert_allclose(points[-1], [-10, 3, 0], rtol=1e-6)
    space = latent_space(Run(run), [1, 3])
    np.testing.assert_allclose(parse_end(space, "5,6,7") * space.spread[[0, 2]], [5, 7])


def test_earlier_paths_are_replaced(run):
    analyze_command(run)
    analyze_command(run, "--path", "densest")
    names = [path.name for path in (run / "analysis").glob("trajectory_*.csv")]
    assert names == ["trajectory_densest.csv"]


def test_one_component_has_no_plane(tmp_path):
    run = make_run(tmp_path, rank=1)
    result = analyze_command(run)
    assert result.exit_code == 0, result.output
    assert "One component has no plane" in result.stdout
    assert not (run / "analysis" / "density.png").exists()


@pytest.mark.slow
def test_run_without_halfsets_and_run_of_noise(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = analyze(Run(make_run(tmp_path / "a", halfsets=False)))
    assert list(found.space.active) == [0, 1, 2]
    result = analyze_command(make_run(tmp_path / "b", nothing_reliable=True))
    assert result.exit_code == 0, result.output
    assert "No analysed component passed the half-set test" in result.stdout


def test_many_clusters_are_drawn(run):
    assert analyze_command(run, "--clusters", 12).exit_code == 0


def test_missing_umap_is_told_before_anything_else(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_sentence(analyze_command(run, "--umap"), "UMAP", "pip install", "umap")
    assert not (run / "analysis").exists()


def test_umap_above_its_limit_places_the_rest_in_row_order(run, monkeypatch):
    """A projection stands in for the package, which takes half a minute to load."""
    fitted = []

    class Projection:
        def __init__(self, n_neighbors, random_state):
            assert n_neighbors < 100

        def fit_transform(self, points):
            fitted.append(points)
            return points[:, :2]

        def transform(self, points):
            return points[:, :2]

    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Projection))
    monkeypatch.setattr("solvar.analysis.embedding._FITTED", 100)
    assert analyze_command(run, "--umap", "--clusters", 3).exit_code == 0
    assert [points.shape for points in fitted] == [(100, 2)]
    with h5py.File(run / "analysis" / "particles.h5") as file:
        found = file["umap"][()]
    np.testing.assert_allclose(found, latent_space(Run(run)).whitened, rtol=1e-5)
    assert (run / "analysis" / "umap.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clusters", 1], ["--clusters 1", "greater than or equal to 2"]),
        (["--clusters", 200], ["--clusters 200", "40 particles"]),
        (["--component", 9], ["no component 9", "1 to 3"]),
        (["--plane", 1, 1], ["--plane", "different"]),
        (["--plane", 1, 8], ["no component 8"]),
        (["--path", "shortest"], ["'shortest' is not one of extremes, distant, densest"]),
        (["--path-component", 3], ["component 3 is not among those", "--component 3"]),
        (["--start", 4], ["both --start and --end"]),
        (["--start", 4, "--end", 4000], ["'4000' is not an end", "0 to 39"]),
        (["--start", "1,2", "--end", 4], ["'1,2'", "3 latents"]),
        (["--start", 4, "--end", 4], ["same particle"]),
    ],
)
def test_bad_option_is_one_sentence_and_writes_nothing(tmp_path, arguments, words):
    run = make_run(tmp_path, count=40)
    assert_sentence(analyze_command(run, *arguments), *words)
    assert not (run / "analysis").exists()


def test_folder_that_is_no_run_is_one_sentence(tmp_path):
    assert_sentence(analyze_command(tmp_path), "no finished run")
    assert_sentence(analyze_command(tmp_path / "nowhere"), "is not a run folder")


def test_few_particles_are_refused(tmp_path):
    assert_sentence(analyze_command(make_run(tmp_path, count=8)), "8 particles")


def test_settings_travel_with_the_result(run):
    analyze_command(run, "--seed", 4, "--plane", 2, 3)
    content = json.loads((run / "analysis" / "analysis.json").read_text())
    assert AnalysisSettings(**content["settings"]).seed == 4
    assert content["density"]["components"] == [2, 3]
