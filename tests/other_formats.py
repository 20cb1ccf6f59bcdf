"""Particles as the files of other programs hold them, written without our own writers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np


def write_cryodrgn(particles, folder: Path) -> None:
    """poses.pkl and ctf.pkl of particles, as cryoDRGN's parsers leave them."""
    poses, ctf, optics = particles.poses, particles.exposures.ctf, particles.optics
    rotation = np.swapaxes(poses.rotation, 1, 2).astype(np.float32)
    fraction = poses.shift_angstrom / (particles.box_size * particles.pixel_size_angstrom)
    (folder / "poses.pkl").write_bytes(pickle.dumps((rotation, fraction.astype(np.float32))))
    table = np.column_stack(
        [
            np.full(len(particles), particles.box_size),
            optics.pixel_size_angstrom[particles.exposures.optics_group],
            ctf.defocus_u_angstrom,
            ctf.defocus_v_angstrom,
            np.rad2deg(ctf.defocus_angle_radian),
            optics.voltage_kv[particles.exposures.optics_group],
            optics.spherical_aberration_mm[particles.exposures.optics_group],
            optics.amplitude_contrast[particles.exposures.optics_group],
            np.rad2deg(ctf.phase_shift_radian),
        ]
    )
    (folder / "ctf.pkl").write_bytes(pickle.dumps(table.astype(np.float32)))


def write_cryosparc(particles, path: Path) -> None:
    """The same as a .cs file; shifts in pixels, rotations as vectors."""
    from scipy.spatial.transform import Rotation

    n, optics, ctf = len(particles), particles.optics, particles.exposures.ctf
    group = particles.exposures.optics_group
    columns = {
        "uid": particles.uid,
        "blob/path": np.full(n, particles.stacks[0].name, "S64"),
        "blob/idx": particles.exposures.frame.astype(np.uint32),
        "blob/shape": np.full((n, 2), particles.box_size, np.uint32),
        "blob/psize_A": optics.pixel_size_angstrom[group].astype(np.float32),
        "ctf/accel_kv": optics.voltage_kv[group].astype(np.float32),
        "ctf/cs_mm": optics.spherical_aberration_mm[group].astype(np.float32),
        "ctf/amp_contrast": optics.amplitude_contrast[group].astype(np.float32),
        "ctf/df1_A": ctf.defocus_u_angstrom.astype(np.float32),
        "ctf/df2_A": ctf.defocus_v_angstrom.astype(np.float32),
        "ctf/df_angle_rad": ctf.defocus_angle_radian.astype(np.float32),
        "ctf/phase_shift_rad": ctf.phase_shift_radian.astype(np.float32),
        "alignments3D/split": (particles.halfset - 1).astype(np.uint32),
        "alignments3D/pose": Rotation.from_matrix(particles.poses.rotation)
        .as_rotvec()
        .astype(np.float32),
        "alignments3D/shift": (
            particles.poses.shift_angstrom / particles.pixel_size_angstrom
        ).astype(np.float32),
        "alignments3D/psize_A": np.full(n, particles.pixel_size_angstrom, np.float32),
    }
    table = np.empty(n, [(name, c.dtype, c.shape[1:]) for name, c in columns.items()])
    for name, column in columns.items():
        table[name] = column
    with path.open("wb") as file:
        np.save(file, table)
