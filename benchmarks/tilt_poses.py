"""Poses and tilt images of simulated tilt series, held against the truth: one row a set and way of refining.

Two states, 300 particles, poses off by 3° (rms) and a pixel an axis, tilt images by a pixel an axis.

    python benchmarks/tilt_poses.py [--tilts 11] [--snr 0.2] [--box 32] [--particles 300] [--rank 2]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from solvar.evaluation import evaluate
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.particles import ParticleSet
from solvar.simulation import SimulationSettings
from tilt_set import Errors, TiltSet, tilt_set

ERRORS = ("out_of_plane_degree", "in_plane_degree", "shift_px")
POSES, BOTH = {"refine_pose": True}, {"refine_pose": True, "refine_tilts": True}


def line(name: str, particles: ParticleSet, made: TiltSet, settings: FitSettings) -> str:
    """What a row of the table says."""
    begun = time.process_time()
    told = evaluate(fit(particles, settings), made.truth)
    seconds, poses = time.process_time() - begun, told["poses"]
    errors = " / ".join(f"{poses.get('within_state', poses)[e]['mean']:.3f}" for e in ERRORS)
    bound = " / ".join(f"{poses['bound_unknown_shape'][e]:.3f}" for e in ERRORS)
    captured = told["covariance"]["captured_variance"]
    return f"{name:38} captured {captured:.3f}  errors {errors}  bound {bound}  {seconds:.0f} s CPU"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, kind, default in (
        ("tilts", int, 11), ("snr", float, 0.2), ("box", int, 32), ("particles", int, 300),
        ("rank", int, 2), ("seed", int, 1),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    given = parser.parse_args()
    simulation = SimulationSettings(
        particles=given.particles, box_size=given.box, pixel_size=192 / given.box, snr=given.snr,
        heterogeneity="discrete", states=2, seed=given.seed, tilts=given.tilts,
    )  # fmt: skip
    errors = Errors(pose_degree=3.0, shift_px=1.0, tilt_px=1.0)
    print("errors within states: out of plane, in plane (degrees), shift (px)")
    with tempfile.TemporaryDirectory() as folder:
        made = tilt_set(Path(folder), simulation, errors)
        for name, particles, chosen in (
            ("all right", made.right, {}),
            ("tilts right, poses refined", made.right_tilts, POSES),
            ("poses refined", made.given, POSES),
            ("poses and tilts refined", made.given, BOTH),
        ):
            settings = FitSettings(rank=given.rank, **chosen)
            print(line(name, particles, made, settings), flush=True)


if __name__ == "__main__":
    main()
