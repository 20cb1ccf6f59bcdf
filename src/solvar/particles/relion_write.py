"""Star files: writing, with the original rows kept where the particles came from RELION."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.imaging.optics import CtfParameters, Optics
from solvar.particles import relion_tomo
from solvar.particles.optimisation_set import TOMOGRAMS
from solvar.particles.particle_set import ParticleSet
from solvar.particles.pixel_columns import RECORDED
from solvar.particles.relion_aberrations import aberration_columns
from solvar.particles.stack_paths import lasting_name
from solvar.particles.star_blocks import can_stand, particle_block, read_blocks, write_blocks
from solvar.particles.star_columns import ANGLES, StarColumns, angles_of

if TYPE_CHECKING:
    import pandas as pd

_ORIGINS_ANGST = ("rlnOriginXAngst", "rlnOriginYAngst")
# as relion_particle_subtract has it: the image that a row's is made of
ORIGINAL = "rlnImageOriginalName"
# For solvar alone: what a star file of another program has no column for
SIGN = "solvarSign"
ORIGINS_PIXEL = ("rlnOriginX", "rlnOriginY")
# Spellings of constants, in `data_optics` first.
_CONSTANTS = {
    "voltage_kv": ("rlnVoltage",),
    "spherical_aberration_mm": ("rlnSphericalAberration",),
    "amplitude_contrast": ("rlnAmplitudeContrast",),
    "pixel_size_angstrom": ("rlnImagePixelSize", "rlnPixelSize"),
}
_OLD_PIXEL_SIZE = {"rlnDetectorPixelSize", "rlnMagnification"}


def write_star(
    path: str | Path, particles: ParticleSet, extra: Mapping[str, ArrayLike] | None = None
) -> None:
    """Write particles as a RELION star file; it appears complete or not at all.

    Particles that came from a star file keep their rows as they are spelled there, every column
    included; only poses are replaced, in the dialect of the file (Å with a `data_optics` block,
    pixels without), and names of images that would not be found from `path` (`lasting_images`).
    Others are written as RELION 3.1.

    Parameters
    ----------
    path : path
    particles : ParticleSet
        Rows, order and poses to write.
    extra : mapping of column name to (N,) array-like, optional
        Columns to add or replace; all rows of a particle with several images have its value.

    Raises
    ------
    InputError
        If an extra column has another length, or the source can no longer be read.
    """
    columns = {name: np.asarray(values) for name, values in (extra or {}).items()}
    shown = particles.exposures.particle[particles.row_images]
    for name, values in columns.items():
        if values.shape != (len(particles),):
            raise InputError(
                f"column has shape {values.shape} for {len(particles)} particles",
                file=path,
                column=name,
            )
    columns = {name: values[shown] for name, values in columns.items()}
    from_relion = particles.source_format == "relion"
    blocks, name = original_rows(particles) if from_relion else complete_blocks(particles)
    old_dialect = from_relion and "optics" not in blocks
    table = blocks[name]
    table["rlnImageName"] = lasting_images(table["rlnImageName"], particles, Path(path))
    poses = pose_columns(particles, old_dialect, table)
    for column, values in {**poses, **columns}.items():
        table[column] = as_text(values)
    stale = _ORIGINS_ANGST if old_dialect else ORIGINS_PIXEL
    blocks[name] = table.drop(columns=[c for c in stale if c in table.columns])
    write_blocks(Path(path), blocks)


def original_rows(particles: ParticleSet) -> tuple[dict[str, pd.DataFrame], str]:
    """The blocks of the source with the rows of these particles, in their order, as text."""
    import pandas as pd

    blocks = read_blocks(particles.source, as_text=True)
    name = particle_block(blocks, particles.source)
    table = blocks[name]
    row = particles.image_row[particles.row_images]
    if len(table) <= row.max():
        raise InputError(
            f"has {len(table)} rows, fewer than when it was read",
            file=particles.source,
            remedy="restore the file",
        )
    blocks[name] = table.iloc[row].reset_index(drop=True)
    _fill_constants(blocks, name, particles.reading.constants)
    if particles.is_of_tomograms:
        # so that the new file is read from wherever it lies
        told = {TOMOGRAMS: [str(particles.reading.tomograms)]}
        blocks = {
            "general": blocks.pop("general", pd.DataFrame(index=[0])).assign(**told),
            **blocks,
        }
    return blocks, name


def _fill_constants(
    blocks: Mapping[str, pd.DataFrame], name: str, given: Mapping[str, float]
) -> None:
    """Write constants that were given where the file has none, so that it is read without options."""
    import pandas as pd

    place = blocks.get("optics", blocks[name])
    there = {*place.columns, *blocks[name].columns}
    for field, value in given.items():
        columns = _CONSTANTS[field]
        text = as_text(np.array([value]))[0]
        for column in (column for column in columns if column in place.columns):
            lacking = pd.to_numeric(place[column], errors="coerce").isna()
            place[column] = place[column].where(~lacking, text)
        in_old_words = field == "pixel_size_angstrom" and there >= _OLD_PIXEL_SIZE
        if not in_old_words and there.isdisjoint(columns):
            place[columns[0] if "optics" in blocks else columns[-1]] = text


def lasting_images(images: pd.Series, particles: ParticleSet, path: Path) -> pd.Series:
    """Names of images for a star file at `path`, by which they are found from any working folder.

    Parameters
    ----------
    images : (K,) Series of str
        As the source spells them: ``000001@stack.mrcs``, or a file with one image or the stack of a particle.
    particles : ParticleSet
        Particles with the same K rows.
    path : Path

    Returns
    -------
    (K,) Series of str
    """
    stack_index = particles.exposures.stack_index[particles.row_images]
    parts = images.str.partition("@")
    numbered = parts[1] == "@"
    spelled = parts[2].where(numbered, parts[0]).to_numpy(dtype=object)
    names = np.empty(len(particles.stacks), dtype=object)
    used, first = np.unique(stack_index, return_index=True)
    for stack, row in zip(used, first, strict=True):
        names[stack] = _name_in_star(spelled[row], particles.stacks[stack], path)
    wanted = names[stack_index]
    if particles.is_of_tomograms:
        return images.where(wanted == spelled, wanted)
    frame = parts[0].where(numbered, "000001")
    return images.where(wanted == spelled, frame + "@" + wanted)


def _name_in_star(spelled: str, stack: Path, path: Path) -> str:
    name = lasting_name(spelled, stack, path)
    if can_stand(name):
        return name
    # a folder above has an apostrophe and a blank, which no star file can hold
    name = os.path.relpath(stack.resolve(), path.resolve().parent)
    return name if can_stand(name) else spelled


def complete_blocks(particles: ParticleSet) -> tuple[dict[str, pd.DataFrame], str]:
    """Optics, CTF and image names of particles from elsewhere, as a RELION 3.1 file."""
    import pandas as pd

    particles.exposures.refuse_several("a star file that is not made from another")
    table = {
        "rlnImageName": image_names(particles),
        "rlnOpticsGroup": as_text(particles.exposures.optics_group + 1),
        **ctf_columns(particles.exposures.ctf),
    }
    if particles.exposures.sign is not None:
        table[SIGN] = as_text(particles.exposures.sign)
    if np.any(particles.halfset):
        table["rlnRandomSubset"] = as_text(particles.halfset)
    return {"optics": optics_table(particles.optics), "particles": pd.DataFrame(table)}, "particles"


def image_names(particles: ParticleSet) -> pd.Series:
    """The M images as RELION names them, by absolute paths, (M,) str."""
    import pandas as pd

    stacks = np.array([str(s) for s in particles.stacks], dtype=object)
    frames = pd.Series(particles.exposures.frame + 1).astype(str).str.zfill(6)
    return frames + "@" + stacks[particles.exposures.stack_index]


def optics_table(optics: Optics) -> pd.DataFrame:
    """The `data_optics` block of RELION 3.1, one row a group, numbered from 1, as text."""
    import pandas as pd

    return pd.DataFrame(
        {
            "rlnOpticsGroup": as_text(np.arange(1, len(optics.name) + 1)),
            "rlnOpticsGroupName": [name.replace(" ", "_") for name in optics.name],
            "rlnVoltage": as_text(optics.voltage_kv),
            "rlnSphericalAberration": as_text(optics.spherical_aberration_mm),
            "rlnAmplitudeContrast": as_text(optics.amplitude_contrast),
            "rlnImagePixelSize": as_text(optics.pixel_size_angstrom),
            "rlnImageSize": as_text(optics.box_size),
            "rlnImageDimensionality": as_text(np.full(len(optics.name), 2)),
            **{name: as_text(v) for name, v in aberration_columns(optics).items()},
            **{
                name: as_text(getattr(optics, field))
                for name, field in RECORDED.items()
                if getattr(optics, field) is not None
            },
        }
    )


def ctf_columns(ctf: CtfParameters) -> dict[str, NDArray[Any]]:
    """Defocus (Å), angles, phase shift (degrees) and B-factor (Å²), each (N,), as RELION spells them."""
    return {
        "rlnDefocusU": as_text(ctf.defocus_u_angstrom),
        "rlnDefocusV": as_text(ctf.defocus_v_angstrom),
        "rlnDefocusAngle": as_text(np.rad2deg(ctf.defocus_angle_radian)),
        "rlnPhaseShift": as_text(np.rad2deg(ctf.phase_shift_radian)),
        "rlnCtfBfactor": as_text(ctf.bfactor_angstrom2),
    }


def pose_columns(
    particles: ParticleSet, in_pixels: bool, table: pd.DataFrame
) -> dict[str, NDArray[Any]]:
    """Angles (degrees) and origins (Å, or pixels as before RELION 3.1) of the rows of a table, (K,) each.

    Parameters
    ----------
    particles : ParticleSet
    in_pixels : bool
    table : DataFrame
        The rows, each a particle, or an image of one.
    """
    if particles.is_of_tomograms:
        box = relion_tomo.box_rotations(StarColumns(particles.source, table, None))
        return relion_tomo.pose_columns(particles.poses, box)
    poses = particles.image_poses
    pixel_size = particles.optics.pixel_size_angstrom[particles.exposures.optics_group][:, None]
    origins = poses.shift_angstrom / (pixel_size if in_pixels else 1.0)
    names = ORIGINS_PIXEL if in_pixels else _ORIGINS_ANGST
    return {
        **dict(zip(ANGLES, angles_of(poses.rotation).T, strict=True)),
        **dict(zip(names, origins.T, strict=True)),
    }


def as_text(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers as RELION spells them: six decimals, or an exponent where those lose digits."""
    if values.dtype.kind == "f":
        magnitude = np.abs(values)
        extreme = ((magnitude > 0) & (magnitude < 1e-2)) | (magnitude >= 1e6)
        text = np.char.mod("%.6f", values).astype(object)
        text[extreme] = np.char.mod("%.6e", values[extreme])
        return text
    if values.dtype.kind in "iub":
        return np.char.mod("%d", values).astype(object)
    return values.astype(str).astype(object)
