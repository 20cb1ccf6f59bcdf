"""Stopped at any moment, a run goes on and ends with the numbers of one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from solvar.cli.main import app
from solvar.errors import InputError
from solvar.files import Shelf
from solvar.fitting.settings import FitSettings
from solvar.job import run_job
from solvar.particles import read_particles
from solvar.results import checkpoint as module
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate

SETTINGS = {
    "plain": {"rank": 2},
    "poses": {"rank": 2, "refine_pose": True},
    "poses, adam": {"rank": 2, "refine_pose": True, "pose_solver": "adam"},
    "no half-sets": {"rank": 2, "halfsets": False},
    "on disk": {"rank": 2, "lazy": True},
    "junk": {"rank": 2},
    "junk, poses": {"rank": 2, "refine_pose": True},
    "tilt contrasts": {"rank": 1, "tilt_contrast": True},
    "adam": {"rank": 1, "solver": "adam", "resolution": 40.0},
}
_TILTS = SimulationSettings(
    particles=60, box_size=16, pixel_size=12.0, snr=0.2, heterogeneity="discrete", states=2, tilts=5
)  # fmt: skip


class _Cut(Exception):
    """The lights go out."""


def _same(first: Run, second: Run) -> None:
    for name in ("mean", "eigenvolumes", "eigenvalues"):
        np.testing.assert_array_equal(getattr(first.model, name), getattr(second.model, name))
    for name in ("z", "precision", "contrast", "log_likelihood"):
        np.testing.assert_array_equal(
            getattr(first.posterior, name), getattr(second.posterior, name)
        )
    np.testing.assert_array_equal(first.particle_probability, second.particle_probability)
    for name in ("rotation", "shift_angstrom"):
        np.testing.assert_array_equal(first.particles[name], second.particles[name])
    tilts = (
        each.with_own_tilts(each.read_input(), each.particles["row"]) for each in (first, second)
    )
    one, other = (each.exposures.contrast for each in tilts)
    assert (one is None and other is None) or np.array_equal(one, other)
    for name, values in first.history.items():
        np.testing.assert_array_equal(values, second.history[name])


# their steps are those of the others, one after the other
_LONG = ("plain", "adam", "poses", "poses, adam", "junk", "junk, poses", "no half-sets")
_CASES = [pytest.param(case, marks=pytest.mark.slow if case in _LONG else ()) for case in SETTINGS]


@pytest.mark.parametrize("case", _CASES)
def test_a_run_that_is_cut_again_and_again_ends_the_same(
    tiny_stack: Path, soiled_stack: tuple[Path, np.ndarray], tmp_path: Path, monkeypatch, case: str
) -> None:
    folder = soiled_stack[0] if "junk" in case else tiny_stack
    particles = read_particles(folder / "particles_noisy.star")
    if "tilt" in case:
        particles = read_particles(simulate(_TILTS).write(tmp_path / "tilts"))
    settings = FitSettings(**SETTINGS[case])
    if settings.lazy:
        # arrays of any size wait on the shelf, as those of a large box do
        monkeypatch.setattr(Shelf.__init__, "__defaults__", (None, 1))
    monkeypatch.setattr("solvar.job.draw_figures", lambda run, own, progress: None)
    monkeypatch.setattr(module, "_SHARE", 1e9)  # keep every sweep
    whole = run_job(particles, settings, tmp_path / "whole")
    written, write = 0, module.write_tree

    def cut_after_two(path: Path, content: object, run_id: str) -> None:
        nonlocal written
        write(path, content, run_id)
        written += 1
        if written % 2 == 0:
            raise _Cut

    monkeypatch.setattr(module, "write_tree", cut_after_two)
    cuts = 0
    while True:
        try:
            again = run_job(particles, settings, tmp_path / "cut", resume=True)
            break
        except _Cut:
            cuts += 1
            assert not (tmp_path / "cut" / "run.json").exists()
    assert cuts >= 4
    _same(whole, again)
    assert not (tmp_path / "cut" / "checkpoint").exists()
    _same(whole, run_job(particles, settings, tmp_path / "cut", resume=True))
    with pytest.raises(InputError, match="--seed was 0, now it is 5"):
        changed = settings.model_copy(update={"seed": 5})
        run_job(particles, changed, tmp_path / "cut", resume=True)


def test_an_interrupted_run_is_neither_lost_nor_taken_for_another(tiny_stack, tmp_path) -> None:
    particles, folder = read_particles(tiny_stack / "particles.star"), tmp_path / "run"
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "checkpoint" / "mean.npz").write_bytes(b"")
    with pytest.raises(InputError, match="interrupted; pass --resume"):
        run_job(particles, FitSettings(rank=2), folder)
    found = CliRunner().invoke(
        app, ["run", str(tiny_stack / "particles.star"), "-o", str(folder), "--rank", "2"]
    )
    assert found.exit_code == 2 and (folder / "checkpoint" / "mean.npz").exists()


def _start(tiny_stack: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "solvar", "run", str(tiny_stack / "particles_noisy.star")]
    line += ["-o", str(folder), "--rank", "3", "--refine-pose", "--threads", "1", *options]
    return subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _wait_for_checkpoint(folder: Path, program: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not any((folder / "checkpoint").glob("*.npz")):
        assert program.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_sigterm_leaves_a_checkpoint_and_kill_nothing_broken(tiny_stack, tmp_path) -> None:
    folder = tmp_path / "run"
    program = _start(tiny_stack, folder)
    _wait_for_checkpoint(folder, program)
    program.send_signal(signal.SIGTERM)
    _, said = program.communicate(timeout=60)
    assert program.returncode == 143 and "--resume" in said and "Traceback" not in said
    program = _start(tiny_stack, folder, "--resume")
    time.sleep(2.0)
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
    assert not (folder / "run.json").exists()
    program = _start(tiny_stack, folder, "--resume")
    program.communicate(timeout=120)
    assert program.returncode == 0
    assert Run(folder).particle_count == 400
    assert not list(folder.rglob("*.partial*")) and not (folder / "checkpoint").exists()
