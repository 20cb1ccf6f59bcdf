"""Ab initio as a job: from a file without poses to a run folder, and what is said where nothing is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from other_formats import write_cryodrgn
from solvar.cli.main import app
from solvar.errors import InputError
from solvar.estimation.abinitio import Stage
from solvar.evaluation import evaluate
from solvar.evaluation.frame import Placement
from solvar.evaluation.truth import Truth
from solvar.fitting import abinitio
from solvar.fitting.settings import FitSettings
from solvar.imaging.frames import mirrored
from solvar.imaging.masks import default_mask
from solvar.particles import Poses, read_particles
from solvar.results.run import Run
from solvar.volume_file import read_volume

ANGLES = ["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst"]


def without_poses(folder: Path) -> Path:
    """The star file of a simulated set as it comes from picking, beside its stacks."""
    blocks = starfile.read(folder / "particles.star", always_dict=True)
    blocks["particles"] = blocks["particles"].drop(columns=ANGLES)
    path = folder / "picked.star"
    starfile.write(blocks, path, overwrite=True)
    return path


def solvar_command(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_file_without_poses_is_read_where_poses_are_not_asked_for(tiny_stack: Path) -> None:
    path = without_poses(tiny_stack)
    with pytest.raises(InputError, match="rlnAngleRot"):
        read_particles(path)
    found, whole = (
        read_particles(path, ignore_poses=True),
        read_particles(tiny_stack / "particles.star"),
    )
    np.testing.assert_array_equal(found.uid, whole.uid)
    np.testing.assert_array_equal(found.poses.rotation, np.tile(np.eye(3), (len(found), 1, 1)))
    assert not found.poses.shift_angstrom.any()
    # given ones are left unread, too
    ignored = read_particles(tiny_stack / "particles.star", ignore_poses=True)
    np.testing.assert_array_equal(ignored.poses.rotation, found.poses.rotation)


def test_stack_with_ctfs_alone_is_enough(tiny_stack: Path, tmp_path: Path) -> None:
    whole = read_particles(tiny_stack / "particles.star")
    write_cryodrgn(whole, tmp_path)
    stack = tiny_stack / "particles.mrcs"
    found = read_particles(stack, ctf=tmp_path / "ctf.pkl", ignore_poses=True)
    assert len(found) == len(whole)
    with pytest.raises(InputError, match="does not hold CTFs"):
        read_particles(stack, ignore_poses=True)


def test_ab_initio_refines_and_its_command_offers_no_other_choice() -> None:
    assert FitSettings(ab_initio=True).refine_pose
    told = solvar_command("abinitio", "--help")
    assert "--starts" in told and "--refine-pose" not in told


def test_check_asks_nothing_about_poses_that_are_not_used(tiny_stack: Path) -> None:
    told = solvar_command("check", without_poses(tiny_stack), "--ab-initio", "--rank", 2)
    assert "solvar run" in told and "--ab-initio" in told


def test_placement_finds_how_a_mirrored_and_moved_estimate_lies(tiny_stack: Path) -> None:
    truth = Truth.load(tiny_stack)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    true = Poses(truth.rotation, truth.shift_angstrom)
    rotation = turn @ mirrored(truth.rotation)
    moved = np.einsum("nij,i->nj", rotation[:, :, :2], [3.0, -5.0, 4.0])
    own = Poses(rotation, truth.shift_angstrom + moved)
    back = Placement(own, true).poses(own)
    np.testing.assert_allclose(back.rotation, true.rotation, atol=1e-9)
    np.testing.assert_allclose(back.shift_angstrom, true.shift_angstrom, atol=1e-9)


@pytest.mark.parametrize(
    ("k_max", "shells"), [(31, [12, 16, 20, 26]), (18, [12, 16, 26]), (15, [12, 26]), (10, [26])]
)
def test_no_two_stages_end_at_the_finest_shell(k_max: int, shells: list[int]) -> None:
    assert [stage.k_c for stage in abinitio.finer_stages(k_max)] == shells


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few as good images of a small rigid molecule need."""
    start = Stage(8, 25, 60, 0.4, raised=2.0), Stage(10, 60, 60, 0.4, raised=2.0)
    monkeypatch.setattr(abinitio, "START", start)
    monkeypatch.setattr(abinitio, "FINER", (Stage(12, 30, 150, 0.2, draws=64),))


@pytest.mark.slow
@pytest.mark.usefixtures("few_steps")
def test_job_finds_poses_from_images_alone(simulated, tmp_path: Path) -> None:
    folder = simulated(particles=800, box_size=32, snr=1.0, heterogeneity="rigid", pixel_size=6.0)
    picked, out = without_poses(folder), tmp_path / "run"
    told = solvar_command("abinitio", picked, "-o", out, "--rank", 2)
    assert "starts agree" in " ".join(told.split())
    run = Run(out)
    assert run.ab_initio is not None and run.ab_initio.settled
    assert (out / "figures" / "8_consensus.png").is_file()
    assert "How the volume formed" in (out / "report.html").read_text(encoding="utf-8")
    found = evaluate(out, folder)
    assert found["poses"]["out_of_plane_degree"]["median"] < 6
    assert found["mean"]["correlation"] > 0.9
    # within a mask of its own, which leaves out most of the sphere and nothing of the molecule
    mask = read_volume(out / "mask.mrc")[0]
    assert mask.sum() < 0.7 * default_mask(32, 6.0).sum()
    mean = read_volume(out / "mean.mrc")[0]
    assert np.sum(mean[mask > 0.5] ** 2) > 0.95 * np.sum(mean**2)
    assert "mask that was made of them" in " ".join(told.split())
    star = tmp_path / "flipped.star"
    solvar_command("export", out, "--to", "relion", "-o", star, "--flip-hand")
    flipped = read_particles(star, datadir=folder)
    order = np.argsort(run.particles["row"])
    expected = mirrored(run.particles["rotation"][order])
    np.testing.assert_allclose(flipped.poses.rotation, expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("few_steps")
def test_noise_alone_is_said_to_hold_no_molecule(simulated, tmp_path: Path) -> None:
    folder = simulated(particles=600, box_size=32, snr=1e-5, heterogeneity="rigid", pixel_size=6.0)
    out = tmp_path / "run"
    told = solvar_command(
        "abinitio", folder / "particles.star", "-o", out, "--rank", 2, "--starts", 2
    )
    assert "No molecule was found" in " ".join(told.split())
    run = Run(out)
    assert run.validation is not None and not run.validation.reliable.any()
    assert run.summary()["rank"] == 2
