"""The particles of a run in another particle file: by who they are, never by where they stand."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.particles import ParticleSet
from solvar.particles.identity import find_uids, image_uid
from solvar.particles.picks import TOLERANCE_PIXEL, find_picks
from solvar.particles.star_blocks import particle_block, read_blocks
from solvar.results.run import Run

Int64 = NDArray[np.int64]


def find_particles(
    run: Run, in_run: Int64, original: ParticleSet, tolerance_pixel: float = TOLERANCE_PIXEL
) -> Int64:
    """Positions in `original` of particles of a run.

    They are known by uid or image name; where that does not find every one, all of them by the image
    files themselves, which two particle files may name differently; and where these are others, as after
    another extraction, by micrograph and coordinates.

    Parameters
    ----------
    run : Run
    in_run : (M,) int64
        Positions in the run.
    original : ParticleSet
        Its uids are distinct, as `read_particles` makes sure.
    tolerance_pixel : float
        Micrograph pixels by which either coordinate may differ.

    Returns
    -------
    (M,) int64
        Distinct.

    Raises
    ------
    InputError
        If a particle is not there, or its coordinates fit more than one; or if one of run and file is a tilt
        series and the other is not.
    """
    _refuse_other_kind(run, original)
    place, found = find_uids(run.particles["uid"][in_run], original.uid)
    if found.all():
        return place
    by_file = _by_image_file(run, in_run, original)
    if by_file is not None:
        return by_file
    if run.picks is None or original.picks is None:
        _refuse_unknown(run, in_run, original, found)
    picks = run.picks.select(in_run)
    place, candidates = find_picks(picks, original.picks, tolerance_pixel)
    for count, problem, remedy in (
        (0, "fit no row", "pass a file with the same particles of the same micrographs"),
        (2, "fit more than one row", "remove repeated picks, or allow less difference"),
    ):
        bad = np.flatnonzero(candidates == count)
        if len(bad):
            first = int(bad[0])
            raise InputError(
                f"{int((~found).sum()):,} of {len(in_run):,} particles of {run.folder} have another "
                f"{_key(run)} here, and by micrograph and coordinates to {tolerance_pixel:g} px "
                f"{len(bad):,} {problem}, the first of them {picks.describe(first)} "
                f"({_row(run, int(in_run[first]))})",
                file=original.source,
                remedy=remedy,
            )
    return place


def _refuse_other_kind(run: Run, original: ParticleSet) -> None:
    """Shifts of tilts stand at each image, so poses of one kind are none of the other."""
    if run.is_of_tilts == (not original.exposures.are_single):
        return
    ours, theirs = ("a tilt series", "has one image a particle")
    if not run.is_of_tilts:
        ours, theirs = ("single particles", "is a tilt series")
    raise InputError(
        f"{theirs}, but {run.folder} is of {ours}",
        file=original.source,
        remedy="pass a file of the same kind",
    )


def _by_image_file(run: Run, in_run: Int64, original: ParticleSet) -> Int64 | None:
    """Positions by image file and place in it; None if that does not find every particle."""
    try:
        ours = run.read_input()
    except InputError:  # it was moved or changed; there are other ways to know a particle
        return None
    place, found = find_uids(_image_file_uid(ours)[in_run], _image_file_uid(original))
    return place if found.all() else None


def _image_file_uid(particles: ParticleSet) -> NDArray[np.uint64]:
    names = [str(stack.resolve()) for stack in particles.stacks]
    images = particles.exposures
    return image_uid(names, images.first_of(images.stack_index), images.first_of(images.frame))


def _refuse_unknown(
    run: Run, in_run: Int64, original: ParticleSet, found: NDArray[np.bool_]
) -> NoReturn:
    lost = np.flatnonzero(~found)
    silent = "the run" if run.picks is None else "this file"
    raise InputError(
        f"{len(lost):,} of {len(in_run):,} particles of {run.folder} are not in this file, "
        f"the first of them {_name(run, int(in_run[lost[0]]))}",
        file=original.source,
        remedy=f"pass a file with the same particles, each with the {_key(run)} it has in "
        f"{run.source} ({silent} has no micrograph names and coordinates to know them by)",
    )


def _key(run: Run) -> str:
    return "uid" if run.record["particles"]["source_format"] == "cryosparc" else "image name"


def _row(run: Run, position: int) -> str:
    return f"row {int(run.particles['row'][position]) + 1} of the input of the run"


def _name(run: Run, position: int) -> str:
    """How the user knows a particle: its image, or its uid, and its row."""
    row = _row(run, position)
    if _key(run) == "uid":
        return f"uid {run.particles['uid'][position]} ({row})"
    try:
        path = run.folder / "particles.star"
        blocks = read_blocks(path, as_text=True, inside=run.folder)
        return f"{blocks[particle_block(blocks, path)]['rlnImageName'].iloc[position]} ({row})"
    except (InputError, IndexError):
        return row
