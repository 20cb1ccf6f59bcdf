"""solvar beside RECOVAR and cryoDRGN on one simulated stack: cost of the whole process, and quality.

FOLDER holds particles.star, particles.mrcs, poses.pkl, ctf.pkl, mask.mrc and the truth, as
`solvar simulate` writes them. Each peer gets a virtual environment of its own below ENVS, made where it
is missing. torch is pinned to the release whose CPU build is at hand: unpinned, pip takes gigabytes of CUDA.

    python benchmarks/peers.py FOLDER --envs ENVS [--particles 1000] [--limit 3600]

Wall time is from start to exit, import and compilation included; CPU time and peak memory are the
operating system's account of the process and the children it waited for. What is compared:

captured  variance that the span of the eigenvolumes holds, relative to the best of that rank
Spearman  of the true state coordinate with its mean over each particle's neighbours in the latents

They answer different questions: a program is compared with another only within a column. A run that
failed, was stopped, or whose mean volume or latents are wrong has a cost and no quality. RECOVAR's
default mean (on a grid twice as fine) was found wrong on a CPU: --recovar-upsampling 1 calls the same
program with the factor of that one function changed, and the table says so.
"""

from __future__ import annotations

import argparse
import os
import pickle
import platform
import shlex
import signal
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PROGRAMS = ("solvar", "cryodrgn", "recovar")
PINNED = {"cryodrgn": "cryodrgn==4.3.1", "recovar": "recovar==1.0.5"}
TORCH = "torch==2.13.0"
RIGHT_MEAN = 0.9  # least FSC with the truth, averaged over shells 1 to L/8, of a usable mean
TAIL = 400  # characters of a failed program's last words

# `recovar pipeline` has no option for the oversampling of the mean
RECOVAR_ONE = (
    "import sys; from functools import partial; from recovar.reconstruction import homogeneous as h; "
    "h.get_mean_conformation_relion = partial(h.get_mean_conformation_relion, upsampling_factor=1); "
    "from recovar.command_line import main_commands; sys.exit(main_commands())"
)


@dataclass
class Outcome:
    """One program's process: what it cost, whether it ended well, what it was worth."""

    program: str
    version: str
    command: list[str] = field(default_factory=list)
    wall: float = np.nan
    cpu: float = np.nan
    memory: float = np.nan
    verdict: str = "ok"
    mean_fsc: float | None = None
    captured: float | None = None
    spearman: float | None = None


def main() -> None:
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    chosen = choose(given)
    outcomes = []
    for program in given.programs:
        outcome = Outcome(program, "")
        try:
            prepare(program, given)
        except subprocess.SubprocessError as error:
            outcome.verdict = f"not installed: {error}"
        else:
            outcome.version = version(program, given)
            outcome.command = command(program, given)
            run(outcome, given)
        outcomes.append(outcome)
    # not before: the memory of this process would count as that of the programs it starts
    for outcome in outcomes:
        judge(outcome, given, chosen)
    report(outcomes, given, len(chosen))


def arguments() -> argparse.Namespace:
    """The command line; every path absolute."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = {"type": lambda text: Path(text).absolute()}
    parser.add_argument("folder", help="particles and truth", **path)
    parser.add_argument("--envs", required=True, help="where environments are made", **path)
    parser.add_argument("--work", help="new folder for results, default ENVS/work", **path)
    parser.add_argument("--constraints", help="pip constraints of all environments", **path)
    parser.add_argument("--programs", nargs="+", choices=PROGRAMS, default=PROGRAMS)
    parser.add_argument("--particles", type=int, help="only the first so many")
    parser.add_argument("--rank", type=int, default=4, help="eigenvolumes or latent dimensions")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for each program")
    parser.add_argument("--install-limit", type=float, default=900, help="seconds for each pip")
    parser.add_argument("--epochs", type=int, default=10, help="of cryoDRGN")
    parser.add_argument("--dimension", type=int, default=1024, help="width of cryoDRGN's layers")
    parser.add_argument("--recovar-upsampling", type=int, choices=(1, 2), default=2)
    given = parser.parse_args()
    given.work = given.work or given.envs / "work"
    for program in given.programs:
        # what an earlier run left would be taken for the result of one that failed
        if (given.work / program).exists():
            parser.error(f"{given.work / program} is there already: give another --work")
    return given


def choose(given: argparse.Namespace) -> np.ndarray:
    """Rows of the particles that all programs get, written in the form that each one reads."""
    with np.load(given.folder / "gt.npz") as truth:
        total = len(truth["rotations"])
    rows = np.arange(min(given.particles or total, total))
    np.savetxt(given.work / "rows.txt", rows, fmt="%d")
    with open(given.work / "rows.pkl", "wb") as file:
        pickle.dump(rows, file)
    return rows


def python_of(program: str, given: argparse.Namespace) -> Path:
    """The interpreter that a program runs with."""
    if program == "solvar":
        return Path(sys.executable)
    return given.envs / program / "bin" / "python"


def prepare(program: str, given: argparse.Namespace) -> None:
    """Make a peer's environment, unless it is there and complete; tell the commands."""
    python = python_of(program, given)
    if program == "solvar" or (python.exists() and version(program, given) != "missing"):
        return
    constraints = ["-c", str(given.constraints)] if given.constraints else []
    install = [str(python), "-m", "pip", "install", *constraints, TORCH, PINNED[program]]
    print(f"$ python -m venv {python.parent.parent}\n$ {shlex.join(install)}", flush=True)
    venv.create(python.parent.parent, with_pip=True)
    with open(given.work / f"install_{program}.log", "wb") as log:
        subprocess.run(
            install, check=True, stdout=log, stderr=subprocess.STDOUT, timeout=given.install_limit
        )


def version(program: str, given: argparse.Namespace) -> str:
    """The version of a program in its environment."""
    code = f"from importlib.metadata import version; print(version({program!r}))"
    if program == "solvar":  # perhaps a checkout on the path, not installed
        code = "import solvar; print(solvar.__version__)"
    ask = [str(python_of(program, given)), "-c", code]
    done = subprocess.run(ask, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "missing"


def command(program: str, given: argparse.Namespace) -> list[str]:
    """The command line of a program on the chosen particles."""
    folder, out = given.folder, str(given.work / program)
    python, rank = str(python_of(program, given)), str(given.rank)
    mask, stack = str(folder / "mask.mrc"), str(folder / "particles.mrcs")
    pickles = ["--poses", str(folder / "poses.pkl"), "--ctf", str(folder / "ctf.pkl")]
    pickles += ["--ind", str(given.work / "rows.pkl")]
    if program == "solvar":
        rows = str(given.work / "rows.txt")
        star = str(folder / "particles.star")
        line = [python, "-m", "solvar", "run", star, "--rank", rank, "--mask", mask, "--ind", rows]
        return [*line, "-o", out]
    if program == "cryodrgn":
        width = str(given.dimension)
        line = [str(Path(python).parent / "cryodrgn"), "train_vae", stack, *pickles]
        line += ["--zdim", rank, "-n", str(given.epochs), "--enc-dim", width, "--dec-dim", width]
        return [*line, "--seed", "0", "--no-analysis", "-o", out]
    start = [str(Path(python).parent / "recovar")]
    if given.recovar_upsampling == 1:
        start = [python, "-c", RECOVAR_ONE]
    line = [*start, "pipeline", stack, *pickles, "--mask", mask, "--zdim", rank]
    return [*line, "--correct-contrast", "--accept-cpu", "-o", out]


def run(outcome: Outcome, given: argparse.Namespace) -> None:
    """Run a command to its end or to the limit and account for it."""
    print(f"$ {shlex.join(outcome.command)}", flush=True)
    path = given.work / f"{outcome.program}.log"
    # a peer must not see the checkout of this one
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if outcome.program == "solvar":
        environment = dict(os.environ)
    with open(path, "wb") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            outcome.command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            finished, status, usage = wait(process.pid, start + given.limit)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)  # in a session of its own it heard nothing
            raise
        outcome.wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    outcome.cpu = usage.ru_utime + usage.ru_stime
    outcome.memory = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    if not finished:
        outcome.verdict = f"not finished in {given.limit:.0f} s"
    elif process.returncode != 0:
        words = path.read_text(errors="replace").strip()[-TAIL:]
        outcome.verdict = f"failed with exit code {process.returncode}: ...{words}"


def wait(pid: int, deadline: float) -> tuple[bool, int, object]:
    """Whether a process ended by itself before the deadline, its status, its use of resources."""
    while time.perf_counter() < deadline:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            return True, status, usage
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)  # its session: what it started ends with it
    _, status, usage = os.wait4(pid, 0)
    return False, status, usage


def judge(outcome: Outcome, given: argparse.Namespace, rows: np.ndarray) -> None:
    """Fill in the quality of a run that ended well, or the reason why it has none."""
    from solvar.evaluation import Truth

    truth = Truth.load(given.folder).select(rows)
    out = given.work / outcome.program
    ended = outcome.verdict == "ok"
    try:
        if outcome.program == "cryodrgn" and ended:
            judge_latents(outcome, first_pickle(out / "z.pkl"), truth)
        elif outcome.program == "recovar" and (means := sorted(out.rglob("mean.mrc"))):
            # it is written long before the end: tell of it even where the end was not reached
            check_mean(outcome, read(means[0]), truth)
            if outcome.verdict == "ok":
                judge_eigenvolumes(outcome, recovar_eigenvolumes(out, given.rank), truth)
        elif outcome.program == "solvar" and ended:
            judge_solvar(outcome, out, truth)
        elif ended:
            outcome.verdict = "failed: it left no result"
    except (OSError, ValueError) as error:
        outcome.verdict = f"result not readable: {error}"


def judge_solvar(outcome: Outcome, out: Path, truth) -> None:
    """Everything that is asked of a peer."""
    from solvar.results.run import Run

    result = Run(out)
    check_mean(outcome, result.model.mean, truth)
    if outcome.verdict == "ok":
        judge_eigenvolumes(outcome, result.model.eigenvolumes, truth)
        judge_latents(outcome, result.posterior.z, truth)


def first_pickle(path: Path) -> np.ndarray:
    """The first array of a file of several, which is how cryoDRGN stores means and log variances."""
    with open(path, "rb") as file:  # written by the run above, so trusted as that program is
        return np.asarray(pickle.load(file), np.float64)


def read(path: Path) -> np.ndarray:
    """A volume."""
    from solvar.volume_file import read_volume

    return read_volume(path)[0]


def recovar_eigenvolumes(out: Path, rank: int) -> np.ndarray:
    """The first eigenvolumes of RECOVAR, wherever this version of it puts them."""
    found = sorted(out.rglob("eigen_pos*.mrc"))[:rank]
    if len(found) < rank:
        raise ValueError(f"{len(found)} eigenvolumes of {rank} in {out}")
    return np.stack([read(path) for path in found])


def check_mean(outcome: Outcome, mean: np.ndarray, truth) -> None:
    """Whether the mean is the true one in the first shells; if not, nothing built on it counts."""
    from solvar.evaluation import masked_fsc

    if mean.shape != truth.mean.shape:
        problem = f"a mean of box {mean.shape[-1]}, not {truth.box_size}"
    else:
        shells = slice(1, truth.box_size // 8 + 1)
        fsc = masked_fsc(mean.astype(np.float32), truth.mean, truth.mask)[shells]
        outcome.mean_fsc = float(np.nan_to_num(fsc).mean())
        if outcome.mean_fsc >= RIGHT_MEAN:
            return
        curve = " ".join(f"{value:.2f}" for value in fsc)
        problem = f"wrong mean: FSC with the truth in shells 1 to {len(fsc)} is {curve}"
    outcome.verdict = problem if outcome.verdict == "ok" else f"{outcome.verdict}; {problem}"


def judge_eigenvolumes(outcome: Outcome, eigenvolumes: np.ndarray, truth) -> None:
    """Captured variance, up to half Nyquist in the mask."""
    from solvar.evaluation import captured_variance

    volumes = eigenvolumes.astype(np.float32)
    outcome.captured = captured_variance(volumes, truth.eigenvolumes, mask=truth.mask)


def judge_latents(outcome: Outcome, z: np.ndarray, truth) -> None:
    """Spearman with the true coordinate, the mean over coordinates where there are several."""
    from solvar.evaluation import knn_spearman

    coordinate = truth.state_coordinate if truth.state_coordinate is not None else truth.latent
    if coordinate is None or len(z) != len(coordinate):
        expected = "no state coordinate" if coordinate is None else f"not {len(coordinate)}"
        outcome.verdict = f"not judged: {len(z)} latents, {expected}"
    elif not np.isfinite(z).all():
        outcome.verdict = "wrong: latents that are not finite"
    else:
        value = float(knn_spearman(z, coordinate).mean())
        if value > 3 / np.sqrt(len(z)):  # of chance, whose deviation is about 1/√N
            outcome.spearman = value
        else:
            outcome.verdict = f"wrong: latents know nothing of the state (Spearman {value:.2f})"


def report(outcomes: list[Outcome], given: argparse.Namespace, count: int) -> None:
    """The table; commands were printed as they started."""
    machine = platform.processor() or platform.machine()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{machine}, {os.cpu_count()} cores{load}; {count} particles of {given.folder}")
    head = f"{'program':9} {'version':10} {'wall s':>8} {'CPU s':>8} {'peak MiB':>8}"
    print(f"{head} {'mean FSC':>8} {'captured':>8} {'Spearman':>8}  verdict")
    for one in outcomes:
        cost = " ".join(f"{value:8.0f}" for value in (one.wall, one.cpu, one.memory))
        values = (one.mean_fsc, one.captured, one.spearman)
        quality = " ".join("       -" if v is None else f"{v:8.3f}" for v in values)
        name = one.program
        if name == "recovar" and given.recovar_upsampling == 1:
            name += "*"
        print(f"{name:9} {one.version[:10]:10} {cost} {quality}  {one.verdict}")
    print(f"rank {given.rank}; a run has no quality unless it ended well with a right mean")
    if "cryodrgn" in given.programs:
        print(f"cryodrgn: {given.epochs} epochs, layers of {given.dimension} (its default 1024)")
    if "recovar" in given.programs and given.recovar_upsampling == 1:
        print("* not its default: the mean on a grid of factor 1 instead of 2")


if __name__ == "__main__":
    main()
