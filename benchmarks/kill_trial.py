"""One command under attack: where it starts, what a kill may leave, what it must end with."""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from kill_contents import Contents, contents, identities, leftovers, unlisted, unsealed
from kill_processes import start

from solvar.errors import InputError
from solvar.results.checkpoint import read_tree
from solvar.results.run import Run

Prepare = Callable[[], None] | None
_KILLED = -9
# share of the kills that come just before a change to the disk, each change once
_BEFORE_CHANGES = 0.7


@dataclass(frozen=True)
class Command:
    """A command that writes.

    Attributes
    ----------
    name : str
    line : str
        Its words; it works beside a folder ``data``.
    earlier : tuple of str
        Commands that were run there before.
    marks : mapping of str to tuple of str
        Files, each of which says that those of some patterns belong to it.
    prepare : callable, optional
        Makes it smaller, in its process.
    unlisted : str
        Files of such names are no results and stand in no manifest.
    """

    name: str
    line: str
    earlier: tuple[str, ...] = ()
    marks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prepare: Prepare = None
    unlisted: str = ""


class Stage:
    """A folder in which commands start from the same state again and again.

    Parameters
    ----------
    root : Path
    """

    def __init__(self, root: Path) -> None:
        self.root, self.work, self.said = root, root / "work", root / "said.txt"
        self._states: dict[tuple[str, ...], Path] = {}

    def simulate(self) -> None:
        """Make the particles, beside the folder."""
        line = "simulate -o data -n 200 --box-size 16 --pixel-size 12 --snr 0.5 --seed 1"
        if start(line, self.root, self.said).wait() != 0:
            sys.exit(f"`solvar {line}` failed: {self.said.read_text()}")

    def run(self, line: str, prepare: Prepare = None) -> tuple[float, int]:
        """Run a command undisturbed: seconds, and changes to the disk."""
        program = start(line, self.work, self.said, prepare=prepare)
        if program.wait() != 0:
            sys.exit(f"undisturbed, `solvar {line}` failed: {self.said.read_text()}")
        return time.monotonic() - program.started, program.changes

    def reset(self, lines: tuple[str, ...], prepare: Prepare = None) -> None:
        """Bring the folder into the state that some commands leave."""
        if lines and lines not in self._states:
            self.reset(lines[:-1], prepare)
            self.run(lines[-1], prepare)
            kept = self.root / f"state{len(self._states)}"
            shutil.copytree(self.work, kept)
            self._states[lines] = kept
        shutil.rmtree(self.work, ignore_errors=True)
        if lines:
            shutil.copytree(self._states[lines], self.work)
        else:
            self.work.mkdir()


class Trial:
    """A command, and what became of it when it was killed.

    Attributes
    ----------
    kills, finished, identical, clean : int
        Kills; repetitions to the end, those of them with the numbers of the undisturbed command, and
        those that left nothing behind.
    problems : list of str
    usual_seconds : float
    """

    def __init__(self, stage: Stage, command: Command) -> None:
        self.command, self._stage = command, stage
        self.kills = self.finished = self.identical = self.clean = 0
        self.problems: list[str] = []
        stage.reset(command.earlier, command.prepare)
        self._before = contents(stage.work)
        stage.run(command.line, command.prepare)  # what is compiled at first use is compiled here
        stage.reset(command.earlier)
        self.usual_seconds, self._changes = stage.run(command.line, command.prepare)
        self._after = contents(stage.work)
        self._unused: list[int] = []  # changes at which it was not killed yet
        self._note("undisturbed", left_behind(stage.work, command.unlisted))

    def attack(self, chance: random.Random, most: int) -> None:
        """Start anew, be killed up to `most` times, repeat to the end."""
        self._stage.reset(self.command.earlier)
        for _ in range(most):
            if not self._killed(chance):
                break
        program = self._start()
        if program.wait() != 0:
            self._note("repeated", [self._stage.said.read_text()])
            return
        self.finished += 1
        work = self._stage.work
        other, left = changed(self._after, contents(work)), left_behind(work, self.command.unlisted)
        self.identical += not other
        self.clean += not left
        self._note("repeated", other + left)

    def _start(self, die_at: int | None = None):
        command, stage = self.command, self._stage
        return start(command.line, stage.work, stage.said, die_at, command.prepare)

    def _killed(self, chance: random.Random) -> bool:
        """Whether a kill at a random moment, or before a random change, came before the end."""
        moment = chance.uniform(0, self.usual_seconds)
        if chance.random() < _BEFORE_CHANGES:
            if not self._unused:
                self._unused = chance.sample(range(1, self._changes + 1), self._changes)
            program = self._start(self._unused.pop())
            code = program.wait()
            when = self._stage.said.read_text(errors="replace").strip().rpartition("\n")[2]
        else:
            program = self._start()
            code = program.wait(moment)
            when = f"killed after {moment:.2f} s"
            if code is None:
                program.kill()
                code = _KILLED
        if code == _KILLED:
            self.kills += 1
            self._note(when, self._mixed())
        elif code != 0:
            self._note(f"exit {code}", [self._stage.said.read_text()])
        return code == _KILLED

    def _note(self, when: str, problems: list[str]) -> None:
        for problem in problems:
            self.problems.append(f"{self.command.name}, {when}: {problem.strip()}")
            print(self.problems[-1], flush=True)

    def _mixed(self) -> list[str]:
        """What a killed command should not have left."""
        work = self._stage.work
        try:
            now = contents(work)
        # whatever a file that is half there makes of its reader
        except Exception as error:
            return [f"cannot be read: {error!r}"]
        known = (self._before, self._after)
        problems = [
            f"{name} is neither the earlier one nor the new one"
            for name, digest in now.items()
            if all(each.get(name) != digest for each in known)
        ]
        for mark, patterns in self.command.marks.items():
            if mark in now and not any(
                each.get(mark) == now[mark] and _part(each, patterns) == _part(now, patterns)
                for each in known
            ):
                problems.append(f"what belongs to {mark} does not")
        return [
            *problems,
            *unlisted(work, self.command.unlisted),
            *_strangers(work),
            *_unreadable(work),
        ]


def _part(whole: Contents, patterns: tuple[str, ...]) -> Contents:
    """What is of some names, except for pictures: these are drawn when the numbers are safe."""
    return {
        name: digest
        for name, digest in whole.items()
        if any(fnmatchcase(name, each) for each in patterns) and not name.endswith(".png")
    }


def left_behind(work: Path, exempt: str = "") -> list[str]:
    """What commands that have ended should not have left."""
    return [*leftovers(work), *unlisted(work, exempt), *unsealed(work), *_strangers(work)]


def changed(expected: Contents, found: Contents) -> list[str]:
    """Names of results that differ."""
    names = sorted(expected.keys() | found.keys())
    return [f"{name} differs" for name in names if expected.get(name) != found.get(name)]


def _strangers(work: Path) -> list[str]:
    """Files of run folders that belong to another run."""
    problems = []
    for path in work.rglob("run.json"):
        said = identities(path.parent)
        own = said["run.json"]
        problems += [f"{name} is of another run" for name, each in said.items() if each != own]
    return problems


def _unreadable(work: Path) -> list[str]:
    """Runs that look finished, and checkpoints, that cannot be read."""
    problems = []
    for path in work.rglob("run.json"):
        try:
            run = Run(path.parent)
            _ = run.model, run.posterior, run.particles, run.validation
        except InputError as error:
            problems.append(str(error))
    for path in work.rglob("checkpoint/[!.]*.npz"):
        try:
            read_tree(path)
        except InputError as error:
            problems.append(str(error))
    return problems
