"""One door for every format: recognise, read, select, resolve, check."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from numpy.typing import ArrayLike

from solvar import plugins
from solvar.errors import InputError
from solvar.particles import cryodrgn, cryosparc, relion
from solvar.particles.assembly import assemble
from solvar.particles.optimisation_set import located, members
from solvar.particles.particle_set import ParticleSet
from solvar.particles.reading import Reading, existing
from solvar.particles.selection import read_selection
from solvar.particles.table import Format

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
    tomograms: str | Path | None = None,
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
        RELION .star (an optimisation set too), cryoSPARC .cs, an image stack (.mrcs) or a text file that
        lists stacks; the content decides, not the extension.
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
    tomograms : path, optional
        Star file of the tomograms that the particles are of, with the geometry of their tilt series; by
        default what an optimisation set beside `path` names, or the `tomograms.star` there.
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
        "tomograms": tomograms,
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
    source, reading = _followed(existing(path), reading)
    reading.check()
    format_ = _format_of(source)
    table = format_.read(source, reading)
    for remark in table.remarks:
        log.warning("%s: %s", source, remark)
    row = read_selection(ind, table.particle_count, source)
    return assemble(source, format_.name, table, row, reading)


def _followed(source: Path, reading: Reading) -> tuple[Path, Reading]:
    """The particles that an optimisation set names, read with its tomograms; any other file as it is."""
    named = members(source)
    if named is None:
        return source, reading
    particles, tomograms = named
    if reading.tomograms is None and tomograms is not None:
        reading = replace(reading, tomograms=located(tomograms, source))
    return existing(located(particles, source)), reading


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
