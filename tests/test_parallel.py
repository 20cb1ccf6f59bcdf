"""Several processes: the numbers of one, and an end when one of them dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from solvar import parallel
from solvar.errors import SolvarError
from solvar.fitting.settings import FitSettings
from solvar.job import run_job
from solvar.parallel import OneProcess, all_agreed, dealt, own_device
from solvar.particles import read_particles
from solvar.results.checkpoint import is_interrupted
from solvar.results.run import Run


class _Share(OneProcess):
    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


@pytest.mark.parametrize(("count", "size"), [(10, 1), (10, 3), (2, 5), (1000, 7)])
def test_every_particle_has_one_owner(count: int, size: int) -> None:
    halves = 1 + np.random.default_rng(0).integers(0, 2, count)
    owned = [dealt(halves, _Share(rank, size)) for rank in range(size)]
    assert all((np.diff(each) > 0).all() for each in owned)
    assert np.sort(np.concatenate(owned)).tolist() == list(range(count))
    if count > 100:  # every process has as many of each half, from every part of the file
        for each in owned:
            shares = [np.sum(halves[each] == half) for half in (1, 2)]
            assert max(shares) - min(shares) < 0.3 * max(shares)
            assert abs(each.mean() - count / 2) < count / 10


def test_decisions_are_those_of_the_first_process() -> None:
    first = np.array([1, 0, 1], np.int64)

    class Other(_Share):
        def sum(self, values):
            return values + first

    decided = all_agreed(np.array([False, True, True]), Other(1, 2))
    assert decided.tolist() == [True, False, True]


def test_each_process_takes_its_own_gpu(monkeypatch) -> None:
    assert own_device("cuda") == "cuda" and own_device("cpu") == "cpu"
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("cuda") == "cuda:3"
    assert own_device("cuda:1") == "cuda:1" and own_device("cpu") == "cpu"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_processes_that_do_not_meet_say_so_soon(monkeypatch, rank: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = str(unused.getsockname()[1])
    launch = {"WORLD_SIZE": "2", "RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    assert parallel._START < parallel._PATIENCE
    monkeypatch.setattr(parallel, "_START", timedelta(seconds=0.2))
    with pytest.raises(SolvarError, match=f"process {rank} of 2 did not meet .*:{port}.*torchrun"):
        parallel.join_processes()


def _torchrun(processes: int, stack: Path, folder: Path, *options: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    line += ["--nproc-per-node", str(processes), "-m", "solvar", "run", str(stack)]
    line += ["-o", str(folder), "--rank", "2", *options]
    # a group of its own, so that a failing test can end all of it
    return subprocess.Popen(
        line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("refine", [False, True])
def test_two_processes_find_what_one_finds(tiny_stack: Path, tmp_path: Path, refine: bool) -> None:
    star = tiny_stack / ("particles_noisy.star" if refine else "particles.star")
    one = run_job(read_particles(star), FitSettings(rank=2, refine_pose=refine), tmp_path / "one")
    options = ["--refine-pose"] if refine else ["--lazy"]
    program = _torchrun(2, star, tmp_path / "two", *options)
    _, said = program.communicate(timeout=240)
    assert program.returncode == 0, said
    two = Run(tmp_path / "two")
    deviation = np.sqrt(one.model.eigenvalues)
    # whether a pose step is taken is a decision that rounding may tip, and what follows from it grows:
    # noise of 2e-7 in the sums of one process moves z by as much as a second process does
    most = 0.1 if refine else 1e-4
    for name, scale in (("z", deviation), ("contrast", 1.0)):
        away = np.abs(getattr(one.posterior, name) - getattr(two.posterior, name)) / scale
        assert np.mean(away) < most and np.median(away) < most / 2
    agreement = np.vdot(one.model.mean, two.model.mean) / np.vdot(one.model.mean, one.model.mean)
    assert agreement == pytest.approx(1, abs=1e-2 if refine else 1e-4)


@pytest.mark.slow
def test_when_one_dies_all_end_and_the_work_is_kept(tiny_stack: Path, tmp_path: Path) -> None:
    star, folder = tiny_stack / "particles_noisy.star", tmp_path / "run"
    program = _torchrun(2, star, folder, "--refine-pose")
    try:
        deadline = time.monotonic() + 120
        while not is_interrupted(folder):
            assert program.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(_workers(program.pid)[1], signal.SIGKILL)
        program.communicate(timeout=90)
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
    assert program.returncode != 0
    assert is_interrupted(folder) and not (folder / "run.json").exists()
    particles = read_particles(star)
    settings = FitSettings(rank=2, refine_pose=True)
    assert run_job(particles, settings, folder, resume=True).particle_count == 400


@pytest.mark.slow
def test_processes_that_read_other_poses_do_not_start(tiny_stack: Path, tmp_path: Path) -> None:
    script = tmp_path / "one_of_two.py"
    script.write_text(
        "import os, sys\n"
        "from solvar.cli.main import main\n"
        "if os.environ['RANK'] == '1':\n"
        "    sys.argv[2] = sys.argv[2].replace('particles.star', 'particles_noisy.star')\n"
        "main()\n"
    )
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    line += [str(script), "run", str(tiny_stack / "particles.star"), "-o", str(tmp_path / "run")]
    done = subprocess.run([*line, "--rank", "2"], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "process 1 of 2 read other particles, settings or files" in done.stderr
    assert not is_interrupted(tmp_path / "run") and not (tmp_path / "run" / "run.json").exists()


def _workers(launcher: int) -> list[int]:
    """The processes that a launcher started."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, text=True, check=True
    )
    return [int(pid) for pid in found.stdout.split()]
