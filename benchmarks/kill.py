"""Kills every command that writes, again and again, lets commands race, and looks at what is left.

    nice python benchmarks/kill.py [--kills 300] [--races 200] [--seed 0] [--only analyze]

A small set is simulated. Each command is run once without disturbance, over the result of an earlier one
where it replaces something. Then it is started from there again and killed (kill -9 of its process group)
up to four times, at a random moment or, most times, just before one of its changes to the disk, and repeated
to its end.

After each kill every file is whole, of the earlier result or of the new one; what looks finished is one of
the two; and a manifest knows every file. At the end every number is that of the undisturbed command, to the
last bit, the manifests are sealed, and no temporary file, lock or checkpoint is left. kill_races.py says what
races are.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from kill_processes import preload
from kill_races import Race, without_kernel_locks
from kill_trial import Command, Stage, Trial

from solvar.results.writer import ANALYSIS, RUN

_MOST_IN_A_ROW = 4
_SET = "simulate -o out -n 200 --box-size 16 --pixel-size 12"
_TWO = "run ../data/particles_noisy.star -o run --rank 2"
_THREE = "run ../data/particles_noisy.star -o run --rank 3"
_OTHER = "run ../data/particles_noisy.star -o other --rank 3"
_PARTS = "analyze run --clusters 3"
_RELION = "export run --to relion -o out --overwrite"
_EVALUATION = "--truth ../data -o out"
_SETS = (f"{_SET} --seed 2 --overwrite", f"{_SET} --seed 3 --overwrite")


def _below(folder: str, patterns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{folder}/{pattern}" for pattern in patterns)


_RUN = {"run/run.json": _below("run", RUN.patterns)}
_ANALYSIS = {"run/analysis/analysis.json": _below("run", ANALYSIS.patterns)}
_STACK = {"out/particles.star": ("out/*",), "out/particles_noisy.star": ("out/particles.mrcs",)}


def _smaller_demo() -> None:
    from solvar.cli import demo

    demo._SIMULATION |= {"particles": 200, "box_size": 16, "pixel_size": 12.0}


def _export(target: str, earlier: str, now: str = "", last: str = "") -> Command:
    line = f"export run --to {target} -o out --overwrite"
    marks = {f"out/{last}": ("out/*",)} if last else {}
    before = (_TWO, _PARTS, f"{line} {earlier}")
    return Command(f"export {target}", f"{line} {now}", before, marks, unlisted="out/*")


COMMANDS = (
    Command("run --resume", f"{_TWO} --refine-pose --resume", (), _RUN),
    Command("run --overwrite", f"{_TWO} --overwrite",
            (_THREE, _PARTS, "volume run --points 2"), _RUN),
    Command("analyze", "analyze run --clusters 2", (_TWO, _PARTS), _RUN | _ANALYSIS),
    Command("volume", "volume run --clusters 2 --overwrite", (_TWO,),
            {"run/volumes/*/volumes.json": ("run/volumes/*/*",)}),
    Command("volume -o", "volume run --clusters 2 -o out --overwrite", (_TWO,),
            {"out/volumes.json": ("out/*",)}),
    _export("relion", "--cluster 1", "--latents"),
    _export("cryosparc", "--cluster 1"),
    _export("cryodrgn", "--cluster 1", last="poses.pkl"),
    _export("chimerax", "--component 2", last="morph.cxc"),
    Command("evaluate", f"evaluate run {_EVALUATION}",
            (_TWO, _OTHER, f"evaluate other {_EVALUATION}")),
    Command("simulate --overwrite", f"{_SET} --seed 3 --overwrite", (f"{_SET} --seed 2",), _STACK),
    Command("demo --overwrite", "demo -o out --overwrite", ("demo -o out --seed 1",),
            {"out/run/run.json": (*_below("out/run", RUN.patterns), "out/particles/particles*")},
            _smaller_demo),
)  # fmt: skip

RACES = (
    Race("run/run", (_TWO, f"{_THREE} --overwrite")),
    Race("run/analyze", (f"{_THREE} --overwrite", "analyze run --clusters 2"), (_TWO,)),
    Race("analyze/analyze", ("analyze run --clusters 2", _PARTS), (_TWO,)),
    Race("volume/analyze", ("volume run --clusters 2 --overwrite", _PARTS), (_TWO,)),
    Race(
        "export/export",
        (f"{_RELION} --cluster 1", f"{_RELION} --latents"),
        (_TWO, _PARTS),
        unlisted="out/*",
    ),
    Race("simulate/simulate", _SETS),
    Race("simulate, no flock", _SETS, prepare=without_kernel_locks),
)


def kill_all(stage: Stage, commands: list[Command], kills: int, chance: random.Random) -> bool:
    """Attack the commands in turn until there were enough kills; whether they withstood."""
    begun = time.monotonic()
    trials = [Trial(stage, command) for command in commands]
    while sum(trial.kills for trial in trials) < kills:
        for trial in trials:
            trial.attack(chance, chance.randint(1, _MOST_IN_A_ROW))
    print(
        f"\n{'command':22}{'kills':>7}{'finished':>10}{'identical':>11}{'clean':>7}{'usual s':>9}"
    )
    for trial in trials:
        numbers = f"{trial.kills:7}{trial.finished:10}{trial.identical:11}{trial.clean:7}"
        print(f"{trial.command.name:22}{numbers}{trial.usual_seconds:9.2f}")
    sums = [sum(getattr(t, n) for t in trials) for n in ("kills", "finished", "identical", "clean")]
    problems = sum(len(trial.problems) for trial in trials)
    print(f"{'all':22}{sums[0]:7}{sums[1]:10}{sums[2]:11}{sums[3]:7}")
    print(f"{problems} problems, {time.monotonic() - begun:.0f} s", flush=True)
    return problems == 0


def race_all(stage: Stage, pairs: list[Race], races: int, chance: random.Random) -> bool:
    """Run the races in turn until there were enough; whether nothing was mixed."""
    begun = time.monotonic()
    for pair in pairs:
        pair.rehearse(stage)
    for number in range(races):
        pairs[number % len(pairs)].run(stage, chance)
    print(f"\n{'race':22}{'races':>7}{'refused':>9}{'in turn':>9}{'mixed':>7}")
    for pair in pairs:
        print(f"{pair.name:22}{pair.races:7}{pair.refused:9}{pair.in_turn:9}{pair.mixed:7}")
    sums = [sum(getattr(p, n) for p in pairs) for n in ("races", "refused", "in_turn", "mixed")]
    print(f"{'all':22}{sums[0]:7}{sums[1]:9}{sums[2]:9}{sums[3]:7}")
    print(f"{time.monotonic() - begun:.0f} s", flush=True)
    return sums[0] == sums[1] + sums[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the name of a command or a race")
    options = parser.parse_args()
    preload()
    chance = random.Random(options.seed)
    commands = [each for each in COMMANDS if options.only in each.name]
    races = [each for each in RACES if options.only in each.name]
    good = True
    with tempfile.TemporaryDirectory(prefix="kill-") as scratch:
        stage = Stage(Path(scratch))
        stage.simulate()
        if commands and options.kills:
            good &= kill_all(stage, commands, options.kills, chance)
        if races and options.races:
            good &= race_all(stage, races, options.races, chance)
    sys.exit(not good)


if __name__ == "__main__":
    main()
