"""Volumes of sets hold exactly their particles."""

import numpy as np
import pytest
from typer.testing import CliRunner

from solvar.analysis import AnalysisSettings, analyze, write_analysis
from solvar.cli.main import app
from solvar.errors import InputError
from solvar.files import owned
from solvar.fitting.settings import FitSettings
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.results.run import Run
from solvar.volume_file import read_volume
from solvar.volumes import reconstruct
from solvar.volumes.sets import labelled, selected
from solvar.volumes.targets import Targets


@pytest.fixture(scope="module")
def run(simulated, tmp_path_factory):
    folder = simulated(
        particles=300, box_size=24, pixel_size=8.0, snr=1.0, heterogeneity="discrete", states=2
    )
    place = tmp_path_factory.mktemp("sets") / "run"
    settings = FitSettings(rank=1, mask=folder / "mask.mrc", threads=2)
    run_job(read_particles(folder / "particles.star"), settings, place)
    found = Run(place)
    with owned(place, "test") as own:
        write_analysis(found, own, analyze(found, AnalysisSettings(clusters=2)))
    return Run(place), folder


def test_a_cluster_is_reconstructed_from_all_of_its_particles(run, tmp_path):
    found, folder = run
    targets = labelled(found, "cluster", [])
    assert targets.name == ("cluster_001", "cluster_002")
    records = reconstruct(found, targets, tmp_path / "out")
    sizes = [len(index) for index in targets.members]
    assert [record["particles"] for record in records] == sizes and sum(sizes) == 300
    assert [record["effective_particles"] for record in records] == sizes
    truth = np.load(folder / "gt.npz")["state"]
    volumes = [read_volume(path)[0] for path in sorted((folder / "vols").glob("*.mrc"))]
    for name, index in zip(targets.name, targets.members, strict=True):
        made, _ = read_volume(tmp_path / "out" / f"{name}.mrc")
        state = np.bincount(truth[index]).argmax()
        near = [fourier_shell_correlation(made, other, 9)[1:].mean() for other in volumes]
        assert int(np.argmax(near)) == state
        # its z is the mean of its particles
        np.testing.assert_allclose(
            targets.z[targets.name.index(name)], found.posterior.z[index].mean(axis=0)
        )


def test_a_selection_is_found_by_its_name_or_file(run, tmp_path):
    found, _ = run
    rows = np.arange(0, 300, 3)
    folder = found.folder / "selections"
    folder.mkdir(exist_ok=True)
    np.save(folder / "third.npy", rows)
    np.savetxt(tmp_path / "mine.txt", rows[:50], fmt="%d")
    np.testing.assert_array_equal(selected(found, "third").members[0], rows)
    assert selected(found, str(tmp_path / "mine.txt")).name == ("mine",)
    with pytest.raises(InputError, match="no selection 'fourth'"):
        selected(found, "fourth")


def test_a_set_too_small_for_half_maps_is_refused(run, tmp_path):
    found, _ = run
    few = Targets(np.zeros((1, found.rank)), ("few",), "selection", (np.arange(6),))
    with pytest.raises(InputError, match="in one half-set"):
        reconstruct(found, few, tmp_path / "few")
    assert not list(tmp_path.glob("few/*.mrc"))


def test_sets_and_points_exclude_each_other(run):
    found, _ = run
    for other in (["--at", "0"], ["--clusters", "2"], ["--state", "1"]):
        result = CliRunner().invoke(app, ["volume", str(found.folder), "--cluster", "1", *other])
        assert result.exit_code == 2 and "exclude each other" in result.stderr
    result = CliRunner().invoke(app, ["volume", str(found.folder), "--cluster", "9"])
    assert result.exit_code == 2 and "there is no cluster 9" in result.stderr
