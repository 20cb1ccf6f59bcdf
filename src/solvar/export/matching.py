"""Finding the particles of a run in a particle file: by who they are, never by where they stand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.export.selection import select
from solvar.export.target import Chosen, ExportOptions
from solvar.particles import ParticleSet, Poses, read_as
from solvar.particles.identity import find_uids
from solvar.particles.star_blocks import particle_block, read_blocks
from solvar.results.run import Run


def choose(run: Run, options: ExportOptions, whole_file: bool = False) -> Chosen:
    """The selected particles of a run with their rows in the original file.

    Parameters
    ----------
    run : Run
    options : ExportOptions
    whole_file : bool
        Read every row of the file, also when the run used some of them.

    Returns
    -------
    Chosen

    Raises
    ------
    InputError
        If the selection or the file cannot be used, a particle is not in the file, or refined poses
        are asked of a run that has none.
    """
    if options.refined_poses and run.pose_refinement is None:
        raise InputError(
            "holds no refined poses, this run kept those of its input",
            file=run.folder,
            remedy="leave out --refined-poses, or repeat the run with --refine-pose",
        )
    in_run = select(run, options.selection)
    original = _read(run, options, whole_file)
    place = _match(run, in_run, original)
    # the order of the file, so that nothing but the choice of rows differs from it
    order = np.argsort(place, kind="stable")
    index, in_run = place[order], in_run[order]
    poses = None
    if options.refined_poses:
        found = run.particles
        poses = Poses(found["rotation"][in_run], found["shift_angstrom"][in_run])
    return Chosen(original, index, in_run, poses)


def _read(run: Run, options: ExportOptions, whole_file: bool) -> ParticleSet:
    """Every row of a file that the user names, else those rows of the input that the run used."""
    if options.particles is not None:
        reading = run.reading_of(options.particles).updated(options.reading)
        return read_as(options.particles, reading)
    source = run.source
    if not source.is_file():
        raise InputError(
            "from which the run was made, is no longer there",
            file=source,
            remedy="pass its new place with --particles",
        )
    # rows that the run left out may be unreadable
    rows = None if whole_file else np.sort(run.particles["row"])
    return read_as(source, run.reading.updated(options.reading), rows)


def _match(run: Run, in_run: NDArray[np.int64], original: ParticleSet) -> NDArray[np.int64]:
    """(M,) positions in `original`, whose uids are distinct as `read_particles` makes sure."""
    uid = run.particles["uid"][in_run]
    place, found = find_uids(uid, original.uid)
    lost = np.flatnonzero(~found)
    if len(lost):
        known = run.record["particles"]
        by = "uid" if known["source_format"] == "cryosparc" else "image name"
        raise InputError(
            f"{len(lost):,} of {len(uid):,} particles of {run.folder} are not in this file, "
            f"the first of them {_name(run, int(in_run[lost[0]]))}",
            file=original.source,
            remedy=f"pass a file with the same particles, each with the {by} it has in "
            f"{known['source']}",
        )
    return place


def _name(run: Run, position: int) -> str:
    """How the user knows a particle: its image, or its uid, and its row."""
    row = f"row {int(run.particles['row'][position]) + 1} of the input of the run"
    if run.record["particles"]["source_format"] == "cryosparc":
        return f"uid {run.particles['uid'][position]} ({row})"
    try:
        path = run.folder / "particles.star"
        blocks = read_blocks(path, as_text=True)
        return f"{blocks[particle_block(blocks, path)]['rlnImageName'].iloc[position]} ({row})"
    except (InputError, IndexError):
        return row
