"""Ab initio as a job: from a file without poses to a run folder, and what is said where nothing is found."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mrcfile
import numpy as np
import pytest
import starfile
from typer.testing import CliRunner

from other_formats import write_cryodrgn, write_cryosparc
from solvar.cli.main import app
from solvar.errors import InputError
from solvar.estimation.abinitio import Placed, Stage, Start
from solvar.evaluation import evaluate
from solvar.evaluation.frame import Placement
from solvar.evaluation.truth import Truth
from solvar.fitting import abinitio
from solvar.fitting.fit import fit
from solvar.fitting.junk import weight_anywhere
from solvar.fitting.settings import FitSettings
from solvar.imaging import rotations
from solvar.imaging.frames import frame_between, mirrored
from solvar.imaging.masks import default_mask
from solvar.imaging.point_groups import PointGroup
from solvar.parallel import OneProcess
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


def test_particles_of_2d_classes_are_read_and_else_the_way_is_named(tiny_stack, tmp_path) -> None:
    whole = read_particles(tiny_stack / "particles.star")
    path = tmp_path / "classes.cs"
    write_cryosparc(whole, path)
    table = np.load(path)
    plane = [*table.dtype.descr, ("alignments2D/pose", "f4"), ("alignments2D/class", "u4")]
    kept = [each for each in plane if not each[0].startswith("alignments3D")]
    classes = np.zeros(len(table), kept)
    for name in set(classes.dtype.names) & set(table.dtype.names):
        classes[name] = table[name]
    with path.open("wb") as stream:
        np.save(stream, classes)
    assert len(read_particles(path, ignore_poses=True, datadir=tiny_stack)) == len(whole)
    with pytest.raises(InputError, match="solvar abinitio"):
        read_particles(path, datadir=tiny_stack)


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


def _context(count: int, monstrous: int) -> Any:
    """As much of one as weights ask for: some particles stand out by the power of their images."""
    weight = np.ones(count)
    weight[:monstrous] = 0
    images = np.empty(count)
    return SimpleNamespace(
        images=type(
            "Images",
            (),
            {"__len__": lambda _: len(images), "weight": weight, "processes": OneProcess()},
        )()
    )


def _evidence(particles: int, empty: int) -> np.ndarray:
    """Of images with a particle and then of some without, nats."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(20, 8, particles), rng.normal(-10, 3, empty)])


def test_images_that_show_nothing_at_any_pose_weigh_nothing() -> None:
    weight = weight_anywhere(_context(1000, 5), _evidence(800, 200))
    assert (weight[:5] == 0).all()
    assert (weight[5:800] > 0.5).mean() > 0.98 and (weight[800:] < 0.5).mean() > 0.97


def test_where_all_images_show_a_particle_every_weight_stays_one() -> None:
    weight = weight_anywhere(_context(1000, 0), _evidence(1000, 0))
    assert (weight == 1).all()


def test_only_those_that_were_looked_for_are_judged() -> None:
    evidence = np.zeros(1000)
    index = np.arange(0, 1000, 2)
    evidence[index] = _evidence(400, 100)
    weight = weight_anywhere(_context(1000, 0), evidence, index)
    assert (weight[1::2] == 1).all() and (weight[index[400:]] < 0.5).mean() > 0.97


def test_starts_agree_by_images_that_show_the_molecule() -> None:
    """Half of the judges show nothing: their poses are anything, and take no agreement away."""
    rng = np.random.default_rng(1)
    rotation, other = rotations.random(300, rng), rotations.random(300, rng)
    # of those that show it the starts put a third at the same pose, and none of the others
    same = np.arange(300) < 50
    second = np.where(same[:, None, None], rotation, other)
    starts = [
        Start(
            np.zeros(1),
            SimpleNamespace(volume=np.zeros(1)),
            Placed(each, np.zeros((300, 2)), told),
            np.eye(3),
        )
        for each, told in ((rotation, _evidence(150, 150)), (second, _evidence(150, 150) - 1))
    ]
    found = abinitio.summary(
        SimpleNamespace(starts=starts, inverted=False, consensus=np.zeros(1)),
        PointGroup.named("C1"),
    )
    assert found.shared[1] > 0.3 and found.settled
    none = [
        replace(each, judged=replace(each.judged, evidence=_evidence(0, 300))) for each in starts
    ]
    found = abinitio.summary(
        SimpleNamespace(starts=none, inverted=False, consensus=np.zeros(1)), PointGroup.named("C1")
    )
    assert not found.is_molecule and not found.settled


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
def test_empty_images_are_told_and_hold_nobody(simulated, tmp_path: Path) -> None:
    folder = simulated(particles=1000, box_size=32, snr=0.5, heterogeneity="rigid", pixel_size=6.0)
    shutil.copytree(folder, tmp_path / "set")
    rng = np.random.default_rng(0)
    with mrcfile.open(tmp_path / "set" / "particles.mrcs", "r+") as stack:
        junk = rng.permutation(len(stack.data)) < 0.3 * len(stack.data)
        stack.data[junk] = rng.standard_normal(stack.data[junk].shape)
    particles = read_particles(tmp_path / "set" / "particles.star", ignore_poses=True)
    found = fit(particles, FitSettings(rank=2, ab_initio=True))
    probability = found.particle_probability
    assert (probability[junk] < 0.5).mean() > 0.9 and (probability[~junk] > 0.5).mean() > 0.95
    true = read_particles(folder / "particles.star").poses.rotation
    frame = frame_between(found.particles.poses.rotation[~junk], true[~junk])
    assert np.rad2deg(np.median(frame.angle)) < 8


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
