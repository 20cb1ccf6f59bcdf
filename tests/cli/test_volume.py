"""`solvar volume` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from solvar.cli.main import app
from solvar.estimation.settings import FitSettings
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    simulate(SimulationSettings(box_size=24, particles=300, snr=0.5)).write(folder)
    particles = read_particles(folder / "particles.star")
    run_job(particles, FitSettings(rank=2, mask=folder / "mask.mrc"), folder / "run")
    return folder / "run"


def test_a_walk_is_written_below_the_run(run_folder: Path) -> None:
    result = CliRunner().invoke(
        app, ["volume", str(run_folder), "--points", "3", "--local-resolution", "--json"]
    )
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    folder = Path(told["folder"])
    assert folder == run_folder / "volumes" / "kernel"
    assert len(told["volumes"]) == 3
    for record in told["volumes"]:
        assert len(record["files"]) == 4
        assert all((folder / file).is_file() for file in record["files"])


def test_clusters_are_told_in_a_table(run_folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["volume", str(run_folder), "-k", "2", "--method", "reproject", "-o", str(tmp_path / "v")],
    )
    assert result.exit_code == 0, result.output
    assert "cluster_002" in result.stdout
    assert (tmp_path / "v" / "cluster_001.mrc").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", "1,b"], "neither a file nor a point"),
        (["--at", "1,2,3"], "2 finite components"),
        (["--component", "7"], "no component 7"),
        (["--mask", "nowhere.mrc"], "nowhere.mrc"),
        (["--particles", "nowhere.star"], "nowhere.star"),
    ],
)
def test_bad_input_is_one_sentence(run_folder: Path, tmp_path: Path, options, message) -> None:
    output = tmp_path / "v"
    result = CliRunner().invoke(app, ["volume", str(run_folder), "-o", str(output), *options])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not output.exists()
