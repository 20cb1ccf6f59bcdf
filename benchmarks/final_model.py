"""How many sweeps the final model needs, with spare columns and without, from the same two half models.

    python benchmarks/final_model.py FOLDER --rank 4 [--resolution 6.2] [--sweeps 0,1 0,2 0,3 1,1 2,2]

FOLDER is a simulated set with its truth. A row tells sweeps with spare columns, sweeps without, CPU seconds,
and the captured variance to half Nyquist and to the finest frequency; the first one is of the merged halves.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from solvar.evaluation import Truth, captured_variance
from solvar.fitting import final, fit
from solvar.fitting.schedule import FinalSchedule
from solvar.fitting.settings import FitSettings
from solvar.imaging.fourier import crop_volume
from solvar.particles import read_particles


class Told(Exception):
    """All has been measured: the fit need not go on."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--resolution", type=float)
    parser.add_argument("--sweeps", nargs="+", default=["0,1", "0,2", "0,3", "1,1", "2,2"])
    asked = parser.parse_args()
    truth = Truth.load(asked.data)
    sweeps = [FinalSchedule(*map(int, pair.split(","))) for pair in asked.sweeps]

    def finish(context: Any, state: Any, progress: Any) -> None:
        box, k_max = context.images.box, context.k_max

        def told(columns: np.ndarray) -> str:
            found = crop_volume(columns, box), truth.eigenvolumes
            both = (captured_variance(*found, mask=truth.mask, k_c=k) for k in (box / 4, k_max))
            return "  ".join(f"{value:12.4f}" for value in both)

        merged = final.merge(state, context.labels, [asked.rank])[1:]
        print(f"spare  last    CPU s  half Nyquist        finest\n{'':20s}  {told(merged)}")
        for schedule in sweeps:
            final.schedule_final = lambda *_, chosen=schedule: chosen
            begun = time.process_time()
            *_, columns = final.sweep_all(context, state, 0.1, progress)
            seconds = time.process_time() - begun
            row = f"{schedule.wide_sweeps:5d} {schedule.sweeps:5d} {seconds:8.1f}"
            print(f"{row}  {told(columns)}", flush=True)
        raise Told

    fit.finish = finish
    settings = FitSettings(rank=asked.rank, resolution=asked.resolution)
    with contextlib.suppress(Told):
        fit.fit(read_particles(asked.data / "particles.star"), settings)


if __name__ == "__main__":
    main()
