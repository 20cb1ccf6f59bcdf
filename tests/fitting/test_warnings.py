"""What a fit says of its input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from solvar.fitting.warnings import warnings_of
from solvar.particles.stack_paths import FoundElsewhere


def test_stacks_found_by_their_base_name_are_told(simulated, fitted) -> None:
    fit = fitted(simulated(heterogeneity="gaussian", rank=2), rank=2)
    elsewhere = FoundElsewhere(1, 1, "job5/a.mrcs", Path("/data/a.mrcs"))
    told = warnings_of(replace(fit.particles, found_elsewhere=elsewhere), fit)
    assert told == [
        "1 of 1 stack is not where the particle file says and was found by the file name alone: "
        "job5/a.mrcs is read from /data/a.mrcs.",
        *fit.warnings,
    ]
