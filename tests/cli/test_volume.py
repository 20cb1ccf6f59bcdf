"""`solvar volume` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from solvar.cli.main import app
from solvar.fitting.settings import FitSettings
from solvar.imaging.fourier import volume_shells
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.simulation import SimulationSettings, simulate
from solvar.volume_file import read_volume


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volume")
    simulate(SimulationSettings(box_size=24, particles=400, snr=1.0)).write(folder)
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
    assert folder == run_folder / "volumes" / "kernel-component1-001"
    assert len(told["volumes"]) == 3
    for record in told["volumes"]:
        suffixes = ["", "_half1", "_half2", "_local_resolution", "_local_filtered"]
        assert record["files"] == [f"{record['name']}{suffix}.mrc" for suffix in suffixes]
        assert set(record["fsc"]) == {
            "unmasked", "masked", "randomised", "corrected", "half_maps", "first_random_shell",
        }  # fmt: skip
        assert all((folder / file).is_file() for file in record["files"])


def test_clusters_are_told_in_a_table(run_folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["volume", str(run_folder), "-k", "2", "--method", "reproject", "-o", str(tmp_path / "v")],
    )
    assert result.exit_code == 0, result.output
    assert "cluster_002" in result.stdout
    assert (tmp_path / "v" / "cluster_001.mrc").is_file()


def test_an_automatic_b_factor_is_refused_in_the_record(run_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "v"
    options = ["--at", "0", "--bfactor", "auto", "--apix", "7.5", "-o", str(output)]
    result = CliRunner().invoke(app, ["volume", str(run_folder), *options])
    assert result.exit_code == 0, result.output
    assert "No B-factor: a Guinier fit needs" in " ".join(result.stdout.split())
    table = json.loads((output / "volumes.json").read_text())
    assert table["pixel_size_angstrom"] == 7.5
    (record,) = table["volumes"]
    assert record["bfactor"] == 0 and "Guinier" in record["bfactor_note"]
    assert (output / "point_001_postprocessed.mrc").is_file()


def test_a_given_b_factor_leaves_the_volume_itself_alone(run_folder: Path, tmp_path: Path) -> None:
    for name, options in (("raw", []), ("sharp", ["--bfactor", "-300"])):
        command = ["volume", str(run_folder), "--at", "0", "-o", str(tmp_path / name), *options]
        assert CliRunner().invoke(app, command).exit_code == 0
    raw, same = (read_volume(tmp_path / n / "point_001.mrc")[0] for n in ("raw", "sharp"))
    np.testing.assert_array_equal(raw, same)
    assert not (tmp_path / "raw" / "point_001_postprocessed.mrc").exists()
    sharp, _ = read_volume(tmp_path / "sharp" / "point_001_postprocessed.mrc")
    ratio = np.abs(np.fft.rfftn(sharp)) / np.maximum(np.abs(np.fft.rfftn(raw)), 1e-9)
    record = json.loads((tmp_path / "sharp" / "volumes.json").read_text())["volumes"][0]
    shell, box, apix = 2, len(raw), read_volume(tmp_path / "sharp" / "point_001.mrc")[1]
    fsc = record["fsc"]["corrected"][shell]
    expected = np.sqrt(2 * fsc / (1 + fsc)) * np.exp(75 * (shell / (box * apix)) ** 2)
    np.testing.assert_allclose(np.median(ratio[volume_shells(box) == shell]), expected, rtol=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--at", "1,b"], "neither a file nor a point"),
        (["--at", "1,2,3"], "2 finite components"),
        (["--component", "7"], "no component 7"),
        (["--mask", "nowhere.mrc"], "nowhere.mrc"),
        (["--particles", "nowhere.star"], "nowhere.star"),
        (["--bfactor", "soft"], "--bfactor soft"),
        (["--apix", "0"], "--voxel-size 0"),
        (["--subset-probability", "1"], "--subset-probability 1"),
    ],
)
def test_bad_input_is_one_sentence(run_folder: Path, tmp_path: Path, options, message) -> None:
    output = tmp_path / "v"
    result = CliRunner().invoke(app, ["volume", str(run_folder), "-o", str(output), *options])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not output.exists()
