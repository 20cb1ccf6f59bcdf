"""The whole program on a tiny stack: run, what the folder holds, evaluate, kill, the three formats."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import h5py
import mrcfile
import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from other_formats import write_cryodrgn, write_cryosparc
from solvar.cli.main import app
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.particles import Poses, read_particles
from solvar.results.run import Run

COUNT, BOX, APIX, RANK = 400, 24, 8.0, 2


def solvar_command(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def finished(tiny_stack, tmp_path_factory):
    """A run of the tiny stack by the command line, and what it printed."""
    folder = tmp_path_factory.mktemp("end") / "run"
    result = solvar_command(
        "run", tiny_stack / "particles.star", "-o", folder, "--rank", RANK,
        "--mask", tiny_stack / "mask.mrc",
    )  # fmt: skip
    return folder, result


def test_run_tells_what_it_found_and_where(finished):
    folder, result = finished
    mentioned = (str(folder / "mean.mrc"), str(folder / "report.html"))
    for words in ("component", "eigenvalue", "peak memory", *mentioned):
        assert words in result.stdout
    assert "Reading and whitening images: 400 images in" in result.stderr


def test_run_folder_is_as_documented(finished):
    folder, _ = finished
    with h5py.File(folder / "model.h5") as model:
        assert model["mean"].shape == (BOX,) * 3
        basis = model["eigenvolumes"][()].reshape(RANK, -1)
        np.testing.assert_allclose(basis @ basis.T, np.eye(RANK), atol=1e-4)
        eigenvalues = model["eigenvalues"][()]
        assert eigenvalues.shape == (RANK,) and np.all(np.diff(eigenvalues) <= 0)
        assert model["covariance_fsc"].ndim == 2
        assert model.attrs["pixel_size_angstrom"] == pytest.approx(APIX)
    with h5py.File(folder / "particles.h5") as particles:
        shapes = {name: column.shape for name, column in particles.items()}
    assert shapes == {
        "uid": (COUNT,), "row": (COUNT,), "z": (COUNT, RANK), "precision": (COUNT, RANK, RANK),
        "particle_probability": (COUNT,),
        "contrast": (COUNT,), "log_likelihood": (COUNT,), "rotation": (COUNT, 3, 3),
        "shift_angstrom": (COUNT, 2), "halfset": (COUNT,),
    }  # fmt: skip
    names = {path.name for path in folder.glob("*.mrc")}
    assert names == {
        "mean.mrc", "mean_half1.mrc", "mean_half2.mrc", "mask.mrc", "eigenvolume_001.mrc",
        "eigenvolume_002.mrc", "spatial_prior.mrc", "variance.mrc", "variance_error.mrc",
    }  # fmt: skip
    for name in names:
        with mrcfile.open(folder / name) as volume:
            assert volume.voxel_size.x == pytest.approx(APIX)
    assert len(list((folder / "figures").glob("*.png"))) == 7
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_star_file_keeps_the_input_rows_and_adds_latents(finished, tiny_stack):
    folder, _ = finished
    given = starfile.read(tiny_stack / "particles.star")["particles"]
    found = starfile.read(folder / "particles.star")["particles"]
    # names that are found from any folder
    names = given["rlnImageName"].str.replace("@", f"@{tiny_stack}/")
    assert list(found["rlnImageName"]) == list(names)
    np.testing.assert_allclose(
        found["solvarZ1"], Run(folder).posterior.z[:, 0], rtol=1e-3, atol=1e-3
    )


def test_log_says_what_was_done_and_that_it_finished(finished):
    lines = (finished[0] / "run.log").read_text().splitlines()
    assert "solvar 0." in lines[0]
    assert any("Placing every particle" in line for line in lines)
    assert lines[-1].endswith("finished")


def test_evaluate_finds_the_motion_in_the_latents(finished, tiny_stack):
    folder, _ = finished
    result = solvar_command("evaluate", folder, "--truth", tiny_stack, "--json")
    metrics = json.loads(result.stdout)
    assert metrics["mean"]["correlation"] > 0.98
    assert metrics["covariance"]["captured_variance"] > 0.75
    assert max(metrics["latents"]["knn_spearman"]) > 0.85
    assert "Captured variance" in solvar_command("evaluate", folder, "--truth", tiny_stack).stdout


def test_failed_figure_does_not_lose_the_run(tiny_stack, tmp_path, monkeypatch):
    from solvar.report import figures

    def fail(run, path):
        raise RuntimeError("no ink")

    monkeypatch.setitem(figures._FIGURES, "3_slices.png", fail)
    result = solvar_command(
        "run", tiny_stack / "particles.star", "-o", tmp_path / "run", "--rank", 1
    )
    assert "3_slices.png was not drawn (RuntimeError: no ink)" in result.stderr
    drawn = {path.name for path in Run(tmp_path / "run").figures}
    assert len(drawn) >= 5 and "3_slices.png" not in drawn
    assert {"2_motion.png", "4_latents.png"} <= drawn


def test_check_is_content_with_simulated_particles(tiny_stack):
    result = solvar_command("check", tiny_stack / "particles.star", "--rank", RANK, "--json")
    assert json.loads(result.stdout)["ok"] is True


def assert_same_particles(particles, other):
    np.testing.assert_allclose(other.poses.rotation, particles.poses.rotation, atol=2e-6)
    np.testing.assert_allclose(
        other.poses.shift_angstrom, particles.poses.shift_angstrom, atol=1e-4
    )
    for name in particles.exposures.ctf.columns:
        np.testing.assert_allclose(
            getattr(other.exposures.ctf, name),
            getattr(particles.exposures.ctf, name),
            rtol=1e-6,
            atol=1e-5,
        )


def test_three_formats_of_the_same_particles_give_the_same_result(tiny_stack, tmp_path):
    star = read_particles(tiny_stack / "particles.star")
    (tmp_path / "particles.mrcs").symlink_to(tiny_stack / "particles.mrcs")
    write_cryodrgn(star, tmp_path)
    write_cryosparc(star, tmp_path / "particles.cs")
    settings = FitSettings(rank=RANK)
    reference = fit(star, settings)
    sparc = read_particles(tmp_path / "particles.cs")
    drgn = read_particles(
        tmp_path / "particles.mrcs", poses=tmp_path / "poses.pkl", ctf=tmp_path / "ctf.pkl"
    )
    # cryoDRGN's files hold no half-sets
    for other in (sparc, replace(drgn, halfset=star.halfset)):
        assert_same_particles(star, other)
        found = fit(other, settings)
        np.testing.assert_allclose(found.model.eigenvalues, reference.model.eigenvalues, rtol=1e-3)
        scale = np.sqrt(reference.model.eigenvalues[0])
        np.testing.assert_allclose(found.posterior.z, reference.posterior.z, atol=5e-3 * scale)


def test_three_formats_of_the_reference_set_hold_the_same_particles(shared_data):
    folder = shared_data / "adk_64"
    star = read_particles(folder / "particles.star")
    sparc = read_particles(folder / "particles.cs")
    drgn = read_particles(
        folder / "particles.mrcs", poses=folder / "poses.pkl", ctf=folder / "ctf.pkl"
    )
    np.testing.assert_array_equal(sparc.halfset, star.halfset)
    for other in (sparc, drgn):
        assert_same_particles(star, other)
        np.testing.assert_array_equal(other.exposures.frame, star.exposures.frame)


@pytest.mark.slow
def test_reference_set_reaches_its_marks_from_every_format(shared_data, tmp_path):
    folder = shared_data / "adk_64"
    mask = ["--rank", 4, "--mask", folder / "mask.mrc"]
    pickles = ["--poses", folder / "poses.pkl", "--ctf", folder / "ctf.pkl"]
    files = {"particles.star": [], "particles.cs": [], "particles.mrcs": pickles}
    for name, extra in files.items():
        solvar_command("run", folder / name, *extra, "-o", tmp_path / name, *mask)
        metrics = json.loads(
            solvar_command("evaluate", tmp_path / name, "--truth", folder, "--json").stdout
        )
        assert metrics["covariance"]["captured_variance"] >= 0.85
        assert metrics["latents"]["knn_spearman"][0] >= 0.98
        assert metrics["contrast"]["correlation"] >= 0.75
    star, sparc = Run(tmp_path / "particles.star"), Run(tmp_path / "particles.cs")
    np.testing.assert_allclose(sparc.model.eigenvalues, star.model.eigenvalues, rtol=1e-3)
    np.testing.assert_allclose(sparc.posterior.z, star.posterior.z, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["Reading and whitening", "Eigenvolumes", "Final model"])
def test_killed_run_never_looks_finished(tiny_stack, tmp_path, moment):
    run = tmp_path / "run"
    program = subprocess.Popen(
        [
            sys.executable, "-m", "solvar", "run", tiny_stack / "particles.star",
            "-o", run, "--rank", "2",
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert program.stderr is not None
    for line in program.stderr:
        if line.startswith(moment):
            break
    os.kill(program.pid, signal.SIGKILL)
    program.stderr.close()
    assert program.wait() == -signal.SIGKILL, "the program ended before it was killed"
    # a hidden file is what an atomic write leaves of itself
    left = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert left - {"checkpoint"} == {"run.log", "manifest.json"}
    assert "finished" not in (run / "run.log").read_text()
    result = CliRunner().invoke(app, ["evaluate", str(run), "--truth", str(tiny_stack)])
    assert result.exit_code == 2 and "no finished run" in result.stderr


@pytest.mark.slow
def test_refined_poses_reach_every_file_and_the_tables(tiny_stack, tmp_path):
    folder = tmp_path / "run"
    result = solvar_command(
        "run", tiny_stack / "particles_noisy.star", "-o", folder, "--rank", 1, "--refine-pose",
    )  # fmt: skip
    assert "Refined poses" in result.stdout and "7_poses.png" in result.stdout
    run, given = Run(folder), read_particles(tiny_stack / "particles_noisy.star")
    assert len(run.figures) == 8
    np.testing.assert_allclose(run.pose_refinement.start.rotation, given.poses.rotation)
    refined = Poses(run.particles["rotation"], run.particles["shift_angstrom"])
    write_cryodrgn(given, tmp_path)
    star = read_particles(folder / "particles.star", datadir=tiny_stack)
    drgn = read_particles(
        tiny_stack / "particles.mrcs", poses=folder / "poses.pkl", ctf=tmp_path / "ctf.pkl"
    )
    for written in (star, drgn):
        np.testing.assert_allclose(written.poses.rotation, refined.rotation, atol=2e-6)
        np.testing.assert_allclose(written.poses.shift_angstrom, refined.shift_angstrom, atol=1e-4)
    metrics = json.loads(
        solvar_command("evaluate", folder, "--truth", tiny_stack, "--json").stdout
    )["poses"]
    assert metrics["shift_px"]["median"] < 0.5 * metrics["start"]["shift_px"]["median"]
    assert set(metrics["within_state"]) <= set(metrics)
    told = solvar_command("evaluate", folder, "--truth", tiny_stack).stdout
    assert "before" in told and "after" in told and "each state" in told
