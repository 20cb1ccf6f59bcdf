"""cryoDRGN's pickles: the only files of this program that are not data alone in their format."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import replacing
from solvar.imaging.grid import have_several_sizes
from solvar.particles.particle_set import ParticleSet

# Protocol 3 spells names as text, with no frame lengths around them.
_PROTOCOL = 3


def write_poses_pickle(path: str | Path, particles: ParticleSet) -> None:
    """Write poses for `cryodrgn … --poses`; the file appears complete or not at all.

    The inverse of `solvar.particles.cryodrgn.read_poses` with `scale_poses`: a tuple of Rᵀ
    (N, 3, 3) float32 and the centring shift as a fraction of the box (N, 2) float32, plain numpy
    arrays in the order of the particles.

    Parameters
    ----------
    path : path
    particles : ParticleSet
    """
    optics = particles.optics
    poses = particles.image_poses
    width = (optics.box_size * optics.pixel_size_angstrom)[particles.exposures.optics_group]
    rotation = np.swapaxes(poses.rotation, -1, -2).astype(np.float32)
    shift = (poses.shift_angstrom / width[:, None]).astype(np.float32)
    _write_pickle(path, (np.ascontiguousarray(rotation), shift))


def write_ctf_pickle(path: str | Path, particles: ParticleSet) -> None:
    """Write CTFs for `cryodrgn … --ctf`; the file appears complete or not at all.

    The inverse of `solvar.particles.cryodrgn.read_ctf` with `interpret_ctf`: (N, 9) float32 rows of
    box size (pixels), pixel size (Å), dfU, dfV (Å), dfang (degrees), kV, Cs (mm), w and phase
    (degrees). A B-factor has no place there.

    Parameters
    ----------
    path : path
    particles : ParticleSet
    """
    optics, ctf = particles.optics, particles.exposures.ctf
    constants = (optics.voltage_kv, optics.spherical_aberration_mm, optics.amplitude_contrast)
    columns = [
        *(
            values[particles.exposures.optics_group]
            for values in (optics.box_size, optics.pixel_size_angstrom)
        ),
        ctf.defocus_u_angstrom,
        ctf.defocus_v_angstrom,
        np.rad2deg(ctf.defocus_angle_radian),
        *(values[particles.exposures.optics_group] for values in constants),
        np.rad2deg(ctf.phase_shift_radian),
    ]
    _write_pickle(path, np.stack(columns, axis=1).astype(np.float32))


def refuse_what_cryodrgn_lacks(particles: ParticleSet) -> None:
    """Raise InputError if optics hold what cryoDRGN's pickles have no place for."""
    particles.exposures.refuse_several("an export to cryoDRGN", "export to RELION")
    optics = particles.optics
    beyond = {
        "an anisotropic magnification": optics.magnification,
        "a beam tilt": optics.beam_tilt_mrad,
        "antisymmetric aberrations": optics.odd_zernike,
        "symmetric aberrations": optics.even_zernike,
        "flipped phases": optics.phase_flipped,
        "images multiplied by their CTF": optics.premultiplied,
        "images of both signs": particles.exposures.signs_differ or None,
    }
    what = [words for words, values in beyond.items() if values is not None]
    if have_several_sizes(optics):
        what.append("images of several sizes")
    if what:
        raise InputError(
            f"has {' and '.join(what)}, for which cryoDRGN's files have no place",
            file=particles.source,
            remedy="export to RELION or cryoSPARC, or extract images without them first",
        )


def write_rows_pickle(path: str | Path, rows: NDArray[np.int64]) -> None:
    """Write zero-based rows (M,) for `cryodrgn … --ind`; the file appears complete or not at all."""
    _write_pickle(path, np.asarray(rows, np.int64))


def _write_pickle(path: str | Path, content: object) -> None:
    """Plain numpy arrays as every numpy reads them."""
    data = pickle.dumps(content, _PROTOCOL)
    # numpy 2 spells it numpy._core, which numpy below 1.26 does not know; all know the old name
    data = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n", 1)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(data)
