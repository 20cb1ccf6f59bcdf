"""One door for every format: recognise, read, select, resolve, check."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar import plugins
from solvar.errors import InputError
from solvar.imaging.optics import CtfParameters, Optics
from solvar.mrc_header import read_mrc_header
from solvar.particles import cryodrgn, cryosparc, relion
from solvar.particles.expansion import copies_by_pose, uids_of_copies
from solvar.particles.exposures import Exposures
from solvar.particles.identity import first_of_each, image_uid
from solvar.particles.particle_set import ParticleSet, Poses
from solvar.particles.reading import Reading, existing
from solvar.particles.selection import read_selection
from solvar.particles.stack_paths import FoundElsewhere, StackFinder
from solvar.particles.table import Format, ParticleTable
from solvar.particles.tilt_limits import refuse_limits, used_rows
from solvar.particles.tilts import tilted
from solvar.particles.validate import Origin, check_row_count, validate

log = logging.getLogger(__name__)

_UNKNOWN = "is no RELION star file, no cryoSPARC .cs file, no MRC stack and no list of stacks"
# A format beside these is a plug-in; `plugins` says how.
FORMATS: tuple[Format, ...] = (relion.FORMAT, cryosparc.FORMAT, cryodrgn.FORMAT)


def read_particles(
    path: str | Path,
    *,
    datadir: str | Path | None = None,
    strip_prefix: str | None = None,
    ind: str | Path | ArrayLike | None = None,
    poses: str | Path | None = None,
    ctf: str | Path | None = None,
    passthrough: Sequence[str | Path] = (),
    ignore_poses: bool = False,
    pixel_size: float | None = None,
    voltage: float | None = None,
    cs: float | None = None,
    amplitude_contrast: float | None = None,
    tilts: int | None = None,
    dose: float | None = None,
) -> ParticleSet:
    """Read the particles of a refinement.

    Parameters
    ----------
    path : path
        RELION .star, cryoSPARC .cs, an image stack (.mrcs) or a text file that lists stacks; the
        content decides, not the extension.
    datadir : path, optional
        Folder that image paths are relative to.
    strip_prefix : str, optional
        Leading path to remove from image paths.
    ind : path or (M,) array-like, optional
        Zero-based rows to keep, in this order: an array, or a .pkl, .npy or text file. Where a particle
        has several rows, a tilt series, these are numbers of particles, in order of their first rows.
    poses, ctf : path, optional
        cryoDRGN pickles, one row per row of `path`; needed with an image stack, and taking the
        place of the file's own poses or CTFs otherwise.
    passthrough : sequence of path
        cryoSPARC passthrough files, joined by uid.
    ignore_poses : bool
        Leave poses unread, so that files without any will do: for `ab_initio` of `FitSettings`.
    pixel_size, voltage, cs, amplitude_contrast : float, optional
        Pixel size of the images (Å), voltage (kV), spherical aberration (mm) and amplitude contrast,
        for where the file has none.
    tilts : int, optional
        Of a tilt series the first exposures alone, so many in the order of dose.
    dose : float, optional
        Of a tilt series the images of specimens that had received so much at most, e/Å².

    Returns
    -------
    ParticleSet

    Raises
    ------
    InputError
        If anything is missing, inconsistent or absurd, or the file has another value than is given.

    Notes
    -----
    More than seven arguments: one for each thing that a file may lack; `Reading` keeps them together.
    """
    given = {
        "datadir": datadir,
        "strip_prefix": strip_prefix,
        "poses": poses,
        "ctf": ctf,
        "passthrough": passthrough,
        "ignore_poses": ignore_poses,
        "pixel_size": pixel_size,
        "voltage": voltage,
        "cs": cs,
        "amplitude_contrast": amplitude_contrast,
        "tilts": tilts,
        "dose": dose,
    }
    return read_as(path, Reading.of_record(given), ind)


def read_as(
    path: str | Path, reading: Reading, ind: str | Path | ArrayLike | None = None
) -> ParticleSet:
    """`read_particles` with the options of an earlier reading.

    Parameters
    ----------
    path : path
    reading : Reading
    ind : path or (M,) array-like, optional

    Raises
    ------
    InputError
        As `read_particles`.
    """
    source = existing(path)
    reading.check()
    format_ = _format_of(source)
    table = format_.read(source, reading)
    for remark in table.remarks:
        log.warning("%s: %s", source, remark)
    row = read_selection(ind, table.particle_count, source)
    return _assemble(source, format_.name, table, row, reading)


def _format_of(source: Path) -> Format:
    for format_ in FORMATS:
        if format_.recognises(source):
            return format_
    added, broken = _added_format_of(source)
    if added is not None:
        return added
    raise InputError(
        "; ".join([_UNKNOWN, *broken]),
        file=source,
        remedy="pass the particles file of a refinement (run_data.star, …_particles.cs), "
        "or a stack with --poses and --ctf",
    )


def _added_format_of(source: Path) -> tuple[Format | None, list[str]]:
    """The plug-in that reads a file, if there is one, under its own name; what is wrong with others."""
    broken: list[str] = []
    ours = {format_.name for format_ in FORMATS}
    for plugin in plugins.plugins(plugins.FORMATS):
        if plugin.name in ours:
            continue
        try:
            format_ = plugin.load()
            if format_.recognises(source):
                return Format(plugin.name, format_.recognises, format_.read), broken
        except InputError as error:
            broken.append(error.problem)
        except Exception as error:
            broken.append(plugin.broken(f"failed ({type(error).__name__}: {error})").problem)
    return None, broken


def _assemble(
    source: Path,
    format_name: str,
    table: ParticleTable,
    row: NDArray[np.int64],
    reading: Reading,
) -> ParticleSet:
    """The selected particles with images found, companion pickles merged in and everything checked."""
    if table.particle is not None:
        return _assemble_tilts(source, format_name, table, row, reading)
    refuse_limits(reading, source)
    given = len(row)
    if reading.ignore_poses:
        row = _once(table, row)
    stacks, stack_index, elsewhere = _resolve_stacks(table, row, reading.finder(source))
    optics, optics_group, ctf = _optics_and_ctf(source, table, row, reading, stacks, stack_index)
    poses = _poses(source, table, row, reading, optics, optics_group)
    copy_of = None if reading.ignore_poses else _copy_of(table, row, poses)
    if table.uid is not None:
        uid = table.uid[row]
    else:
        uid = image_uid(table.stack_names, table.stack_index[row], table.frame[row])
        uid = uid if copy_of is None else uids_of_copies(uid, copy_of)
    particles = ParticleSet(
        source=source,
        source_format=format_name,
        row=row,
        uid=uid,
        optics=optics,
        poses=poses,
        stacks=stacks,
        exposures=Exposures.one_each(
            optics_group,
            ctf,
            stack_index,
            table.frame[row],
            None if table.sign is None else table.sign[row],
        ),
        halfset=table.halfset[row],
        reading=reading,
        picks=None if table.picks is None else table.picks.select(row),
        found_elsewhere=elsewhere,
        copy_of=copy_of,
        symmetry_copies=given - len(row),
        supposed=table.remarks,
    )
    validate(particles, _origins(source, table, reading))
    return particles


def _assemble_tilts(
    source: Path,
    format_name: str,
    table: ParticleTable,
    index: NDArray[np.int64],
    reading: Reading,
) -> ParticleSet:
    """The selected particles of a tilt series, numbered by first appearance, each with its rows."""
    index, row, particle, first, told = used_rows(table, index, reading, source)
    for remark in told:
        log.warning("%s: %s", source, remark)
    stacks, stack_index, elsewhere = _resolve_stacks(table, row, reading.finder(source))
    optics, optics_group, ctf = _optics_and_ctf(source, table, row, reading, stacks, stack_index)
    poses = _poses(source, table, row, reading, optics, optics_group)
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
    poses, images = tilted(poses, images)
    particles = ParticleSet(
        source=source,
        source_format=format_name,
        row=index,
        uid=image_uid(table.stack_names, table.stack_index[first], table.frame[first]),
        optics=optics,
        poses=poses,
        stacks=stacks,
        exposures=images,
        halfset=_shared_halfset(table.halfset[row], images),
        reading=reading,
        picks=None if table.picks is None else table.picks.select(first),
        found_elsewhere=elsewhere,
        supposed=(*table.remarks, *told),
    )
    validate(particles, _origins(source, table, reading))
    return particles


def _shared_halfset(halfset: NDArray[np.int8], images: Exposures) -> NDArray[np.int8]:
    """Half-sets (N,) of particles from those of their images; 0 where these differ."""
    first = images.first_of(np.arange(len(images)))
    found = halfset[first]
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
    assert table.optics is not None and table.ctf is not None
    used, group = np.unique(table.optics_group[row], return_inverse=True)
    group = group.reshape(-1).astype(np.int64)
    optics = table.optics.take(used)
    optics = _fill_box_size(optics, group, stacks, stack_index)
    return optics, group, table.ctf.take(row)


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
