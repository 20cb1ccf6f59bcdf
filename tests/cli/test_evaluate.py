"""`solvar evaluate` on a set of discrete states: table, metrics.json and figures."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from solvar.cli.evaluate import _write
from solvar.cli.main import app
from solvar.cli.metrics import metrics_table
from solvar.estimation.low_rank import LowRankModel
from solvar.estimation.posterior import Posterior
from solvar.files import owned
from solvar.fitting.result import Fit
from solvar.fitting.settings import FitSettings
from solvar.particles import read_particles
from solvar.report.evaluation import EVALUATION
from solvar.simulation import SimulationSettings, simulate
from written import written

PNG = b"\x89PNG"


def evaluate_command(*arguments):
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def discrete(tmp_path_factory):
    """A set of three states on disk, and a run that found its truth but for noise in the latents."""
    folder = tmp_path_factory.mktemp("discrete")
    settings = SimulationSettings(
        particles=90, box_size=24, pixel_size=8.0, heterogeneity="discrete", states=3, seed=3
    )
    simulated = simulate(settings)
    simulated.write(folder / "set")
    volumes, states = simulated.truth_volumes(), simulated.ensemble.state
    variance = (volumes.eigenvolumes.astype(float) ** 2).sum(axis=(1, 2, 3))
    unit = volumes.eigenvolumes / np.sqrt(variance)[:, None, None, None].astype(np.float32)
    particles = read_particles(folder / "set" / "particles.star")
    model = LowRankModel(volumes.mean, unit, variance, volumes.mask, 8.0)
    fit = Fit(
        particles=particles,
        settings=FitSettings(rank=len(unit), halfsets=False),
        model=model,
        posterior=Posterior(
            true_latents(folder / "set", model, states)
            + 0.1 * np.random.default_rng(0).standard_normal((90, 2)) * np.sqrt(variance),
            np.broadcast_to(np.diag(100 / variance), (90, 2, 2)),
            np.asarray(simulated.contrast),
            np.zeros(90),
        ),
        validation=None,
        noise_power=np.ones((1, 13)),
        prior_precision=np.ones(13),
        particle_probability=np.ones(len(particles)),
        inverted=False,
    )
    run = written(folder / "run", fit).folder
    return run, folder / "set"


def true_latents(folder, model, states):
    from solvar.evaluation import Truth
    from solvar.volume_file import read_volume

    paths = Truth.load(folder).volumes
    difference = [read_volume(path)[0] - model.mean for path in paths.values()]
    latents = np.tensordot(difference, model.eigenvolumes, axes=((1, 2, 3), (1, 2, 3)))
    return latents.astype(float)[states]


def test_discrete_states_are_found_in_volumes_and_clusters(discrete):
    run, truth = discrete
    metrics = json.loads(evaluate_command(run, "--truth", truth, "--json").stdout)
    assert metrics["volumes"]["per_conformation_auc"] > 0.49
    assert metrics["volumes"]["per_image_auc"] < metrics["volumes"]["per_conformation_auc"]
    assert metrics["volumes"]["mean_volume_auc"] < metrics["volumes"]["per_image_auc"]
    assert metrics["clustering"]["ari"] == 1 and metrics["clustering"]["ami"] == pytest.approx(1)
    assert np.trace(metrics["clustering"]["confusion"]) == 90
    assert metrics["populations"]["total_variation"] == 0


def test_output_holds_the_numbers_and_their_figures(discrete, tmp_path):
    run, truth = discrete
    folder = tmp_path / "new" / "comparison"
    result = evaluate_command(run, "--truth", truth, "--output", folder)
    assert result.exit_code == 0, result.output
    assert "5 figures" in result.stdout
    printed = " ".join(result.stdout.split())
    words = "AUC-FSC per image", "AUC-FSC per conformation", "earth mover's", "adjusted Rand index"
    found = [printed.find(each) for each in words]
    assert found[0] > 0 and found == sorted(found)
    figures = sorted(folder.glob("*.png"))
    assert [figure.name[0] for figure in figures] == ["1", "2", "3", "4", "5"]
    assert all(figure.read_bytes()[:4] == PNG for figure in figures)
    printed = json.loads(evaluate_command(run, "--truth", truth, "--json").stdout)
    assert json.loads((folder / "metrics.json").read_text()) == printed


def test_figures_of_an_earlier_comparison_do_not_stay(tmp_path):
    with owned(tmp_path, "test") as own:
        own.file(EVALUATION, "4_clustering.png").write_bytes(PNG)
    _write({"particles": 3}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "manifest.json"}


def test_long_lists_are_summed_up_in_the_table():
    table = metrics_table("", {"volumes": {"per_conformation_auc_by_state": [0.25] * 60 + [0.5]}})
    assert list(table.columns[1].cells) == ["61 numbers, 0.25 to 0.5"]


def test_output_that_is_a_file_is_refused_in_a_sentence(discrete, tmp_path):
    run, truth = discrete
    (tmp_path / "taken").write_text("")
    result = evaluate_command(run, "--truth", truth, "--output", tmp_path / "taken")
    assert result.exit_code == 2
    assert "is not a folder" in result.stderr and "Traceback" not in result.stderr
