"""A `ParticleSet` from what a format hands over: images found, pickles merged in, everything checked."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.optics import CtfParameters, Optics
from solvar.mrc_header import read_mrc_header
from solvar.particles import cryodrgn
from solvar.particles.expansion import copies_by_pose, uids_of_copies
from solvar.particles.exposure_order import numbered
from solvar.particles.exposures import Exposures
from solvar.particles.identity import first_of_each, image_uid
from solvar.particles.particle_set import ParticleSet, Poses
from solvar.particles.reading import Reading
from solvar.particles.stack_paths import FoundElsewhere, StackFinder
from solvar.particles.table import ParticleTable, Series
from solvar.particles.tilt_limits import refuse_limits, used_rows, used_series
from solvar.particles.tilts import tilted
from solvar.particles.validate import Origin, check_row_count, validate

log = logging.getLogger(__name__)


class _Parts(NamedTuple):
    """What is particular of rows that are particles, tilts of particles, or particles of tomograms.

    Attributes
    ----------
    row : (N,) int64
        Place of each particle in the file.
    known_by : (N,) int64
        The row by which each is known.
    stacks, found_elsewhere
        As `_resolve_stacks` has them.
    optics, poses, exposures, halfset, copy_of
        As in `ParticleSet`.
    told : tuple of str
        What was left out, in plain sentences.
    """

    row: NDArray[np.int64]
    known_by: NDArray[np.int64]
    stacks: tuple[Path, ...]
    found_elsewhere: FoundElsewhere | None
    optics: Optics
    poses: Poses
    exposures: Exposures
    halfset: NDArray[np.int8]
    copy_of: NDArray[np.int64] | None = None
    symmetry_copies: int = 0
    told: tuple[str, ...] = ()


def assemble(
    source: Path,
    format_name: str,
    table: ParticleTable,
    row: NDArray[np.int64],
    reading: Reading,
) -> ParticleSet:
    """The selected particles with images found, companion pickles merged in and everything checked."""
    if table.particle is not None:
        parts = _of_tilts(source, table, row, reading)
    elif table.series is not None:
        parts = _of_tomograms(source, table, table.series, row, reading)
    else:
        parts = _of_single(source, table, row, reading)
    for remark in parts.told:
        log.warning("%s: %s", source, remark)
    if table.tomograms is not None:
        reading = replace(reading, tomograms=table.tomograms)
    particles = ParticleSet(
        source=source,
        source_format=format_name,
        row=parts.row,
        uid=_uids(table, parts.known_by, parts.copy_of),
        optics=parts.optics,
        poses=parts.poses,
        stacks=parts.stacks,
        exposures=parts.exposures,
        halfset=parts.halfset,
        reading=reading,
        picks=None if table.picks is None else table.picks.select(parts.known_by),
        found_elsewhere=parts.found_elsewhere,
        copy_of=parts.copy_of,
        symmetry_copies=parts.symmetry_copies,
        supposed=(*table.remarks, *parts.told),
    )
    validate(particles, _origins(source, table, reading))
    return particles


def _of_single(
    source: Path, table: ParticleTable, row: NDArray[np.int64], reading: Reading
) -> _Parts:
    """Of rows that are particles with one image."""
    refuse_limits(reading, source)
    given = len(row)
    if reading.ignore_poses:
        row = _once(table, row)
    stacks, stack_index, elsewhere = _resolve_stacks(table, row, reading.finder(source))
    optics, optics_group, ctf = _optics_and_ctf(source, table, row, reading, stacks, stack_index)
    poses = _poses(source, table, row, reading, optics, optics_group)
    sign = None if table.sign is None else table.sign[row]
    return _Parts(
        row,
        row,
        stacks,
        elsewhere,
        optics,
        poses,
        Exposures.one_each(optics_group, ctf, stack_index, table.frame[row], sign),
        table.halfset[row],
        copy_of=None if reading.ignore_poses else _copy_of(table, row, poses),
        symmetry_copies=given - len(row),
    )


def _of_tilts(
    source: Path, table: ParticleTable, index: NDArray[np.int64], reading: Reading
) -> _Parts:
    """Of rows that are tilts of particles, which are numbered by first appearance."""
    number, row, particle, first, told = used_rows(table, index, reading, source)
    stacks, stack_index, elsewhere = _resolve_stacks(table, row, reading.finder(source))
    optics, optics_group, ctf = _optics_and_ctf(source, table, row, reading, stacks, stack_index)
    images = Exposures(
        particle,
        optics_group,
        ctf,
        stack_index,
        table.frame[row],
        row=row,
        sign=None if table.sign is None else table.sign[row],
        tilt_image=None if table.tilt_image is None else table.tilt_image[row],
    )
    poses = _poses(source, table, row, reading, optics, optics_group)
    poses, images = tilted(poses, numbered(images))
    halfset = _shared_halfset(table.halfset[row], images)
    return _Parts(number, first, stacks, elsewhere, optics, poses, images, halfset, told=told)


def _of_tomograms(
    source: Path,
    table: ParticleTable,
    series: Series,
    row: NDArray[np.int64],
    reading: Reading,
) -> _Parts:
    """Of rows that are particles of tomograms, each with the images of a stack."""
    row, series, told = used_series(series, row, reading, source)
    stacks, stack_index, elsewhere = _resolve_stacks(table, row, reading.finder(source))
    optics, optics_group = _optics(table, row, stacks, stack_index)
    poses = _poses(source, table, row, reading, optics, optics_group)
    shown = series.images.particle
    images = replace(
        series.images,
        optics_group=optics_group[shown],
        stack_index=stack_index[shown],
        frame=_frames(series, stacks, stack_index, source, row),
    )
    halfset = table.halfset[row]
    return _Parts(row, row, stacks, elsewhere, optics, poses, images, halfset, told=told)


def _uids(
    table: ParticleTable, row: NDArray[np.int64], copy_of: NDArray[np.int64] | None
) -> NDArray[np.uint64]:
    """Of particles that are known by some rows: as the file has them, or by their images."""
    if table.uid is not None:
        return table.uid[row]
    uid = image_uid(table.stack_names, table.stack_index[row], table.frame[row])
    return uid if copy_of is None else uids_of_copies(uid, copy_of)


def _frames(
    series: Series,
    stacks: tuple[Path, ...],
    stack_index: NDArray[np.int64],
    source: Path,
    row: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Frame (M,) of each image in its stack, which has the visible exposures or all of them."""
    depth = np.array([read_mrc_header(stack).shape[0] for stack in stacks])[stack_index]
    odd = np.flatnonzero((depth != series.visible) & (depth != series.total))
    if len(odd):
        first = odd[0]
        raise InputError(
            f"its stack has {depth[first]} images, but its tilt series has {series.total[first]} exposures, "
            f"{series.visible[first]} of them visible",
            file=source,
            row=int(row[first]),
            column="rlnImageName",
            remedy="pass the tomograms that the particles were extracted from",
        )
    has_all = (depth == series.total)[series.images.particle]
    return np.where(has_all, series.number, series.images.frame)


def _shared_halfset(halfset: NDArray[np.int8], images: Exposures) -> NDArray[np.int8]:
    """Half-sets (N,) of particles from those of their images; 0 where these differ."""
    found = halfset[images.first]
    torn = np.unique(images.particle[halfset != found[images.particle]])
    found[torn] = 0
    return found


def _once(table: ParticleTable, row: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows without those that are symmetry copies of a particle that came before."""
    if table.expanded_from is None:
        return row
    return row[np.sort(np.unique(table.expanded_from[row], return_index=True)[1])]


def _copy_of(
    table: ParticleTable, row: NDArray[np.int64], poses: Poses
) -> NDArray[np.int64] | None:
    """For each selected row the first one of the same particle; None if every particle is there once.

    A file says so itself, or by poses of rows that share an image.
    """
    if table.expanded_from is not None:
        first = first_of_each(table.expanded_from[row])
        return None if np.array_equal(first, np.arange(len(row))) else first
    stack, frame = table.stack_index[row], table.frame[row]
    return copies_by_pose(stack * (frame.max(initial=0) + 1) + frame, poses.rotation)


def _resolve_stacks(
    table: ParticleTable, row: NDArray[np.int64], finder: StackFinder
) -> tuple[tuple[Path, ...], NDArray[np.int64], FoundElsewhere | None]:
    """Files of the stacks that the selected rows use, and the rows' index into them."""
    used, first, stack_index = np.unique(
        table.stack_index[row], return_index=True, return_inverse=True
    )
    # in the order of the rows, so that a message names the first row that is wrong
    order = np.argsort(first)
    names = [table.stack_names[s] for s in used[order]]
    files, elsewhere = finder.find_all(names, row[first[order]].tolist())
    stacks = tuple(files[place] for place in np.argsort(order))
    return stacks, stack_index.reshape(-1).astype(np.int64), elsewhere


def _optics_and_ctf(
    source: Path,
    table: ParticleTable,
    row: NDArray[np.int64],
    reading: Reading,
    stacks: tuple[Path, ...],
    stack_index: NDArray[np.int64],
) -> tuple[Optics, NDArray[np.int64], CtfParameters]:
    """From the table, or from the CTF pickle that replaces it; only groups in use are kept."""
    if reading.ctf is not None:
        pickled = cryodrgn.read_ctf(reading.ctf)
        check_row_count(
            len(pickled), len(table), file=reading.ctf, what="CTF parameters", of=str(source)
        )
        box_size = np.full(len(row), read_mrc_header(stacks[0]).shape[1] if stacks else 0)
        return cryodrgn.interpret_ctf(pickled[row], box_size)
    assert table.ctf is not None
    return *_optics(table, row, stacks, stack_index), table.ctf.take(row)


def _optics(
    table: ParticleTable,
    row: NDArray[np.int64],
    stacks: tuple[Path, ...],
    stack_index: NDArray[np.int64],
) -> tuple[Optics, NDArray[np.int64]]:
    """The optics groups that the selected rows use, and which of them each is of."""
    assert table.optics is not None
    used, group = np.unique(table.optics_group[row], return_inverse=True)
    group = group.reshape(-1).astype(np.int64)
    return _fill_box_size(table.optics.take(used), group, stacks, stack_index), group


def _fill_box_size(
    optics: Optics,
    group: NDArray[np.int64],
    stacks: tuple[Path, ...],
    stack_index: NDArray[np.int64],
) -> Optics:
    """Where the metadata does not give the edge of the images, ask one image of the group."""
    box_size = optics.box_size.copy()
    for g in np.flatnonzero(box_size == 0):
        stack = stacks[stack_index[np.argmax(group == g)]]
        box_size[g] = read_mrc_header(stack).shape[1]
    return replace(optics, box_size=box_size)


def _poses(
    source: Path,
    table: ParticleTable,
    row: NDArray[np.int64],
    reading: Reading,
    optics: Optics,
    optics_group: NDArray[np.int64],
) -> Poses:
    if reading.ignore_poses:
        return Poses(np.tile(np.eye(3), (len(row), 1, 1)), np.zeros((len(row), 2)))
    if reading.poses is not None:
        rotation, fraction = cryodrgn.read_poses(reading.poses)
        check_row_count(len(rotation), len(table), file=reading.poses, what="poses", of=str(source))
        return cryodrgn.scale_poses(rotation[row], fraction[row], optics, optics_group)
    assert table.poses is not None
    return Poses(table.poses.rotation[row], table.poses.shift_angstrom[row])


def _origins(source: Path, table: ParticleTable, reading: Reading) -> dict[str, Origin]:
    """Which file and column each field came from, for messages."""
    origins = {field: Origin(source, column) for field, column in table.columns.items()}
    if reading.ctf is not None:
        for fields in (CtfParameters.__dataclass_fields__, Optics.__dataclass_fields__):
            origins |= {field: Origin(reading.ctf, field) for field in fields}
    if reading.poses is not None:
        origins |= {field: Origin(reading.poses) for field in ("rotation", "shift_angstrom")}
    return origins
