"""The particles to export, and their rows in the file that they are taken from."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.selection import select
from solvar.errors import InputError
from solvar.export.target import Chosen, ExportOptions
from solvar.imaging.frames import mirrored
from solvar.particles import ParticleSet, Poses, read_as
from solvar.particles.exposures import Exposures
from solvar.particles.picks import TOLERANCE_PIXEL
from solvar.results.matching import find_particles
from solvar.results.run import Run

log = logging.getLogger(__name__)


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
    refined = _takes_refined(run, options)
    if options.flip_hand and not refined:
        raise InputError(
            "holds the poses of its input, whose hand is not in doubt",
            file=run.folder,
            remedy="leave out --flip-hand",
        )
    in_run = select(run, options.selection)
    original = _read(run, options, whole_file)
    place = find_particles(run, in_run, original, options.pick_tolerance)
    # the order of the file, so that nothing but the choice of rows differs from it
    order = np.argsort(place, kind="stable")
    index, in_run = place[order], in_run[order]
    poses, exposures = None, None
    if refined:
        found = run.particles
        rotation = found["rotation"][in_run]
        if options.flip_hand:
            rotation = mirrored(rotation)
        poses = Poses(rotation, found["shift_angstrom"][in_run])
        exposures = _with_own_tilts(run, original.select(index), in_run)
    return Chosen(original, index, in_run, poses, exposures)


def _with_own_tilts(run: Run, particles: ParticleSet, in_run: NDArray[np.int64]) -> Exposures:
    """Images of particles with the shifts that the run found, where their file has a place for them."""
    moved = run.with_own_tilts(particles, in_run).exposures
    if moved.shift_angstrom is None or not particles.is_of_tomograms:
        return moved
    log.warning(
        "%s: has no place for the shifts of tilt images that the run found: they are left out. They stay in "
        "%s, and tilts are moved for other programs by aligning the tilt series anew.",
        particles.source,
        run.folder / "particles.h5",
    )
    return particles.exposures


def _takes_refined(run: Run, options: ExportOptions) -> bool:
    """Whether the poses of the run are wanted; it must have some, of the same centres."""
    if options.refined_poses is False:
        return False
    if not run.has_own_poses:
        if options.refined_poses is None:
            return False
        raise InputError(
            "holds no refined poses, this run kept those of its input",
            file=run.folder,
            remedy="leave out --refined-poses, or repeat the run with --refine-pose",
        )
    if options.pick_tolerance > TOLERANCE_PIXEL:
        # the images of a recentred particle have another origin, and its shift counts from there
        raise InputError(
            f"refined poses would be off by up to --pick-tolerance {options.pick_tolerance:g} px",
            remedy=f"pass --input-poses, or a tolerance of at most {TOLERANCE_PIXEL:g}",
        )
    return True


def _read(run: Run, options: ExportOptions, whole_file: bool) -> ParticleSet:
    """Every row of a file that the user names, else those rows of the input that the run used."""
    if options.particles is not None:
        reading = run.reading_of(options.particles).without_limits().updated(options.reading)
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
    return read_as(source, run.reading.without_limits().updated(options.reading), rows)
