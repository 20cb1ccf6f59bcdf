"""solvar beside RECOVAR and cryoDRGN on one simulated stack: cost of whole processes, and quality.

FOLDER holds particles.star, particles.mrcs, mask.mrc and the truth, as `solvar simulate` writes them, and
poses.pkl and ctf.pkl or not. Each peer gets a virtual environment of its own below ENVS, made where it is
missing. What was run is recorded in WORK and not run again, so that programs can be run one at a time and
an interrupted comparison goes on; give a new --work for other particles or options.

    python benchmarks/peers.py FOLDER --envs ENVS --work WORK [--only recovar] [--particles 1000]

Wall time is from start to exit, import and compilation included; CPU time and peak memory are the
operating system's account of the process and the children it waited for. All programs get the same cores
(--cores) and the same priority (--nice). The metrics are told in `peer_scores.py`. They answer different
questions: a program is compared with another only within a column. A run that failed, was stopped, or
whose mean volume is wrong has a cost and no quality. RECOVAR's default mean (on a grid twice as fine) was
found wrong on a CPU: --recovar-upsampling 1 calls the same program with that factor changed, and the table
says so.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from peer_programs import PROGRAMS, Program

STEPS = ("fit", "volumes")
TAIL = 400  # characters of a failed program's last words
THREAD_VARIABLES = ("OMP", "OPENBLAS", "MKL", "NUMBA")


@dataclass
class Step:
    """What one process cost and whether it ended well."""

    version: str
    command: list[str] = field(default_factory=list)
    wall: float = float("nan")
    cpu: float = float("nan")
    memory: float = float("nan")
    verdict: str = "ok"


def main() -> None:
    given = arguments()
    given.work.mkdir(parents=True, exist_ok=True)
    share_machine(given)
    rows = choose(given)
    programs = [PROGRAMS[name](given) for name in given.only]
    records = {program.name: run_program(program, given, rows) for program in programs}
    # not before: a process starts with the memory of the one that started it, and is charged for it
    report(programs, records, given, rows)


def arguments() -> argparse.Namespace:
    """The command line; every path absolute."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    path = {"type": lambda text: Path(text).absolute()}
    several = {"type": shlex.split, "default": []}
    parser.add_argument("folder", help="particles and truth", **path)
    parser.add_argument("--envs", required=True, help="where environments are made", **path)
    parser.add_argument("--work", required=True, help="where results are kept", **path)
    parser.add_argument("--constraints", help="pip constraints of all environments", **path)
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    parser.add_argument("--particles", type=int, help="only the first so many")
    parser.add_argument("--states", type=int, help="volumes of only so many true states")
    parser.add_argument("--rank", type=int, default=4, help="eigenvolumes or latent dimensions")
    parser.add_argument("--cores", type=int, default=1, help="that every program may use")
    parser.add_argument("--nice", type=int, default=19, help="priority of every program")
    parser.add_argument("--limit", type=float, default=3600, help="seconds for each step")
    parser.add_argument("--install-limit", type=float, default=900, help="seconds for each pip")
    parser.add_argument("--cryodrgn-options", help="more arguments of train_vae", **several)
    parser.add_argument("--recovar-options", help="more arguments of pipeline", **several)
    parser.add_argument("--recovar-state-options", help="more of compute_state", **several)
    parser.add_argument("--recovar-upsampling", type=int, choices=(1, 2), default=2)
    return parser.parse_args()


def share_machine(given: argparse.Namespace) -> None:
    """Restrict this process, and so all that it starts, to some cores at low priority."""
    os.nice(given.nice)
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-given.cores :])
    for name in THREAD_VARIABLES:
        os.environ[f"{name}_NUM_THREADS"] = str(given.cores)


def choose(given: argparse.Namespace) -> np.ndarray:
    """Rows of the particles that all programs get, written in the form that each one reads."""
    with np.load(given.folder / "gt.npz") as truth:
        total = len(truth["rotations"])
    rows = np.arange(min(given.particles or total, total))
    np.savetxt(given.work / "rows.txt", rows, fmt="%d")
    with open(given.work / "rows.pkl", "wb") as file:
        pickle.dump(rows, file)
    given.pickles = given.folder
    if not (given.folder / "poses.pkl").exists():
        given.pickles = given.work
        write_pickles(given)
    return rows


def write_pickles(given: argparse.Namespace) -> None:
    """Poses and CTFs of the star file for the programs that do not read it."""
    from solvar.particles import read_particles, write_poses_pickle
    from solvar.particles.cryodrgn_write import write_ctf_pickle

    particles = read_particles(given.folder / "particles.star")
    write_poses_pickle(given.work / "poses.pkl", particles)
    write_ctf_pickle(given.work / "ctf.pkl", particles)


def run_program(program: Program, given: argparse.Namespace, rows: np.ndarray) -> dict[str, Step]:
    """Both steps of a program; the second only after the first ended well."""
    records: dict[str, Step] = {}
    for step in STEPS:
        path = given.work / f"{program.name}_{step}.json"
        if path.exists():
            records[step] = Step(**json.loads(path.read_text()))
        else:
            records[step] = run_step(program, step, given, rows)
            path.write_text(json.dumps(asdict(records[step]), indent=1))
        print(f"$ {shlex.join(records[step].command)}", flush=True)
        if records[step].verdict != "ok":
            break
    return records


def run_step(program: Program, step: str, given: argparse.Namespace, rows: np.ndarray) -> Step:
    """Install what is missing and run one step."""
    try:
        program.install()
    except subprocess.SubprocessError as error:
        return Step("missing", verdict=f"not installed: {error}")
    record = Step(program.version())
    out = program.out if step == "fit" else program.volumes_out
    # without a record it is what an interrupted run left
    shutil.rmtree(out, ignore_errors=True)
    try:
        record.command = program.fit() if step == "fit" else volume_command(program, given, rows)
    except (OSError, ValueError) as error:
        record.verdict = f"result not usable: {error}"
        return record
    run(record, given.work / f"{program.name}_{step}.log", program.name, given.limit)
    return record


def volume_command(program: Program, given: argparse.Namespace, rows: np.ndarray) -> list[str]:
    """The command for volumes at the program's own mean latents of the true states."""
    from peer_scores import state_latents, states_asked

    from solvar.evaluation import Truth

    truth = Truth.load(given.folder).select(rows)
    return program.volumes(state_latents(program.z(), truth, states_asked(truth, given.states)))


def run(record: Step, log_path: Path, name: str, limit: float) -> None:
    """Run a command to its end or to the limit and account for it."""
    # a peer must not see the checkout of this one
    environment = {k: v for k, v in os.environ.items() if name == "solvar" or k != "PYTHONPATH"}
    with open(log_path, "wb") as log:
        start = time.perf_counter()
        process = subprocess.Popen(
            record.command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            finished, status, usage = wait(process.pid, start + limit)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)  # in a session of its own it heard nothing
            raise
        record.wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    record.cpu = usage.ru_utime + usage.ru_stime
    record.memory = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    if not finished:
        record.verdict = f"not finished in {limit:.0f} s"
    elif process.returncode != 0:
        words = log_path.read_text(errors="replace").strip()[-TAIL:]
        record.verdict = f"failed with exit code {process.returncode}: ...{words}"


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


def report(
    programs: list[Program],
    records: dict[str, dict[str, Step]],
    given: argparse.Namespace,
    rows: np.ndarray,
) -> None:
    """The tables of cost and of quality; commands were printed as they started."""
    from peer_scores import area, states_asked

    from solvar.evaluation import Truth

    truth = Truth.load(given.folder).select(rows)
    states = states_asked(truth, given.states)
    machine = platform.processor() or platform.machine()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"\n{machine}, {os.cpu_count()} cores, {given.cores} used{load}")
    print(f"{len(rows)} particles of {given.folder.name}, box {truth.box_size}, rank {given.rank}")
    report_cost(records)
    report_quality(programs, records, truth, states)
    unmoved = np.mean([area(truth.mean, state, truth) for state in states])
    print(f"AUC-FSC over {len(states)} states; the true mean at all of them: {unmoved:.4f}")
    print("a program has no quality unless it ended well with a right mean")
    if "recovar" in records and given.recovar_upsampling == 1:
        print("recovar: not its default: reconstructions on a grid of factor 1 instead of 2")


def report_cost(records: dict[str, dict[str, Step]]) -> None:
    """One line a step."""
    head = f"{'program':9} {'version':10} {'step':8}"
    print(f"{head} {'wall s':>8} {'CPU s':>8} {'peak MiB':>8}  outcome")
    for name, steps in records.items():
        for step, one in steps.items():
            cost = " ".join(f"{value:8.0f}" for value in (one.wall, one.cpu, one.memory))
            print(f"{name:9} {one.version[:10]:10} {step:8} {cost}  {one.verdict}")


def report_quality(
    programs: list[Program],
    records: dict[str, dict[str, Step]],
    truth,
    states: list[int],
) -> None:
    """One line a program."""
    from peer_scores import score

    names = ("mean FSC", "captured", "Spearman", "ARI", "AUC-FSC", "worst")
    print(f"{'program':9} " + " ".join(f"{name:>8}" for name in names))
    for program in programs:
        ended = {name: one.verdict == "ok" for name, one in records[program.name].items()}
        one = score(program, truth, states, ended["fit"], ended.get("volumes", False))
        values = (one.mean_fsc, one.captured, one.spearman, one.ari, one.auc, one.worst)
        told = " ".join("       -" if value is None else f"{value:8.4f}" for value in values)
        print(f"{program.name:9} {told}  {one.problem}".rstrip())


if __name__ == "__main__":
    main()
