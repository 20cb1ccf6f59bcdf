"""RELION star files, versions 2 to 5: reading.

From 3.1 on, optical constants stand in a `data_optics` block and origins are in Å; before,
constants stand beside each particle and origins are in pixels. Mixtures exist and are read as long
as they do not contradict themselves. RELION's angles give R = Rz(rot)·Ry(tilt)·Rz(psi).
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import open_regular, read_bytes
from solvar.imaging.optics import CtfParameters, Optics
from solvar.particles import relion_tomo
from solvar.particles.constants import complete
from solvar.particles.optimisation_set import tomograms_of
from solvar.particles.particle_set import Poses
from solvar.particles.picks import Picks
from solvar.particles.pixel_columns import (
    RECORDED,
    read_recorded,
    refuse_hidden,
    refuse_mirrored,
    refuse_scales_that_differ,
    signs_that_differ,
)
from solvar.particles.reading import Reading
from solvar.particles.relion_aberrations import ABERRATIONS, read_aberrations
from solvar.particles.relion_subtracted import made_of_one
from solvar.particles.relion_tilts import (
    BFACTOR,
    PRE_EXPOSURE,
    SCALE,
    ctf_of_tilts,
    exposures_of_tilts,
    particles_of_tilts,
    refuse_premultiplied,
    refuse_readings,
    with_magnification,
)
from solvar.particles.relion_tomo import is_of_tomograms, refuse_subtomograms
from solvar.particles.relion_write import ORIGINAL, SIGN, write_star
from solvar.particles.star_blocks import REFINEMENT, particle_block, read_blocks
from solvar.particles.star_columns import ANGLES, StarColumns, as_words
from solvar.particles.star_lines import begins_block
from solvar.particles.table import CENTRED, FIND_POSES, Format, ParticleTable, group_rows
from solvar.particles.tomograms import read_tomograms

if TYPE_CHECKING:
    import pandas as pd

Float64 = NDArray[np.float64]

_CTF_REMEDY = "pass a star file with CTF parameters, or --ctf ctf.pkl"
_POSE_REMEDY = f"{REFINEMENT} or --poses poses.pkl, or {FIND_POSES}"
_ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginX", "rlnOriginY")
_ORIGIN_TOLERANCE_ANGSTROM = 1e-3
_MIRRORED = "rlnIsFlip"
_COLUMNS = {
    "rotation": "rlnAngleRot, rlnAngleTilt, rlnAnglePsi",
    "shift_angstrom": "rlnOriginXAngst, rlnOriginYAngst",
    "defocus_u_angstrom": "rlnDefocusU",
    "defocus_v_angstrom": "rlnDefocusV",
    "defocus_angle_radian": "rlnDefocusAngle",
    "phase_shift_radian": "rlnPhaseShift",
    "bfactor_angstrom2": BFACTOR,
    "scale": SCALE,
    "dose_per_angstrom2": f"{BFACTOR}, {PRE_EXPOSURE}",
    "voltage_kv": "rlnVoltage",
    "spherical_aberration_mm": "rlnSphericalAberration",
    "amplitude_contrast": "rlnAmplitudeContrast",
    "pixel_size_angstrom": "rlnImagePixelSize",
    "box_size": "rlnImageSize",
    "magnification": "rlnMagMat00",
    "beam_tilt_mrad": "rlnBeamTiltX",
    "odd_zernike": "rlnOddZernike",
    "even_zernike": "rlnEvenZernike",
}


def recognises(path: Path) -> bool:
    """Text with a line that begins a data block."""
    try:
        with open_regular(path) as file:
            # the last character may be cut
            start = codecs.getincrementaldecoder("utf-8")().decode(read_bytes(file, 65536))
    except (OSError, UnicodeDecodeError):
        return False
    return begins_block(start)


def read(path: Path, reading: Reading) -> ParticleTable:
    """Read the particle block with the optics it refers to."""
    blocks = read_blocks(path)
    table = StarColumns(path, blocks[particle_block(blocks, path)], _optics_block(blocks, path))
    if not len(table):
        raise InputError("holds no particles", file=path, remedy=REFINEMENT)
    refuse_subtomograms(table, blocks.get("general"))
    refuse_mirrored(table.optional(_MIRRORED), path, _MIRRORED)
    if is_of_tomograms(table):
        return _read_of_tomograms(table, blocks.get("general"), reading)
    particle = particles_of_tilts(table.particles)
    if particle is not None:
        refuse_readings(reading, path)
        table.particles = with_magnification(table.particles)
    stack_names, stack_index, frame = _images(table)
    optics, optics_group, ctf = None, np.zeros(len(frame), dtype=np.int64), None
    remarks = _remarks(table, reading)
    if reading.ctf is None:
        optics, optics_group = _optics(table, reading)
        ctf = _ctf(table)
        if particle is not None:
            refuse_premultiplied(optics, path)
            ctf, told = ctf_of_tilts(ctf, table.given, path)
            remarks = (*remarks, *told)
        elif table.has(SCALE):
            refuse_scales_that_differ(table.constant(SCALE, ""), path, SCALE)
    else:
        refuse_hidden(_recorded(table), path)
    return ParticleTable(
        stack_names=stack_names,
        stack_index=stack_index,
        frame=frame,
        halfset=_halfset(table),
        optics_group=optics_group,
        optics=optics,
        ctf=ctf,
        poses=_poses(table, reading) if reading.reads_poses else None,
        expanded_from=None if particle is not None else made_of_one(table.particles.get(ORIGINAL)),
        picks=_picks(table),
        sign=_sign(table),
        particle=particle,
        tilt_image=None if particle is None else exposures_of_tilts(table.particles),
        remarks=remarks,
        columns=_COLUMNS,
    )


def _read_of_tomograms(
    table: StarColumns, general: pd.DataFrame | None, reading: Reading
) -> ParticleTable:
    """Particles of tomograms: a row has the images of a stack, and tilts that another file describes."""
    relion_tomo.refuse_readings(reading, table.path)
    tomograms_star = reading.tomograms or tomograms_of(table.path, general)
    names = np.unique(relion_tomo.names_of_tomograms(table))
    tomograms = read_tomograms(tomograms_star, names, reading.finder(tomograms_star))
    found = relion_tomo.positions(table, tomograms)
    stack_names, stack_index, frame = _images(table)
    relion_tomo.refuse_single_images(table)
    optics, optics_group = _optics(table, reading)
    poses = relion_tomo.poses(table)
    series = relion_tomo.series(
        table, found, poses.shift_angstrom, tomograms, stack_index, optics_group
    )
    told = [remark for each in tomograms.values() for remark in each.remarks]
    return ParticleTable(
        stack_names=stack_names,
        stack_index=stack_index,
        frame=frame,
        halfset=_halfset(table),
        optics_group=optics_group,
        optics=optics,
        poses=poses,
        uid=relion_tomo.uids(table),
        picks=Picks.of_paths(list(tomograms), found.tomogram, found.unbinned),
        series=series,
        tomograms=tomograms_star,
        remarks=(*dict.fromkeys(told), *found.remarks),
        columns=_COLUMNS,
    )


def _remarks(table: StarColumns, reading: Reading) -> tuple[str, ...]:
    if not reading.reads_poses or table.has_any(_ORIGINS):
        return ()
    return (CENTRED.format(_ORIGINS[0]),)


def _optics_block(blocks: dict[str, pd.DataFrame], path: Path) -> pd.DataFrame | None:
    optics = blocks.get("optics")
    if optics is not None and not len(optics):
        raise InputError("the data_optics block is empty", file=path, remedy=REFINEMENT)
    return optics


def _images(table: StarColumns) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    """Split `frame@stack` (frames from 1); a bare name is a file with one image."""
    import pandas as pd

    names = as_words(table.particles["rlnImageName"])
    parts = names.str.partition("@")
    numbered = parts[1] == "@"
    stacks = parts[2].where(numbered, parts[0])
    number = pd.to_numeric(parts[0].where(numbered, "1"), errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~(number >= 1) | (number % 1 != 0) | stacks.isin(("", "nan")).to_numpy())
    if len(bad):
        raise InputError(
            f"'{names.iloc[bad[0]]}' is not of the form 000001@stack.mrcs, counted from 1",
            file=table.path,
            row=int(bad[0]),
            column="rlnImageName",
            remedy="correct the name",
        )
    stack_index, stack_names = pd.factorize(stacks)
    return tuple(stack_names), stack_index.astype(np.int64), number.astype(np.int64) - 1


def _constants(table: StarColumns, reading: Reading, *fields: str) -> dict[str, Float64]:
    """Constants of each particle, (N,) each, from the file or as they are given."""
    found = {field: _constant(table, field) for field in fields}

    def missing(field: str, remedy: str) -> InputError:
        problem = "is missing"
        if field == "pixel_size_angstrom":
            problem = "is missing, and so is rlnDetectorPixelSize with rlnMagnification"
        return table.missing(_COLUMNS[field], remedy + " or --ctf ctf.pkl", problem)

    return complete(found, reading.constants, len(table), missing)


def _constant(table: StarColumns, field: str) -> Float64 | None:
    if field == "pixel_size_angstrom":
        return _pixel_size(table)
    name = _COLUMNS[field]
    return table.constant(name, "") if table.has(name) else None


def _optics(table: StarColumns, reading: Reading) -> tuple[Optics, NDArray[np.int64]]:
    """One group per optics group of the file and set of constants."""
    constants = _constants(
        table,
        reading,
        *("voltage_kv", "spherical_aberration_mm", "amplitude_contrast", "pixel_size_angstrom"),
    )
    box_size = np.zeros(len(table))
    if table.has("rlnImageSize"):
        box_size = table.constant("rlnImageSize", "")
    # an old file tells aberrations beside each particle
    beside = [name for name in ABERRATIONS if name in table.particles.columns]
    spelled = [as_words(table.particles[name]).to_numpy(dtype=str) for name in beside]
    recorded = _recorded(table)
    first, group = group_rows(
        [table.group_row, *constants.values(), box_size, *spelled, *recorded.values()]
    )
    described: dict[str, Any] = read_aberrations(
        lambda name: table.of_rows(name, first), table.path
    )
    described |= {f: values[first] for f, values in {**recorded, **constants}.items()}
    optics = Optics(
        name=_group_names(table, first),
        box_size=np.nan_to_num(box_size[first]).astype(np.int64),
        **described,
    )
    return optics, group


def _group_names(table: StarColumns, first: NDArray[np.int64]) -> tuple[str, ...]:
    if table.optics is not None and "rlnOpticsGroupName" in table.optics.columns:
        named = as_words(table.optics["rlnOpticsGroupName"]).to_numpy()[table.group_row[first]]
        return tuple(str(n) for n in named)
    return tuple(f"opticsGroup{g + 1}" for g in range(len(first)))


def _pixel_size(table: StarColumns) -> Float64 | None:
    """Å: given as such, or as detector pixel size (µm) and magnification; None if neither is there."""
    for name in ("rlnImagePixelSize", "rlnPixelSize"):
        if table.has(name):
            return table.constant(name, "")
    if table.has("rlnDetectorPixelSize") and table.has("rlnMagnification"):
        detector = table.constant("rlnDetectorPixelSize", "")
        return detector * 1e4 / table.constant("rlnMagnification", "")
    return None


def _ctf(table: StarColumns) -> CtfParameters:
    return CtfParameters(
        table.numbers("rlnDefocusU", _CTF_REMEDY),
        table.numbers("rlnDefocusV", _CTF_REMEDY),
        np.deg2rad(table.numbers("rlnDefocusAngle", _CTF_REMEDY)),
        phase_shift_radian=np.deg2rad(table.optional("rlnPhaseShift")),
        bfactor_angstrom2=table.optional(BFACTOR),
    )


def _poses(table: StarColumns, reading: Reading) -> Poses:
    rotation = table.rotations(ANGLES, _POSE_REMEDY)
    if table.has_any(_ORIGINS):
        shift = [_origin(table, axis, reading) for axis in "XY"]
    else:
        # as RELION and cryoDRGN take it
        shift = [np.zeros(len(table))] * 2
    return Poses(rotation, np.stack(shift, axis=-1))


def _origin(table: StarColumns, axis: str, reading: Reading) -> Float64:
    """Origin along one axis in Å, from Å, pixels, or both where they agree."""
    angst, pixel = f"rlnOrigin{axis}Angst", f"rlnOrigin{axis}"
    columns = table.particles.columns
    if pixel not in columns:
        return table.numbers(angst, _POSE_REMEDY)
    pixel_size = _constants(table, reading, "pixel_size_angstrom")["pixel_size_angstrom"]
    in_pixels = table.numbers(pixel, _POSE_REMEDY) * pixel_size
    if angst not in columns:
        return in_pixels
    in_angst = table.numbers(angst, _POSE_REMEDY)
    # RELION prints seven digits, so a pixel origin is good to 1e-5 pixels at worst
    tolerance = _ORIGIN_TOLERANCE_ANGSTROM + 1e-5 * pixel_size
    conflict = np.flatnonzero(np.abs(in_angst - in_pixels) > tolerance)
    if len(conflict):
        row = conflict[0]
        raise InputError(
            f"says {in_angst[row]:g} Å, but {pixel} says {in_pixels[row]:g} Å",
            file=table.path,
            row=int(row),
            column=angst,
            remedy="remove the outdated pair of origin columns",
        )
    return in_angst


def _picks(table: StarColumns) -> Picks | None:
    """Micrographs and coordinates in their pixels; what is no number counts as not given."""
    import pandas as pd

    names = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY")
    if any(name not in table.particles.columns for name in names):
        return None
    index, paths = pd.factorize(as_words(table.particles[names[0]]))
    xy = [pd.to_numeric(table.particles[name], errors="coerce") for name in names[1:]]
    return Picks.of_paths(list(paths), index.astype(np.int64), np.column_stack(xy))


def _halfset(table: StarColumns) -> NDArray[np.int8]:
    subset = table.optional("rlnRandomSubset")
    return np.where(np.isin(subset, (1, 2)), subset, 0).astype(np.int8)


def _sign(table: StarColumns) -> NDArray[np.int8] | None:
    """RELION has no such column: `write_star` adds it to particles that came from cryoSPARC."""
    if SIGN not in table.particles.columns:
        return None
    return signs_that_differ(table.numbers(SIGN, ""), table.path, SIGN)


def _recorded(table: StarColumns) -> dict[str, NDArray[np.bool_]]:
    given = {name: table.constant(name, "") for name in RECORDED if table.has(name)}
    return read_recorded(given, table.path)


FORMAT = Format("relion", recognises, read, write_star)
