"""Volumes of a fitted run against the truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from solvar.errors import InputError
from solvar.evaluation import Truth
from solvar.fitting.settings import FitSettings
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate
from solvar.volume_file import read_volume
from solvar.volumes import Targets, VolumeSettings, reconstruct
from solvar.volumes.neighbours import ellipsoid_distances


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
    return float(fourier_shell_correlation(*volumes, 16)[1:].mean())


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
        mask = run.model.mask
        halves = [mask * read_volume(tmp_path / f"000_half{h}.mrc")[0] for h in (1, 2)]
        assert fourier_shell_correlation(*halves, 16)[3] > 0.7


def test_volumes_at_the_original_box_overlay_those_of_a_downsampled_run(
    finished, tmp_path: Path
) -> None:
    folder, _ = finished
    particles = read_particles(folder / "particles.star")
    settings = FitSettings(rank=1, mask=folder / "mask.mrc", downsample=24)
    run_job(particles, settings, tmp_path / "run")
    run = Run(tmp_path / "run")
    targets = Targets(np.zeros((1, 1)), ("middle",))
    for name, given in (("small", None), ("large", particles)):
        reconstruct(run, targets, tmp_path / name, particles=given)
    placed = {}
    for name in ("run/mean.mrc", "small/middle.mrc", "large/middle.mrc"):
        with mrcfile.open(tmp_path / name) as file:
            box, pixel_size = file.data.shape[0], float(file.voxel_size.x)
            origin = float(file.header.origin.x)
        volume = np.maximum(read_volume(tmp_path / name)[0], 0).astype(np.float64)
        axis = origin + np.arange(box) * pixel_size
        # x of the molecule in Å, as a viewer would place it
        placed[name] = (volume.sum(axis=(0, 1)) @ axis) / volume.sum()
        assert box * pixel_size == pytest.approx(160, rel=1e-4)
        assert origin + box // 2 * pixel_size == pytest.approx(80, rel=1e-4)
    assert np.ptp(list(placed.values())) < 1.0


def test_a_pixel_size_of_its_own_scales_header_and_resolution(finished, tmp_path: Path) -> None:
    folder, run_folder = finished
    run = Run(run_folder)
    targets = _states(folder, run)
    plain = reconstruct(run, targets, tmp_path / "plain")
    scaled = reconstruct(run, targets, tmp_path / "scaled", VolumeSettings(voxel_size=5.5))
    for before, after in zip(plain, scaled, strict=True):
        assert after["resolution_angstrom"] == pytest.approx(1.1 * before["resolution_angstrom"])
    first, second = (read_volume(tmp_path / n / "000.mrc") for n in ("plain", "scaled"))
    np.testing.assert_array_equal(first[0], second[0])
    assert second[1] == pytest.approx(5.5)
    assert json.loads((tmp_path / "scaled/volumes.json").read_text())["pixel_size_angstrom"] == 5.5


@pytest.mark.parametrize("method", ["kernel", pytest.param("subset", marks=pytest.mark.slow)])
def test_a_run_with_a_resolution_limit_has_volumes_on_the_grid_of_its_own(
    finished, tmp_path: Path, method: str
) -> None:
    folder, _ = finished
    particles = read_particles(folder / "particles.star")
    settings = FitSettings(rank=1, mask=folder / "mask.mrc", resolution=20)
    run_job(particles, settings, tmp_path / "run")
    targets = Targets(np.zeros((1, 1)), ("middle",))
    (record,) = reconstruct(
        tmp_path / "run", targets, tmp_path / "v", VolumeSettings(method=method)
    )
    volume, pixel_size = read_volume(tmp_path / "v" / "middle.mrc")
    mean, _ = read_volume(tmp_path / "run" / "mean.mrc")
    assert volume.shape == mean.shape and pixel_size == pytest.approx(5.0)
    assert fourier_shell_correlation(volume, mean, 8)[1:].min() > 0.8
    assert record["resolution_angstrom"] >= 19.9


def test_an_ellipsoid_of_probability_chooses_more_particles_the_larger_it_is(
    finished, tmp_path: Path
) -> None:
    folder, run_folder = finished
    run = Run(run_folder)
    targets = _states(folder, run)
    known, used = run.posterior, []
    for probability in (1e-9, 0.5, 0.95):
        settings = VolumeSettings(method="subset", subset_probability=probability)
        (record, _) = reconstruct(run, targets, tmp_path, settings, overwrite=True)
        used.append(record["particles"])
    assert used[0] == 20  # the ten nearest of each half, when the ellipsoids hold nobody
    away = ellipsoid_distances(known.z, known.precision, targets.z[0])
    inside = away <= -2 * np.log(0.05)  # r = 2
    assert used[0] < used[1] < used[2] == inside.sum()


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
    with pytest.raises(InputError, match=r"first of them 000001@.* \(row 1 of "):
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
