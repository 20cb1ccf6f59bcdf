"""Damaged files through every reader: how many are read, refused in a sentence, or do harm.

Each input is a file that some program wrote with one to four mutations (bits, numbers, words, lines, splices,
truncation), read in a child process under a limit of memory and time. Exit code 1 unless all are read or
refused.

    nice python benchmarks/fuzz.py [--inputs 10000] [--formats ../shared/data/formats] [--seed 0]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hostile.fuzzing import OUTCOMES, Outcome, fuzz
from hostile.samples import Sample, foreign_samples, own_samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--only", type=int, help="number of the one input to read")
    parser.add_argument("--formats", type=Path, default=Path("../shared/data/formats"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=int, default=1024, help="MiB a reader may allocate")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a reader may take")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = all_samples(options.formats, Path(folder))
        indices = range(options.inputs) if options.only is None else [options.only]
        started, found = time.perf_counter(), []
        limits = {"memory_mib": options.memory, "seconds": options.seconds}
        for outcome in fuzz(samples, indices, seed=options.seed, **limits):
            found.append(outcome)
            if outcome.is_bad or options.only is not None:
                print(f"{outcome.index} {outcome.sample} {outcome.kind}\n{outcome.detail}")
    seconds = time.perf_counter() - started
    sys.exit(report(found, len(samples), seconds))


def all_samples(formats: Path, folder: Path) -> list[Sample]:
    """Files of our own, and those of other programs where the folder is there."""
    samples = own_samples(folder / "own")
    if formats.is_dir():
        return samples + foreign_samples(formats, folder / "formats")
    print(f"{formats} is not there: hand-written files alone")
    return samples


def report(found: list[Outcome], samples: int, seconds: float) -> int:
    """Counts by outcome; the exit code."""
    counts = Counter(outcome.kind for outcome in found)
    print(f"{len(found):,} inputs made from {samples} readings of a file, {seconds:.0f} s")
    for kind in OUTCOMES:
        print(f"  {kind:14s} {counts[kind]:8,}")
    bad = Counter(outcome.sample for outcome in found if outcome.is_bad)
    for name, count in bad.most_common():
        print(f"  {name}: {count}")
    return int(bool(bad))


if __name__ == "__main__":
    main()
