"""What the plan of a run tells of memory and disk, by particles and box; nothing is read or run.

python benchmarks/plan.py [--rank 10] [--sets 20000,128 1000000,128]
"""

from __future__ import annotations

import argparse

from solvar.fitting.settings import FitSettings
from solvar.preflight.cost import Speed, cost_of

SETS = [
    "20000,64",
    "20000,128",
    "20000,256",
    "20000,384",
    "100000,128",
    "1000000,64",
    "1000000,128",
]
GIB = 2**30
# seconds need a machine, memory and disk do not
NO_TIME = Speed(0.0, 0.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank", type=int, default=10)
    parser.add_argument("--sets", nargs="+", default=SETS, help="particles,box")
    asked = parser.parse_args()
    print("GiB                           images on disk           in memory")
    print("particles  box   stack  memory    disk  float16     memory")
    for count, box in (map(int, each.split(",")) for each in asked.sets):
        told = [
            cost_of(count, box, box // 2 - 1, settings, NO_TIME)
            for settings in (
                FitSettings(rank=asked.rank, lazy=True),
                FitSettings(rank=asked.rank, lazy=True, cache_precision="float16"),
                FitSettings(rank=asked.rank, lazy=False),
            )
        ]
        disk, half, memory = told
        sizes = [4 * count * box**2, disk.memory, disk.disk, half.disk, memory.memory]
        row = "".join(f"{size / GIB:8.1f}" for size in sizes[:3])
        print(f"{count:9,} {box:4d}{row} {sizes[3] / GIB:8.1f} {sizes[4] / GIB:10.1f}")


if __name__ == "__main__":
    main()
