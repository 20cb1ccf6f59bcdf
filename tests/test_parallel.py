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
from solvar.fitting.schedule import split_batches
from solvar.fitting.settings import FitSettings
from solvar.job import run_job
from solvar.parallel import OneProcess, all_agreed, dealt, own_device
from solvar.particles import read_particles, write_star
from solvar.results.checkpoint import is_interrupted
from solvar.results.run import Run

SLURM = Path(__file__).parents[1] / "examples" / "slurm" / "solvar.sh"


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


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("order", ["sorted", "in turn", "mixed"])
def test_every_process_has_as_much_of_each_half_whatever_the_order(size: int, order: str) -> None:
    count = 50_001
    halves = np.repeat([1, 2], [count // 2 + 1, count // 2])
    if order != "sorted":
        halves = 1 + np.arange(count) % 2
    if order == "mixed":
        halves = np.random.default_rng(1).permutation(halves)
    for rank in range(size):
        own = dealt(halves, _Share(rank, size))
        for half in (1, 2):
            members = np.flatnonzero(halves == half)
            # no more apart than neighbours that are dealt together
            assert abs(np.isin(members, own).sum() - len(members) / size) <= 32
            # who has more of a batch keeps the others waiting
            for batch in split_batches(members, None, np.random.default_rng(2)):
                assert np.isin(batch, own).mean() == pytest.approx(1 / size, rel=0.02)


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
@pytest.mark.parametrize(("size", "refine"), [(2, False), (2, True), (4, False)])
def test_several_processes_find_what_one_finds(
    tiny_stack: Path, tmp_path: Path, size: int, refine: bool
) -> None:
    star = tiny_stack / ("particles_noisy.star" if refine else "particles.star")
    if size == 4:
        star = _by_half(star)
    one = run_job(read_particles(star), FitSettings(rank=2, refine_pose=refine), tmp_path / "one")
    options = ["--refine-pose"] if refine else ["--lazy"]
    program = _torchrun(size, star, tmp_path / "several", *options)
    _, said = program.communicate(timeout=480)
    assert program.returncode == 0, said
    _require_same(one, Run(tmp_path / "several"), refine)


@pytest.mark.slow
def test_several_processes_agree_about_junk(
    soiled_stack: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    folder, junk = soiled_stack
    star, mask = folder / "particles.star", folder / "mask.mrc"
    one = run_job(read_particles(star), FitSettings(rank=2, mask=mask), tmp_path / "one")
    program = _torchrun(2, star, tmp_path / "two", "--mask", str(mask))
    _, said = program.communicate(timeout=480)
    assert program.returncode == 0, said
    found = Run(tmp_path / "two").particle_probability
    np.testing.assert_allclose(found, one.particle_probability, atol=1e-3)
    assert ((found < 0.5) == junk).mean() > 0.95


@pytest.mark.slow
def test_the_slurm_script_starts_one_job_on_two_nodes(tiny_stack: Path, tmp_path: Path) -> None:
    star = tiny_stack / "particles.star"
    one = run_job(read_particles(star), FitSettings(rank=2), tmp_path / "one")
    programs = {
        "scontrol": 'test "$*" = "show hostnames here,there"; printf "localhost\\nthere\\n"',
        # the same command on every node, as srun does; the job ends as the worst of them
        "srun": '"$@" & first=$!; "$@"; second=$?; wait $first && exit $second',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    }
    (tmp_path / "bin").mkdir()
    for name, body in programs.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
    slurm = {"NNODES": "2", "JOB_ID": str(os.getpid()), "JOB_NODELIST": "here,there"}
    environment = {
        **os.environ,
        **{f"SLURM_{name}": value for name, value in slurm.items()},
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PROCESSES_PER_NODE": "1",
    }
    line = ["bash", str(SLURM), str(star), str(tmp_path / "two"), "--rank", "2"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=480)
    assert done.returncode == 0, done.stderr
    _require_same(one, Run(tmp_path / "two"), refined=False)


def test_the_slurm_script_is_the_documented_one() -> None:
    page = (SLURM.parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    script = SLURM.read_text(encoding="utf-8")
    assert f"```bash\n{script}```" in page
    subprocess.run(["bash", "-n", str(SLURM)], check=True)


def _by_half(star: Path) -> Path:
    """The same particles in a file that is sorted by half-set."""
    particles = read_particles(star)
    order = np.argsort(particles.halfset, kind="stable")
    path = star.with_name("by_half.star")
    write_star(path, particles.select(order))
    return path


def _require_same(one: Run, two: Run, refined: bool) -> None:
    """Fail unless two runs of the same particles, in any order, agree as well as they can."""
    deviation = np.sqrt(one.model.eigenvalues)
    # whether a pose step is taken is a decision that rounding may tip, and what follows from it grows:
    # noise of 2e-7 in the sums of one process moves z by as much as a second process does
    most = 0.1 if refined else 1e-4
    for name, scale in (("z", deviation), ("contrast", 1.0)):
        away = np.abs(getattr(one.posterior, name) - getattr(two.posterior, name)) / scale
        assert np.mean(away) < most and np.median(away) < most / 2
    known = two.posterior.precision / one.posterior.precision
    assert np.median(abs(known - 1)) < most
    agreement = np.vdot(one.model.mean, two.model.mean) / np.vdot(one.model.mean, one.model.mean)
    assert agreement == pytest.approx(1, abs=1e-2 if refined else 1e-4)


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
