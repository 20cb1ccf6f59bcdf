"""cryoSPARC: a .cs file, the original rows with field order, types and uid kept.

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
from solvar.export.target import Job, Target, Writer
from solvar.files import replacing
from solvar.particles import ParticleSet
from solvar.particles.npy import read_npy

Fields = dict[str, NDArray[Any]]


def files(job: Job) -> Mapping[str, Writer]:
    """One .cs file."""
    return {"particles.cs": lambda path: write(path, job)}


def write(path: Path, job: Job) -> None:
    """Write the chosen particles as a .cs; the file appears complete or not at all.

    Particles from elsewhere get the fields that cryoSPARC needs to import them; the sign of the
    contrast is left to the settings of the import.

    Parameters
    ----------
    path : Path
    job : Job
    """
    particles = job.particles.particles
    if particles.source_format == "cryosparc":
        table = _original_rows(particles)
        if job.poses_replaced:
            joined = bool(particles.reading.passthrough)
            poses = _pose_fields(particles, table, joined)
            if "alignments3D/pose" not in (table.dtype.names or ()):
                # the alignments come from a passthrough file, and with them the half-sets
                poses |= _split(particles)
            table = _with_fields(table, poses)
        if job.ctf_replaced:
            table = _with_fields(table, _ctf_fields(particles))
    else:
        nothing = np.empty(len(particles), dtype=[("uid", np.uint64)])
        image, ctf = _image_fields(particles), _ctf_fields(particles)
        aligned = _pose_fields(particles, nothing, True) | _split(particles)
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
    return rows


def _pose_fields(particles: ParticleSet, table: NDArray[Any], own_pixel_size: bool) -> Fields:
    """Rotation vectors (radian) and shifts in the pixels of the alignment that `table` names."""
    from scipy.spatial.transform import Rotation

    names = table.dtype.names or ()
    omega = Rotation.from_matrix(particles.poses.rotation).as_rotvec().astype(np.float32)
    fields: Fields = {"alignments3D/pose": omega}
    if "alignments3D/psize_A" in names:
        pixel_size = table["alignments3D/psize_A"].astype(np.float64)
    else:
        pixel_size = particles.optics.pixel_size_angstrom[particles.optics_group]
        # a passthrough file could name another pixel size: what was used stands beside the shifts
        if own_pixel_size or "alignments3D/pose" not in names:
            fields["alignments3D/psize_A"] = pixel_size.astype(np.float32)
    shift = particles.poses.shift_angstrom / pixel_size[:, None]
    return {**fields, "alignments3D/shift": shift.astype(np.float32)}


def _ctf_fields(particles: ParticleSet) -> Fields:
    optics, ctf, group = particles.optics, particles.ctf, particles.optics_group
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
    return {name: column.astype(np.float32) for name, column in values.items()}


def _image_fields(particles: ParticleSet) -> Fields:
    optics, group = particles.optics, particles.optics_group
    stacks = np.array([str(stack).encode() for stack in particles.stacks])
    box_size = optics.box_size[group].astype(np.uint32)
    return {
        "uid": particles.uid,
        "blob/path": stacks[particles.stack_index],
        "blob/idx": particles.frame.astype(np.uint32),
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
    """A copy with values replaced where the field is there, types kept, and appended where not."""
    names = table.dtype.names or ()
    new = [(n, v.dtype, v.shape[1:]) for n, v in fields.items() if n not in names]
    # the type is rebuilt only when it must grow, so that it otherwise stays exactly what it was
    result = np.empty(len(table), dtype=table.dtype.descr + new) if new else table.copy()
    if new:
        for name in names:
            result[name] = table[name]
    for name, values in fields.items():
        result[name] = values
    return result


TARGET = Target("cryosparc", files, suffix=".cs")
