"""Volumes of a fitted run against the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.estimation.prior import mean_fsc
from solvar.estimation.settings import FitSettings
from solvar.evaluation import Truth
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate
from solvar.volume_file import read_volume
from solvar.volumes import Targets, VolumeSettings, reconstruct


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of two states with their truth, and a finished run on it."""
    folder = tmp_path_factory.mktemp("states")
    settings = SimulationSettings(
        heterogeneity="discrete",
        states=2,
        box_size=32,
        pixel_size=5.0,
        particles=1200,
        snr=0.3,
        seed=4,
    )
    simulate(settings).write(folder)
    run = folder / "run"
    particles = read_particles(folder / "particles.star")
    run_job(particles, FitSettings(rank=2, mask=folder / "mask.mrc"), run)
    return folder, run


def _states(folder: Path, run: Run) -> Targets:
    truth = Truth.load(folder)
    assert truth.state is not None
    z = [run.posterior.z[truth.state == s].mean(axis=0) for s in (0, 1)]
    return Targets(np.array(z), ("000", "001"))


def _agreement(folder: Path, made: Path, name: str, state: str) -> float:
    truth = Truth.load(folder)
    mask = truth.mask
    volumes = [read_volume(path)[0] * mask for path in (made / f"{name}.mrc", truth.volumes[state])]
    return float(mean_fsc(*volumes, 16)[1:].mean())


@pytest.mark.parametrize("method", ["kernel", "reproject", "subset"])
def test_each_state_resembles_its_own_truth_most(finished, tmp_path: Path, method: str) -> None:
    folder, run_folder = finished
    run = Run(run_folder)
    records = reconstruct(run, _states(folder, run), tmp_path, VolumeSettings(method=method))
    for own, other in (("000", "001"), ("001", "000")):
        right, wrong = (_agreement(folder, tmp_path, own, state) for state in (own, other))
        assert right > 0.8
        assert right > wrong + 0.02
    table = json.loads((tmp_path / "volumes.json").read_text())
    assert [record["name"] for record in table["volumes"]] == ["000", "001"]
    assert all((tmp_path / file).is_file() for record in records for file in record["files"])
    if method != "reproject":
        assert all(5 < record["resolution_angstrom"] < 40 for record in records)
        halves = [read_volume(tmp_path / f"000_half{h}.mrc")[0] for h in (1, 2)]
        assert mean_fsc(*halves, 16)[3] > 0.7


def test_kernel_regression_is_no_worse_than_the_model_it_corrects(finished, tmp_path: Path) -> None:
    folder, run_folder = finished
    run = Run(run_folder)
    found = {}
    for method in ("kernel", "reproject"):
        reconstruct(run, _states(folder, run), tmp_path / method, VolumeSettings(method=method))
        found[method] = np.mean(
            [_agreement(folder, tmp_path / method, s, s) for s in ("000", "001")]
        )
    assert found["kernel"] > found["reproject"] - 0.002


def test_what_the_model_lacks_comes_from_the_images(finished, tmp_path: Path) -> None:
    # a run whose eigenvolumes are blank: only the residual can tell the states apart
    folder, run_folder = finished
    run = Run(run_folder)
    targets = _states(folder, run)
    truth = Truth.load(folder)
    assert truth.state is not None
    blank = Run(run_folder)
    blank.model = replace(run.model, eigenvolumes=np.zeros_like(run.model.eigenvolumes))
    reconstruct(blank, targets, tmp_path)
    for own, other in (("000", "001"), ("001", "000")):
        assert (
            _agreement(folder, tmp_path, own, own) > _agreement(folder, tmp_path, own, other) + 0.01
        )


def test_particles_of_another_file_are_matched_by_identity(finished, tmp_path: Path) -> None:
    folder, run_folder = finished
    run = Run(run_folder)
    particles = read_particles(folder / "particles.star")
    shuffled = particles.select(np.random.default_rng(1).permutation(len(particles)))
    targets = _states(folder, run)
    for name, given in (("plain", None), ("shuffled", shuffled)):
        reconstruct(run, targets, tmp_path / name, particles=given)
    for file in ("000.mrc", "000_half1.mrc"):
        first, second = (read_volume(tmp_path / n / file)[0] for n in ("plain", "shuffled"))
        np.testing.assert_allclose(first, second, atol=1e-5 * np.abs(first).max())
    with pytest.raises(InputError, match="first of them row 1 "):
        reconstruct(
            run, targets, tmp_path / "short", particles=particles.select(np.arange(1, 1200))
        )
    assert not (tmp_path / "short").exists()


def test_volumes_of_a_run_on_a_gpu_are_made_without_it(finished, tmp_path: Path) -> None:
    folder, run_folder = finished
    run = Run(run_folder)
    run.record["settings"] |= {"backend": "torch", "device": "cuda:77"}
    assert run.settings.device == "cuda:77"
    reconstruct(run, _states(folder, run), tmp_path, VolumeSettings(method="subset"))
    assert (tmp_path / "000.mrc").exists()
