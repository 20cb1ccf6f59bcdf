"""cryoDRGN: poses.pkl, ctf.pkl and ind.pkl for the particle file at hand.

As cryoDRGN expects, poses and CTFs have one row for each row of the particle file and ind.pkl says
which rows to use: ``cryodrgn … PARTICLES --poses poses.pkl --ctf ctf.pkl --ind ind.pkl``. Rows that
are not exported keep the poses of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from solvar.export.reading_back import compare
from solvar.export.target import Job, Target, Writer
from solvar.particles import read_as
from solvar.particles.cryodrgn_write import (
    refuse_what_cryodrgn_lacks,
    write_ctf_pickle,
    write_poses_pickle,
    write_rows_pickle,
)


def files(job: Job) -> Mapping[str, Writer]:
    """The pickles; poses.pkl comes last.

    Raises
    ------
    InputError
        If cryoDRGN cannot express the optics of the particles.
    """
    chosen = job.particles
    refuse_what_cryodrgn_lacks(chosen.original)
    return {
        "ind.pkl": lambda path: write_rows_pickle(path, chosen.original.row[chosen.index]),
        "ctf.pkl": lambda path: write_ctf_pickle(path, chosen.original),
        "poses.pkl": lambda path: write_poses_pickle(path, chosen.everything),
    }


def read_back(job: Job, written: Mapping[str, Path]) -> int:
    """Read the particle file with the pickles beside it, as cryoDRGN does; returns how many are chosen.

    Raises
    ------
    InputError
        If they cannot be read, or say something else than what was to be written.
    """
    original = job.particles.original
    ind, ctf, poses = (written[name] for name in ("ind.pkl", "ctf.pkl", "poses.pkl"))
    reading = original.reading.updated({"poses": poses, "ctf": ctf})
    return compare(read_as(original.source, reading, ind), job.particles.particles, poses)


TARGET = Target("cryodrgn", files, read_back, whole_file=True)
