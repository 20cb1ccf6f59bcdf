"""Particles of tomograms in star files: a row a particle, its images a stack, its tilts in another file.

RELION 4 and 5 and WarpTools write them. The frame of such a particle is its tomogram's: an exposure sees it
turned by P, so that its image samples the volume's transform at R·Pᵀ·(kx, ky, 0), and shows a shift s of the
particle as P·s. Defocus follows the height of the particle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.optics import CtfParameters
from solvar.particles.exposures import Exposures, ranges
from solvar.particles.identity import image_uid
from solvar.particles.particle_set import Poses
from solvar.particles.reading import Reading
from solvar.particles.star_columns import ANGLES, StarColumns, angles_of, as_words
from solvar.particles.table import FIND_POSES, Series
from solvar.particles.tomograms import NAME, Tomogram

if TYPE_CHECKING:
    import pandas as pd

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

PARTICLE = "rlnTomoParticleName"
SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
CENTRED = (
    "rlnCenteredCoordinateXAngst",
    "rlnCenteredCoordinateYAngst",
    "rlnCenteredCoordinateZAngst",
)
_COORDINATES = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")
_VISIBLE, _FLAT, _BINNING = (
    "rlnTomoVisibleFrames",
    "rlnTomoSubTomosAre2DStacks",
    "rlnTomoSubtomogramBinning",
)
_DIMENSIONS = "rlnImageDimensionality"
_EXTRACT = "extract the particles as 2D stacks (RELION 5, or WarpTools ts_export_particles --2d)"


def is_of_tomograms(table: StarColumns) -> bool:
    """Whether the rows of a star file are particles of tomograms."""
    return NAME in table.particles.columns


def refuse_subtomograms(table: StarColumns, general: pd.DataFrame | None) -> None:
    """Raise InputError if images are three-dimensional, which says nothing of their tilts any more.

    Parameters
    ----------
    table : StarColumns
    general : DataFrame or None
        The block `data_general`.
    """
    columns = table.particles.columns
    if "rlnCtfImage" in columns:
        _refuse(table, "rlnCtfImage", "the images are subtomograms (three-dimensional)")
    if table.has(_DIMENSIONS) and (table.constant(_DIMENSIONS, "") == 3).any():
        _refuse(table, _DIMENSIONS, "the images are subtomograms (three-dimensional)")
    # starfile takes a lone 0 or 1 for a truth value
    if general is not None and _FLAT in general.columns and int(general[_FLAT].iloc[0]) == 0:
        _refuse(table, _FLAT, "the images are pseudo-subtomograms (three-dimensional)")


def refuse_single_images(table: StarColumns) -> None:
    """Raise InputError where a row names one image, and not the stack of a particle."""
    single = as_words(table.particles["rlnImageName"]).str.contains("@").to_numpy()
    if single.any():
        raise InputError(
            "names one image of a stack, but a particle of a tomogram has a stack of them",
            file=table.path,
            row=int(np.argmax(single)),
            column="rlnImageName",
            remedy=_EXTRACT,
        )


def names_of_tomograms(table: StarColumns) -> NDArray[np.object_]:
    """The tomogram of each row, (N,) str."""
    return as_words(table.particles[NAME]).to_numpy(dtype=object)


class Particles(NamedTuple):
    """What the rows of a star file say of N particles of tomograms.

    Attributes
    ----------
    tomogram : (N,) int64
        Index into some tomograms.
    position : (N, 3) float64
        Å from the centre of the tomogram, of where the images were cut out.
    unbinned : (N, 3) float64
        The same as the file spells it, in pixels of the tilt series from the first voxel.
    remarks : tuple of str
    """

    tomogram: Int64
    position: Float64
    unbinned: Float64
    remarks: tuple[str, ...] = ()


def positions(table: StarColumns, tomograms: dict[str, Tomogram]) -> Particles:
    """Where the particles of a file are in their tomograms."""
    number = {name: place for place, name in enumerate(tomograms)}
    index = np.array([number[name] for name in names_of_tomograms(table)], dtype=np.int64)
    pixel = np.array([each.pixel_size_angstrom for each in tomograms.values()])[index, None]
    if all(name in table.particles.columns for name in CENTRED):
        position = np.stack([table.numbers(name, "") for name in CENTRED], axis=-1)
        return Particles(index, position, position / pixel)
    remedy = "write the coordinates of the particles, from which their defocus follows"
    coordinate = np.stack([table.numbers(name, remedy) for name in _COORDINATES], axis=-1)
    sizes = [each.size_pixel for each in tomograms.values()]
    if any(size is None for size in sizes):
        raise InputError(
            "is given, but the tomograms have no rlnTomoSize{X,Y,Z}, so their centre is not known",
            file=table.path,
            column=_COORDINATES[0],
            remedy=f"add the sizes to the tomograms, or {CENTRED[0]} to the particles",
        )
    binning = table.constant(_BINNING, "") if table.has(_BINNING) else np.ones(len(table))
    size = np.array(sizes)[index]
    remarks: tuple[str, ...] = ()
    if _are_binned(coordinate, size, binning):
        coordinate = coordinate * binning[:, None]
        remarks = (
            f"The coordinates lie in the corner of the tomograms that {_BINNING} leaves, so they were taken "
            "to be in binned pixels.",
        )
    position = np.empty_like(coordinate)
    for place, each in enumerate(tomograms.values()):
        position[index == place] = each.centred(coordinate[index == place])
    return Particles(index, position, coordinate, remarks)


def _are_binned(coordinate: Float64, size: Float64, binning: Float64) -> bool:
    """Whether coordinates (N, 3) are in binned pixels, as WarpTools writes them.

    All of them in that corner of the volume is a chance of binning⁻³ᴺ for unbinned ones.
    """
    several = len(coordinate) > 2 and bool((binning > 1.5).all())
    return several and bool((coordinate * binning[:, None] <= 1.05 * size).all())


def poses(table: StarColumns) -> Poses:
    """Rotations (N, 3, 3) and shifts (N, 3), Å, of particles in the frame of their tomograms."""
    remedy = f"pass the particles of a 3D refinement, or {FIND_POSES}"
    own, box = table.rotations(ANGLES, remedy), box_rotations(table)
    origin = np.stack([table.optional(name) for name in ORIGINS], axis=-1)
    if box is None:
        return Poses(own, origin)
    return Poses(own @ box, np.einsum("nji,nj->ni", box, origin))


def box_rotations(table: StarColumns) -> Float64 | None:
    """Rotations (N, 3, 3) by the `SUBTOMOGRAM` angles; None where there are none."""
    return table.rotations(SUBTOMOGRAM, "") if table.has_any(SUBTOMOGRAM) else None


def pose_columns(particles: Poses, box: Float64 | None) -> dict[str, Float64]:
    """Angles (degrees) and origins (Å), (N,) each, as the file has them of particles in the tomogram's frame.

    Parameters
    ----------
    particles : Poses
    box : (N, 3, 3) or None
        Of the file's `SUBTOMOGRAM` angles.
    """
    rotation, shift = particles.rotation, particles.shift_angstrom
    if box is not None:
        rotation = rotation @ box.transpose(0, 2, 1)
        shift = np.einsum("nij,nj->ni", box, shift)
    return {
        **dict(zip(ANGLES, angles_of(rotation).T, strict=True)),
        **dict(zip(ORIGINS, shift.T, strict=True)),
    }


def series(
    table: StarColumns,
    found: Particles,
    shift_angstrom: Float64,
    tomograms: dict[str, Tomogram],
    stack_index: Int64,
    optics_group: Int64,
) -> Series:
    """The images of the particles of a file: those exposures of their tilt series that are visible.

    Parameters
    ----------
    table : StarColumns
    found : Particles
    shift_angstrom : (N, 3)
        Of the particles, in the frame of their tomograms: they are this far before where images were cut out.
    tomograms : dict of Tomogram
    stack_index : (N,)
        The stack of each particle.
    optics_group : (N,)
    """
    each = list(tomograms.values())
    total = np.array([len(one) for one in each], dtype=np.int64)
    first = np.cumsum(total) - total
    of_row = total[found.tomogram]
    visible, count = _visible(table, of_row)
    particle = np.repeat(np.arange(len(count)), of_row)[visible]
    place = ranges(first[found.tomogram], of_row)[visible]
    position = found.position - shift_angstrom
    offset = _defocus_offsets(position, found.tomogram, each)[visible]
    ctf = _together([one.ctf for one in each]).take(place).defocused(offset)
    rotation = np.concatenate([one.geometry.rotation for one in each])
    exposures = Exposures(
        particle,
        optics_group[particle],
        ctf,
        stack_index[particle],
        ranges(np.zeros_like(count), count),
        tilt=rotation[place].transpose(0, 2, 1),
        tilt_image=place,
        number=_numbers(each, place),
        defocus_offset_angstrom=offset,
    )
    number = place - first[found.tomogram][particle]
    if ctf.scale is not None and np.isnan(ctf.scale).any():
        used = np.flatnonzero(~np.isnan(ctf.scale))
        exposures, number = exposures.rows(used), number[used]
    return Series(exposures, number, count, of_row)


def _numbers(tomograms: list[Tomogram], place: Int64) -> Int64 | None:
    """Number by dose of some exposures (M,) of all, one series after the other; None where doses lack."""
    numbers = []
    for one in tomograms:
        if (dose := one.ctf.dose_per_angstrom2) is None:
            return None
        numbers.append(np.argsort(np.argsort(dose, kind="stable"), kind="stable"))
    return np.concatenate(numbers)[place].astype(np.int64)


def _defocus_offsets(position: Float64, tomogram: Int64, tomograms: list[Tomogram]) -> Float64:
    """How much more underfocused particles are in the exposures of their series, one after the other."""
    total = np.array([len(one) for one in tomograms], dtype=np.int64)[tomogram]
    offset, first = np.empty(int(total.sum())), np.cumsum(total) - total
    for number, each in enumerate(tomograms):
        members = np.flatnonzero(tomogram == number)
        places = first[members, None] + np.arange(len(each))
        offset[places] = each.geometry.defocus_offset(position[members])
    return offset


def _together(ctfs: list[CtfParameters]) -> CtfParameters:
    """CTFs one after the other; what some lack is 1 or 0 there."""
    names = {name for ctf in ctfs for name in ctf.columns}
    lacking = {"scale": 1.0, "dose_per_angstrom2": 0.0}
    return CtfParameters(
        **{
            name: np.concatenate(
                [
                    ctf.columns.get(
                        name, np.full(len(ctf.defocus_u_angstrom), lacking.get(name, 0.0))
                    )
                    for ctf in ctfs
                ]
            )
            for name in names
        }
    )


def _visible(table: StarColumns, total: Int64) -> tuple[NDArray[np.bool_], Int64]:
    """Which exposures of each particle's series its stack has, one particle after the other; how many."""
    if _VISIBLE not in table.particles.columns:
        return np.ones(int(total.sum()), dtype=bool), total
    texts = table.particles[_VISIBLE].astype(str)
    # the same few for all
    meaning = {text: _flags(text) for text in set(texts)}
    flags = [meaning[text] for text in texts]
    odd = [
        row for row, (one, all_) in enumerate(zip(flags, total, strict=True)) if len(one) != all_
    ]
    if odd:
        raise InputError(
            f"'{texts.iloc[odd[0]][:40]}' does not say which of the {total[odd[0]]} tilts are visible",
            file=table.path,
            row=odd[0],
            column=_VISIBLE,
            remedy="pass the tomograms that the particles were extracted from",
        )
    count = np.array([one.sum() for one in flags], dtype=np.int64)
    if (count == 0).any():
        raise InputError(
            "no tilt is visible",
            file=table.path,
            row=int(np.argmax(count == 0)),
            column=_VISIBLE,
            remedy="remove the row",
        )
    return np.concatenate(flags), count


def _flags(text: str) -> NDArray[np.bool_]:
    """A list of 0 and 1 in brackets; empty if it is none."""
    try:
        values = np.array(json.loads(text), dtype=np.float64)
    except (ValueError, TypeError):
        return np.empty(0, dtype=bool)
    return values == 1 if values.ndim == 1 and np.isin(values, (0, 1)).all() else np.empty(0, bool)


def uids(table: StarColumns) -> NDArray[np.uint64] | None:
    """Identity of each particle, by its name, which every extraction keeps; None if there are no names."""
    if PARTICLE not in table.particles.columns:
        return None
    names, index = np.unique(
        as_words(table.particles[PARTICLE]).to_numpy(dtype=object), return_inverse=True
    )
    return image_uid(tuple(names), index.astype(np.int64), np.zeros(len(index), np.int64))


def refuse_readings(reading: Reading, path: Path) -> None:
    """Raise InputError for options that leave out what tilts need."""
    given = {"--ctf": reading.ctf, "--poses": reading.poses}
    for option, file in given.items():
        if file is not None:
            raise InputError(
                f"has particles of tomograms, which a pickle ({option}) knows nothing of",
                file=path,
                remedy=f"leave {option} out: the star files have everything",
            )
    if reading.ignore_poses:
        raise InputError(
            "has particles of tomograms, whose poses cannot be found from their images yet",
            file=path,
            remedy="pass the particles of a 3D refinement",
        )


def _refuse(table: StarColumns, column: str, why: str) -> NoReturn:
    raise InputError(why, file=table.path, column=column, remedy=_EXTRACT)
