"""A hand-written flat star file of a tilt series: two particles, three tilts each, rows of both mixed."""

from __future__ import annotations

from pathlib import Path

from particles.particle_files import COLUMNS_30, changed, write_star30

GROUPS = ["b", "a", "a", "b", "b", "a"]
DOSE = [6.0, 2.0, 4.0, 2.0, 4.0, 6.0]
# larger where the dose is larger: whoever ranks it turns the series around
SCALE = [1.0, 0.9, 0.95, 0.9, 0.95, 1.0]
TILTS = changed(
    COLUMNS_30,
    drop=("rlnMicrographName",),
    rlnGroupName=GROUPS,
    rlnCtfBfactor=[-4 * dose for dose in DOSE],
    rlnCtfScalefactor=SCALE,
    rlnRandomSubset=["2", "1", "1", "2", "2", "1"],
)


def write_tilts(folder: Path, drop: tuple[str, ...] = (), **new) -> Path:
    """The file with some columns changed, and its images."""
    return write_star30(folder, changed(TILTS, drop, **new))
