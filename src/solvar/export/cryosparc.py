"""cryoSPARC: a .cs file, the original rows with field order, types and uid kept.

Fields of passthrough files stand behind them, so that the file needs no other; paths of images that
would not be found from the new file become absolute.

Conventions are those of `solvar.particles.cryosparc`: the rotation vector ω gives expm([ω]×) = R,
shifts are in pixels of `alignments3D/psize_A`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.export.reading_back import read_alone
from solvar.export.target import Job, Target, Writer
from solvar.files import replacing
from solvar.particles import ParticleSet
from solvar.particles.cryosparc import COLUMNS, join
from solvar.particles.npy import read_npy
from solvar.particles.stack_paths import lasting_name

Fields = dict[str, NDArray[Any]]


def files(job: Job) -> Mapping[str, Writer]:
    """One .cs file, after the stacks that are written for it."""
    particles = job.particles.particles
    particles.exposures.refuse_several("an export to cryoSPARC", "export to RELION")
    if particles.source_format != "cryosparc":
        _refuse_aberrations(particles)
    return job.with_stacks("particles.cs", lambda path: write(path, job))


def write(path: Path, job: Job) -> None:
    """Write the chosen particles as a .cs; the file appears complete or not at all.

    Particles from elsewhere get the fields that cryoSPARC needs to import them; the sign of the
    contrast is left to the settings of the import.

    Parameters
    ----------
    path : Path
    job : Job
    """
    particles = job.written
    if particles.source_format == "cryosparc":
        table = _original_rows(particles)
        table = _with_fields(table, _given_constants(particles))
        table = _with_fields(table, _lasting_paths(particles, table, path))
        if job.stacks is not None:
            table = _with_fields(table, {"blob/idx": particles.exposures.frame.astype(np.uint32)})
        if job.poses_replaced:
            table = _with_fields(table, _pose_fields(particles, table))
        if job.ctf_replaced:
            table = _with_fields(table, _perfect(table) | _ctf_fields(particles))
    else:
        nothing = np.empty(len(particles), dtype=[("uid", np.uint64)])
        image, ctf = _image_fields(particles), _ctf_fields(particles)
        aligned = _pose_fields(particles, nothing) | _split(particles)
        table = _with_fields(nothing, {**image, **ctf, **aligned})
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, table)


def _original_rows(particles: ParticleSet) -> NDArray[Any]:
    table = read_npy(particles.source, "a .cs file", "export it again")
    uid = table["uid"][particles.row] if len(table) > particles.row.max() else None
    if uid is None or not np.array_equal(uid, particles.uid):
        raise InputError(
            "has changed since it was read", file=particles.source, remedy="export once more"
        )
    rows: NDArray[Any] = table[particles.row]
    passthrough = particles.reading.passthrough
    if not passthrough:
        return rows
    joined = join(particles.source, passthrough)
    extra = [name for name in joined if name not in (table.dtype.names or ())]
    return _with_fields(rows, {name: joined[name][particles.row] for name in extra})


def _lasting_paths(particles: ParticleSet, table: NDArray[Any], path: Path) -> Fields:
    """The image file of each row, by which it is found from any working folder; none if all are."""
    spelled = table["blob/path"]
    as_bytes = spelled.dtype.kind == "S"
    used, first, index = np.unique(
        particles.exposures.stack_index, return_index=True, return_inverse=True
    )
    names = []
    for stack, old in zip(used, spelled[first].tolist(), strict=True):
        name = old.decode() if as_bytes else old
        inside = name.lstrip(">")
        kept = lasting_name(inside, particles.stacks[stack], path) == inside
        names.append(name if kept else str(particles.stacks[stack]))
    wanted = np.array([name.encode() for name in names] if as_bytes else names)[index]
    return {} if np.array_equal(wanted, spelled) else {"blob/path": wanted}


def _pose_fields(particles: ParticleSet, table: NDArray[Any]) -> Fields:
    """Rotation vectors (radian) and shifts in the pixels of the alignment that `table` names."""
    from scipy.spatial.transform import Rotation

    names = table.dtype.names or ()
    omega = Rotation.from_matrix(particles.poses.rotation).as_rotvec().astype(np.float32)
    fields: Fields = {"alignments3D/pose": omega}
    if "alignments3D/psize_A" in names:
        pixel_size = table["alignments3D/psize_A"].astype(np.float64)
    else:
        pixel_size = particles.optics.pixel_size_angstrom[particles.exposures.optics_group]
        fields["alignments3D/psize_A"] = pixel_size.astype(np.float32)
    shift = particles.poses.shift_angstrom / pixel_size[:, None]
    return {**fields, "alignments3D/shift": shift.astype(np.float32)}


def _ctf_fields(particles: ParticleSet) -> Fields:
    optics, ctf, group = particles.optics, particles.exposures.ctf, particles.exposures.optics_group
    values = {
        "ctf/accel_kv": optics.voltage_kv[group],
        "ctf/cs_mm": optics.spherical_aberration_mm[group],
        "ctf/amp_contrast": optics.amplitude_contrast[group],
        "ctf/df1_A": ctf.defocus_u_angstrom,
        "ctf/df2_A": ctf.defocus_v_angstrom,
        "ctf/df_angle_rad": ctf.defocus_angle_radian,
        "ctf/phase_shift_rad": ctf.phase_shift_radian,
        "ctf/bfactor": ctf.bfactor_angstrom2,
    }
    fields = {name: column.astype(np.float32) for name, column in values.items()}
    if optics.magnification is not None:
        excess = (optics.magnification - np.eye(2)).reshape(-1, 4)
        fields["ctf/anisomag"] = excess[group].astype(np.float32)
    return fields


def _given_constants(particles: ParticleSet) -> Fields:
    """Constants that the caller gave, so that the file is read without options."""
    whole = {**_ctf_fields(particles), **_image_fields(particles)}
    return {name: whole[name] for name in (COLUMNS[field] for field in particles.reading.constants)}


def _refuse_aberrations(particles: ParticleSet) -> None:
    """What the signs and units of cryoSPARC's own fields are is not published."""
    if particles.optics.phase_flipped is not None or particles.optics.premultiplied is not None:
        raise InputError(
            "has images whose phases were flipped or that were multiplied by their CTF, which a .cs cannot "
            "tell",
            file=particles.source,
            remedy="export to RELION, or extract images as they were recorded",
        )
    if particles.optics.aberrations.keys() - {"magnification"}:
        raise InputError(
            "has beam tilt or Zernike coefficients, which this program cannot write for cryoSPARC",
            file=particles.source,
            remedy="export to RELION and import that star file in cryoSPARC",
        )


def _perfect(table: NDArray[Any]) -> Fields:
    """No aberrations where the table tells of some: another CTF has taken their place."""
    names = ("tilt_A", "trefoil_A", "tetra_A", "shift_A", "anisomag")
    there = [f"ctf/{name}" for name in names if f"ctf/{name}" in (table.dtype.names or ())]
    return {name: np.zeros_like(table[name]) for name in there}


def _image_fields(particles: ParticleSet) -> Fields:
    optics, group = particles.optics, particles.exposures.optics_group
    stacks = np.array([str(stack).encode() for stack in particles.stacks])
    box_size = optics.box_size[group].astype(np.uint32)
    sign = particles.exposures.sign
    return {
        **({} if sign is None else {"blob/sign": sign.astype(np.float32)}),
        "uid": particles.uid,
        "blob/path": stacks[particles.exposures.stack_index],
        "blob/idx": particles.exposures.frame.astype(np.uint32),
        "blob/shape": np.stack([box_size, box_size], axis=1),
        "blob/psize_A": optics.pixel_size_angstrom[group].astype(np.float32),
        "ctf/exp_group_id": (group + 1).astype(np.uint32),
    }


def _split(particles: ParticleSet) -> Fields:
    """Half-sets from 0, where every particle has one."""
    if not np.all(particles.halfset):
        return {}
    return {"alignments3D/split": (particles.halfset - 1).astype(np.uint32)}


def _with_fields(table: NDArray[Any], fields: Fields) -> NDArray[Any]:
    """A copy with values replaced where the field is there, and appended where not.

    Types are kept, but a text that has become longer gets the room that it needs.
    """
    types: dict[str, Any] = {name: table.dtype[name] for name in table.dtype.names or ()}
    for name, values in fields.items():
        old = types.get(name)
        longer = values.dtype.kind in "SU" and old and values.dtype.itemsize > old.itemsize
        if old is None or longer:
            types[name] = np.dtype((values.dtype, values.shape[1:]))
    # the type is rebuilt only when it must grow, so that it otherwise stays exactly what it was
    grown = [*types.values()] != [table.dtype[name] for name in table.dtype.names or ()]
    result = np.empty(len(table), dtype=[*types.items()]) if grown else table.copy()
    for name in types:
        result[name] = fields[name] if name in fields else table[name]
    return result


TARGET = Target("cryosparc", files, read_alone, suffix=".cs", takes_images=True)
