"""Two commands that want to write to one folder at nearly the same moment.

One of them must be refused with exit code 2 and a sentence that names the other (command, process, machine),
or come so late that the first has ended; the folder then holds what the one alone, or both in turn, would
have left, to the last bit.
"""

from __future__ import annotations

import errno
import fcntl
import platform
import random
import re
import time
from dataclasses import dataclass, field

from kill_contents import Contents, contents
from kill_processes import start
from kill_trial import Prepare, Stage, changed, left_behind

_BUSY = re.compile(r"is being written to by `solvar (\w+).*` \(process (\d+) on (\S+), since ")
# two that came one after the other: the second finds a result
_TAKEN = re.compile(r"already holds|is there already")
_SHORT_SECONDS, _LONG_SECONDS = 0.05, 2.0


def without_kernel_locks() -> None:
    """Let this process find no `flock`, as on some file systems."""

    def refuse(handle: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    fcntl.flock = refuse


@dataclass(eq=False)
class Race:
    """Two commands and how often they were started together.

    Attributes
    ----------
    name : str
    lines : (str, str)
    earlier : tuple of str
        Commands that were run there before.
    unlisted, prepare
        As in `kill_trial.Command`.
    races, refused, in_turn, mixed : int
        Races; those in which one was refused, in which one came after the other, and which went wrong.
    """

    name: str
    lines: tuple[str, str]
    earlier: tuple[str, ...] = ()
    unlisted: str = ""
    prepare: Prepare = None
    races: int = 0
    refused: int = 0
    in_turn: int = 0
    mixed: int = 0
    _alone: list[Contents] = field(default_factory=list)
    _both: list[Contents] = field(default_factory=list)

    def rehearse(self, stage: Stage) -> None:
        """Find out what the commands leave alone and one after the other."""
        for first, second in (self.lines, self.lines[::-1]):
            stage.reset(self.earlier)
            stage.run(first)
            self._alone.append(contents(stage.work))
            # the second may be refused: there is a result
            start(second, stage.work, stage.said).wait()
            self._both.append(contents(stage.work))

    def run(self, stage: Stage, chance: random.Random) -> None:
        """Start both, in either order."""
        stage.reset(self.earlier)
        order = chance.choice([(0, 1), (1, 0)])
        delay = chance.uniform(0, chance.choice([_SHORT_SECONDS, _LONG_SECONDS]))
        said = [stage.root / f"said{number}.txt" for number in order]
        first = start(self.lines[order[0]], stage.work, said[0], prepare=self.prepare)
        time.sleep(delay)
        second = start(self.lines[order[1]], stage.work, said[1], prepare=self.prepare)
        codes = [first.wait(), second.wait()]
        ends = [path.read_text(errors="replace").strip().rpartition("\n")[2] for path in said]
        pids, words = [first.pid, second.pid], [self.lines[number].split()[0] for number in order]
        self.races += 1
        problems = left_behind(stage.work, self.unlisted)
        if sorted(codes) == [0, 2]:
            loser = codes.index(2)
            problems += changed(self._alone[order[1 - loser]], contents(stage.work))
            busy = _BUSY.search(ends[loser])
            named = (words[1 - loser], str(pids[1 - loser]), platform.node())
            if busy and busy.groups() == named:
                self.refused += not problems
            elif _TAKEN.search(ends[loser]) and loser == 1:
                self.in_turn += not problems
            else:
                problems.append(f"this does not name {named}")
        elif codes == [0, 0]:
            found = contents(stage.work)
            if found not in self._both:
                problems += [
                    "both ended well, and the result is of none",
                    *changed(self._both[order[0]], found),
                ]
            self.in_turn += not problems
        else:
            problems.append("neither ended well")
        if problems:
            self.mixed += 1
            print(f"{self.name}, {order} {delay:.3f} s apart, exits {codes}:", flush=True)
            for line in (*problems, *ends):
                print(f"    {line}", flush=True)
