"""Submissions to the Cryo-EM Heterogeneity Challenge: what its code reads, whom the maps stand for."""

import glob
import json
import os
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from solvar.cli.export import app
from solvar.errors import InputError
from solvar.export import ExportOptions, challenge, export
from solvar.export.job import export_to
from solvar.volume_file import read_volume, write_volume
from synthetic import make_fit
from written import written

COUNT, SHARE = 400, 0.7
SPREAD = 0.3  # of either state, in standard deviations of the prior
ERROR = 0.8  # of what one image says of a latent, in the same unit


def make_run(folder, count=COUNT, reliable=(True, True, False)):
    """Molecules in two states that lie apart in component 1, seen with errors, and shrunk by the prior."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    fit = make_fit(folder, rank=3, count=count)
    deviation = np.sqrt(fit.model.eigenvalues)
    centre = np.where(np.arange(count) < SHARE * count, 0.9, -2.1)
    true = np.stack([centre, np.zeros(count), np.zeros(count)], axis=1)
    true += SPREAD * rng.standard_normal(true.shape)
    seen = true + ERROR * rng.standard_normal(true.shape)
    precision = 1 + 1 / ERROR**2
    posterior = replace(
        fit.posterior,
        z=seen / ERROR**2 / precision * deviation,
        precision=np.tile(np.diag(precision / deviation**2), (count, 1, 1)),
    )
    validation = replace(fit.validation, reliable=np.array(reliable))
    run = written(folder / "run", replace(fit, posterior=posterior, validation=validation))
    return run, true * deviation


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("challenge")
    run, true = make_run(folder)
    return run, true, export(run, "challenge", folder / "out").files


def test_the_challenge_finds_what_its_configuration_says(made, monkeypatch, tmp_path):
    """The rules of its `run_preprocessing`, written anew: keys, files, numbers, grids."""
    run, _, paths = made
    out = paths[0].parent
    monkeypatch.chdir(tmp_path)
    assert sorted(out.iterdir()) == sorted(paths)
    start = json.loads((out / "run_preproc_config.yaml").read_text())
    # its models forbid keys that they do not know
    assert set(start) <= {
        *("output_path", "path_to_submissions_config", "path_to_reference_config"),
        "BOTAlign_params",
    }
    assert start["BOTAlign_params"]["loss_type"] in ("wemd", "euclidean") and start["output_path"]
    reference = json.loads(Path(start["path_to_reference_config"]).read_text())
    assert set(reference) == {"path_to_reference_volume", "box_size", "voxel_size"}
    assert reference["path_to_reference_volume"].endswith(".mrc")
    (told,) = json.loads(Path(start["path_to_submissions_config"]).read_text())
    types = {
        **dict.fromkeys(("path_to_volumes", "path_to_populations_file", "submission_name"), str),
        **dict.fromkeys(("submission_version", "ice_cream_flavor"), str),
        **dict.fromkeys(("voxel_size", "threshold_percentile"), float),
        **dict.fromkeys(("flip_handedness", "align"), bool),
        "box_size": int,
    }
    assert {key: type(value) for key, value in told.items()} == types
    maps = [p for p in glob.glob(os.path.join(told["path_to_volumes"], "*.mrc")) if "mask" not in p]
    assert [Path(p).name for p in sorted(maps)] == [f"{n:02d}.mrc" for n in range(1, 81)]
    volumes = np.empty((80, *[told["box_size"]] * 3), np.float32)
    for place, path in enumerate([*sorted(maps), reference["path_to_reference_volume"]]):
        with mrcfile.open(path) as file:
            volumes[place % 80] = file.data
            assert file.voxel_size.x == pytest.approx(told["voxel_size"])
    population = np.loadtxt(told["path_to_populations_file"])
    assert population.shape == (80,) and population.min() > 0
    assert np.isclose(population.sum(), 1)
    # a voxel larger than that of the reference is refused
    assert told["voxel_size"] <= reference["voxel_size"] == run.pixel_size_angstrom
    assert told["box_size"] == reference["box_size"]


def latents(run, paths):
    """Latents (80, 3) of the maps, by projection on the eigenvolumes; and what lies beside these."""
    away = np.stack([read_volume(path)[0] for path in paths[:80]]) - run.model.mean
    found = np.tensordot(away, run.model.eigenvolumes, axes=([1, 2, 3], [1, 2, 3]))
    return found, away - np.tensordot(found, run.model.eigenvolumes, axes=1)


def test_maps_are_the_mean_and_real_components_alone(made):
    run, _, paths = made
    z, rest = latents(run, paths)
    assert np.ptp(z[:, 0]) > 10 and np.ptp(z[:, 1]) > 1
    np.testing.assert_allclose(z[:, 2], 0, atol=1e-4)
    np.testing.assert_allclose(rest, 0, atol=1e-5)
    assert (np.diff(z[:, 0]) >= 0).all()


def test_populations_are_those_of_the_molecules(made):
    run, true, paths = made
    z, _ = latents(run, paths)
    population = np.loadtxt(paths[80])
    assert population[z[:, 0] > -0.6 * 10].sum() == pytest.approx(SHARE, abs=0.03)
    # neither drawn together by the prior nor scattered by noise
    mean = population @ z
    spread = np.sqrt(population @ (z - mean) ** 2)[:2]
    wanted, raw = true.std(axis=0)[:2], run.posterior.z.std(axis=0)[:2]
    assert spread[0] == pytest.approx(wanted[0], rel=0.05)
    assert (np.abs(spread - wanted) < 0.5 * np.abs(raw - wanted)).all()


def test_the_same_run_makes_the_same_submission_by_command(made, tmp_path, monkeypatch):
    run, _, paths = made
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [str(run.folder), "--to", "challenge", "-o", "out"])
    assert result.stdout == "Wrote 84 files in out\n"
    for path in paths[:81]:
        # a header holds the time
        kept = slice(1024 if path.suffix == ".mrc" else 0, None)
        assert (tmp_path / "out" / path.name).read_bytes()[kept] == path.read_bytes()[kept]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 79}, "has 79 particles, too few for 80 maps.*; export a run on at least 80"),
        ({"reliable": (False,) * 3}, "has no real component.*; repeat the run with more"),
    ],
)
def test_runs_that_tell_no_population_are_refused(tmp_path, options, words):
    run, _ = make_run(tmp_path / "made", **options)
    with pytest.raises(InputError, match=words):
        export(run, "challenge", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["unmasked", "a[1]"])
def test_folders_that_the_challenge_cannot_read_are_refused(made, tmp_path, name):
    with pytest.raises(InputError, match=r"finds no maps.*choose another --output"):
        export(made[0], "challenge", tmp_path / name)
    assert not list(tmp_path.rglob("*.mrc"))


def test_a_map_of_somebody_else_would_count_and_is_refused(made, tmp_path):
    run = made[0]
    write_volume(tmp_path / "own_mask.mrc", run.model.mask, 3.0)
    export(run, "challenge", tmp_path)
    write_volume(tmp_path / "own.mrc", run.model.mean, 3.0)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"holds own\.mrc, which would count"):
        export(run, "challenge", tmp_path, ExportOptions(overwrite=True))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_inputs_and_earlier_submissions_stay(made, tmp_path):
    run, _, paths = made
    before = paths[0].read_bytes()
    with pytest.raises(InputError, match=r"01\.mrc: is there already"):
        export(run, "challenge", paths[0].parent)
    assert paths[0].read_bytes() == before
    with pytest.raises(InputError, match="would count as a map"):
        export(run, "challenge", run.folder)
    assert not (run.folder / "populations.txt").exists()


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def _without_last_row(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))


def _coarser(path):
    write_volume(path, read_volume(path)[0], 3.1)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("80.mrc", _cut, r"80\.mrc: was not written"),
        ("07.mrc", _coarser, r"07\.mrc: was not written: is not on the grid"),
        ("populations.txt", _without_last_row, "does not hold 80 shares of 1"),
    ],
)
def test_what_the_challenge_would_not_read_is_not_written(made, tmp_path, name, damage, words):
    def damaged(job):
        writers = dict(challenge.files(job))
        write = writers[name]
        writers[name] = lambda path: (write(path), damage(path))
        return writers

    target = replace(challenge.TARGET, files=damaged)
    with pytest.raises(InputError, match=words):
        export_to(target, made[0], tmp_path / "out", ExportOptions())
    assert not (tmp_path / "out").exists()
