"""Outputs remove and replace what solvar wrote there before, and nothing else."""

from __future__ import annotations

import os

import pytest

from export.runs import run_on
from particles import particle_files as files
from solvar.cli.demo import _make_room
from solvar.errors import InputError
from solvar.fitting.settings import FitSettings
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.results.writer import RUN, check_folder, run_folder
from solvar.simulation import SimulationSettings, simulate
from solvar.simulation.writing import simulation_folder
from synthetic import make_fit
from written import written


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["mask.mrc", "particles.star", "eigenvolume_001.mrc", "poses.pkl"])
def test_a_run_takes_no_file_of_another_program_for_its_own(tmp_path, name, overwrite):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"{name}: has the name of a result, but solvar did not"):
        check_folder(tmp_path, overwrite)
    assert (tmp_path / name).read_text() == "mine"


def test_what_an_interrupted_run_left_may_be_replaced(tmp_path):
    with pytest.raises(KeyboardInterrupt), run_folder(tmp_path) as own:
        own.file(RUN, "mean.mrc").touch()
        raise KeyboardInterrupt
    check_folder(tmp_path)


@pytest.mark.parametrize("through_link", [False, True])
def test_a_run_never_replaces_its_own_input(tmp_path, through_link):
    run, _ = run_on("relion31", tmp_path)
    path = run.folder / "particles.star"
    path.write_text(path.read_text().replace("@stack", "@../../stack"))
    particles, before = read_particles(path), path.read_bytes()
    output = run.folder
    if through_link:
        output = tmp_path / "link"
        output.symlink_to(run.folder)
    with pytest.raises(InputError, match=r"particles\.star: is an input of this run"):
        run_job(particles, FitSettings(rank=1), output, overwrite=True)
    mask = FitSettings(rank=1, mask=run.folder / "mask.mrc")
    with pytest.raises(InputError, match=r"mask\.mrc: is an input of this run"):
        run_job(read_particles(tmp_path / "particles.star"), mask, output, overwrite=True)
    assert path.read_bytes() == before and (run.folder / "run.json").exists()


def test_overwriting_keeps_files_with_similar_names_and_what_links_point_to(tmp_path):
    fit, folder = make_fit(tmp_path, rank=2), tmp_path / "run"
    written(folder, fit)
    (folder / "figures").mkdir()
    kept = ["mean_of_mine.mrc", "eigenvolume_best.mrc", "figures/mine.png", "notes.txt"]
    for name in kept:
        (folder / name).write_text("mine")
    target = tmp_path / "elsewhere.mrc"
    target.write_text("mine")
    (folder / "mean.mrc").unlink()
    (folder / "mean.mrc").symlink_to(target)
    written(folder, fit)
    assert [(folder / name).read_text() for name in kept] == ["mine"] * len(kept)
    assert target.read_text() == "mine" and not (folder / "mean.mrc").is_symlink()


def test_an_output_that_is_a_dead_link_is_explained(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be written to"):
        check_folder(tmp_path / "link")


def test_a_demonstration_removes_nothing(tmp_path):
    """It used to empty `particles` and `run` in whatever folder it was given."""
    (tmp_path / "particles").mkdir()
    (tmp_path / "particles" / "particles.mrcs").write_text("months of work")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"particles\.mrcs"):
            _make_room(tmp_path, overwrite)
    os.rename(tmp_path / "particles", tmp_path / "safe")
    _make_room(tmp_path, True)
    assert (tmp_path / "safe" / "particles.mrcs").read_text() == "months of work"
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"


def test_a_simulation_replaces_simulations_alone(tmp_path):
    files.write_star31(tmp_path)
    for overwrite in (False, True):
        with (
            pytest.raises(InputError, match="solvar did not write it"),
            simulation_folder(tmp_path, overwrite),
        ):
            pass
    made = simulate(SimulationSettings(particles=20, box_size=16, snr=0.5))
    made.write(tmp_path / "own")
    with pytest.raises(InputError, match=r"already holds gt\.npz"):
        made.write(tmp_path / "own")
    made.write(tmp_path / "own", overwrite=True)
