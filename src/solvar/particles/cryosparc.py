"""cryoSPARC: structured numpy arrays, one field a column, joined with passthrough files by uid.

The rotation vector ω gives expm([ω]×) = R. Shifts are in pixels of the *alignment*, whose pixel
size `alignments3D/psize_A` may differ from that of the images. Angles are radians. A path may begin
with '>', which marks files inside the project folder.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import explained, open_regular, read_bytes
from solvar.imaging.optics import CtfParameters, Optics
from solvar.particles.constants import CONSTANTS, complete
from solvar.particles.cryosparc_aberrations import refuse_strong_aberrations
from solvar.particles.cryosparc_classes import Fields, with_likely_class
from solvar.particles.npy import NPY_MAGIC, read_npy
from solvar.particles.particle_set import Poses
from solvar.particles.picks import Picks
from solvar.particles.pixel_columns import refuse_scales_that_differ, signs_that_differ
from solvar.particles.reading import Reading
from solvar.particles.table import (
    CENTRED,
    FIND_POSES,
    Format,
    ParticleTable,
    group_rows,
    shortest_float64,
)

# Begins a compressed stream of cryosparc-tools.
_CSDAT_MAGIC = b"\x94CSDAT"
_PASSTHROUGH = "add the job's passthrough file with --passthrough"
_REFINEMENT = f"pass the particles .cs of a 3D refinement, {_PASSTHROUGH}, or {FIND_POSES}"
COLUMNS = {
    "rotation": "alignments3D/pose",
    "shift_angstrom": "alignments3D/shift",
    "defocus_u_angstrom": "ctf/df1_A",
    "defocus_v_angstrom": "ctf/df2_A",
    "defocus_angle_radian": "ctf/df_angle_rad",
    "phase_shift_radian": "ctf/phase_shift_rad",
    "bfactor_angstrom2": "ctf/bfactor",
    "voltage_kv": "ctf/accel_kv",
    "spherical_aberration_mm": "ctf/cs_mm",
    "amplitude_contrast": "ctf/amp_contrast",
    "pixel_size_angstrom": "blob/psize_A",
    "box_size": "blob/shape",
    "magnification": "ctf/anisomag",
    "expanded_from": "sym_expand/src_uid",
}
_NUMBERS = "fiu"
# Kinds and shape of the fields that are used.
_TYPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "uid": ("iu", ()),
    "sym_expand/src_uid": ("iu", ()),
    "blob/path": ("SU", ()),
    "blob/idx": ("iu", ()),
    "blob/shape": ("iu", (2,)),
    "alignments3D/pose": (_NUMBERS, (3,)),
    "alignments3D/shift": (_NUMBERS, (2,)),
    "alignments3D/split": (_NUMBERS, ()),
    "alignments3D/psize_A": (_NUMBERS, ()),
    "location/micrograph_path": ("SU", ()),
    "location/micrograph_shape": ("iu", (2,)),
    "location/center_x_frac": (_NUMBERS, ()),
    "location/center_y_frac": (_NUMBERS, ()),
    "blob/psize_A": (_NUMBERS, ()),
    "blob/sign": (_NUMBERS, ()),
    **{
        f"ctf/{name}": (_NUMBERS, ())
        for name in (
            *("accel_kv", "cs_mm", "amp_contrast", "df1_A", "df2_A", "df_angle_rad"),
            *("phase_shift_rad", "bfactor", "exp_group_id"),
        )
    },
    "ctf/anisomag": (_NUMBERS, (4,)),
    "ctf/scale": (_NUMBERS, ()),
    **{f"ctf/{name}_A": (_NUMBERS, (2,)) for name in ("tilt", "trefoil", "shift")},
    "ctf/tetra_A": (_NUMBERS, (4,)),
}


def recognises(path: Path) -> bool:
    """A numpy file with named fields, or a stream of cryosparc-tools (which `read` refuses by name)."""
    try:
        with open_regular(path) as file:
            start = read_bytes(file, 4096)
    except OSError:
        return False
    is_table = start.startswith(NPY_MAGIC) and b"'descr': [" in start
    return is_table or start.startswith(_CSDAT_MAGIC)


def read(path: Path, reading: Reading) -> ParticleTable:
    """Read a particles .cs and what its passthrough files add."""
    fields = join(path, reading.passthrough)
    remarks: tuple[str, ...] = ()
    if reading.reads_poses:
        fields, remarks = with_likely_class(path, fields)
        if "alignments3D/shift" not in fields:
            remarks += (CENTRED.format("alignments3D/shift"),)
    need = partial(_need, path, fields)
    uid = need("uid", "pass a file that cryoSPARC wrote").astype(np.uint64)
    stack_names, stack_index = _stacks(path, need("blob/path", _PASSTHROUGH))
    count = len(uid)
    optics, optics_group, ctf = None, np.zeros(count, dtype=np.int64), None
    if reading.ctf is None:
        constants = _constants(path, fields, reading, *CONSTANTS)
        optics, optics_group = _optics(fields, constants)
        ctf = _ctf(fields, need)
        remarks += refuse_strong_aberrations(path, fields, constants)
        refuse_scales_that_differ(fields.get("ctf/scale"), path, "ctf/scale")
    return ParticleTable(
        stack_names=stack_names,
        stack_index=stack_index,
        frame=need("blob/idx", _PASSTHROUGH).astype(np.int64),
        halfset=_halfset(fields.get("alignments3D/split"), count),
        optics_group=optics_group,
        optics=optics,
        ctf=ctf,
        poses=_poses(path, fields, reading) if reading.reads_poses else None,
        uid=uid,
        expanded_from=_expanded_from(fields),
        picks=_picks(path, fields),
        sign=signs_that_differ(fields.get("blob/sign"), path, "blob/sign"),
        remarks=remarks,
        columns=COLUMNS,
    )


def _need(path: Path, fields: Fields, name: str, remedy: str) -> NDArray[Any]:
    if name not in fields:
        raise InputError("is missing", file=path, column=name, remedy=remedy)
    return fields[name]


def join(path: Path, passthrough: tuple[Path, ...]) -> Fields:
    """Fields of the main file, and those that only a passthrough has, in the main file's order.

    Raises
    ------
    InputError
        If a file cannot be read, or a passthrough lacks a row of the main file.
    """
    main = _load(path)
    fields: Fields = {name: main[name] for name in main.dtype.names or ()}
    for other in passthrough:
        extra = _load(other)
        new = [n for n in extra.dtype.names or () if n not in fields]
        if "uid" not in (extra.dtype.names or ()) or "uid" not in fields:
            raise InputError(
                "is missing, so files cannot be joined",
                file=path if "uid" not in fields else other,
                column="uid",
                remedy="pass files that cryoSPARC wrote",
            )
        order = np.argsort(extra["uid"], kind="stable")
        place = np.searchsorted(extra["uid"], fields["uid"], sorter=order)
        match = order[np.minimum(place, len(order) - 1)]
        lost = np.flatnonzero(extra["uid"][match] != fields["uid"])
        if len(lost):
            raise InputError(
                f"has no row for uid {fields['uid'][lost[0]]} (row {lost[0] + 1} of {path})",
                file=other,
                column="uid",
                remedy="pass the passthrough file of the same job",
            )
        fields |= {name: extra[name][match] for name in new}
    return fields


def _load(path: Path) -> NDArray[Any]:
    _refuse_stream(path)
    array = read_npy(path, "a .cs file", "export it again")
    if array.dtype.names is None or array.ndim != 1 or not len(array):
        raise InputError(
            "is not a table with named columns and rows", file=path, remedy="export it again"
        )
    _check_types(path, array)
    return array


def _refuse_stream(path: Path) -> None:
    with explained(path), open_regular(path) as file:
        is_stream = read_bytes(file, len(_CSDAT_MAGIC)) == _CSDAT_MAGIC
    if is_stream:
        raise InputError(
            "is a compressed stream (CSDAT) of cryosparc-tools, which this program does not read",
            file=path,
            remedy="save it as a plain .cs file, with Dataset.load(name).save(other_name) of cryosparc-tools",
        )


def _check_types(path: Path, array: NDArray[Any]) -> None:
    """Refuse a field that this module uses and that is not what cryoSPARC writes under that name."""
    for name, (kinds, shape) in _TYPES.items():
        if name not in (array.dtype.names or ()):
            continue
        dtype = array.dtype[name]
        if dtype.base.kind not in kinds or dtype.shape != shape:
            raise InputError(
                f"holds {dtype}, not what cryoSPARC writes there",
                file=path,
                column=name,
                remedy="export it again",
            )


def _stacks(
    path: Path, paths: NDArray[Any], column: str = "blob/path"
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Distinct image files and the index of each row's."""
    # rows of one stack mostly follow each other: sort one string a run, not one a row
    starts = np.flatnonzero(np.r_[True, paths[1:] != paths[:-1]])
    names, inverse = np.unique(paths[starts], return_inverse=True)
    lengths = np.diff(np.r_[starts, len(paths)])
    try:
        decoded = [n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist()]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{error.object!r} is not UTF-8 text",
            file=path,
            row=int(np.argmax(paths == error.object)),
            column=column,
            remedy="rename the image file, or export the particles again",
        ) from None
    return tuple(n.lstrip(">") for n in decoded), np.repeat(inverse.reshape(-1), lengths)


def _constants(path: Path, fields: Fields, reading: Reading, *wanted: str) -> Fields:
    """Constants of each particle by field of `Optics`, (N,) each, from the file or as they are given."""

    def missing(field: str, remedy: str) -> InputError:
        column, remedy = COLUMNS[field], f"{_PASSTHROUGH}, or {remedy}"
        return InputError("is missing", file=path, column=column, remedy=remedy)

    found = {field: fields.get(COLUMNS[field]) for field in wanted}
    return complete(found, reading.constants, len(fields["uid"]), missing)


def _optics(fields: Fields, constants: Fields) -> tuple[Optics, NDArray[np.int64]]:
    """One group per exposure group and set of constants."""
    count = len(fields["uid"])
    box_size = fields["blob/shape"][:, 0] if "blob/shape" in fields else np.zeros(count)
    exposure = fields.get("ctf/exp_group_id", np.zeros(count, dtype=np.int64))
    # stored without the identity
    excess = fields.get("ctf/anisomag")
    if excess is None or not excess.any():
        excess = np.zeros((count, 4))
    first, group = group_rows([exposure, *constants.values(), box_size, *excess.T])
    magnification = np.eye(2) + excess[first].astype(np.float64).reshape(-1, 2, 2)
    given: dict[str, Any] = {f: shortest_float64(v[first]) for f, v in constants.items()}
    optics = Optics(
        name=tuple(f"exposure group {e}" for e in exposure[first]),
        **given,
        box_size=box_size[first].astype(np.int64),
        magnification=magnification if excess.any() else None,
    )
    return optics, group


def _ctf(fields: Fields, need: Callable[[str, str], NDArray[Any]]) -> CtfParameters:
    defocus_u, defocus_v, angle = (
        need(name, _PASSTHROUGH).astype(np.float64)
        for name in ("ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad")
    )
    zero = np.zeros(len(defocus_u))
    return CtfParameters(
        defocus_u,
        defocus_v,
        angle,
        phase_shift_radian=fields.get("ctf/phase_shift_rad", zero).astype(np.float64),
        bfactor_angstrom2=fields.get("ctf/bfactor", zero).astype(np.float64),
    )


def _poses(path: Path, fields: Fields, reading: Reading) -> Poses:
    omega = _need(path, fields, "alignments3D/pose", _REFINEMENT).astype(np.float64)
    if "alignments3D/shift" not in fields:
        return Poses(_rotations(omega), np.zeros((len(omega), 2)))
    shift = fields["alignments3D/shift"].astype(np.float64)
    pixel_size = fields.get("alignments3D/psize_A")
    if pixel_size is None:
        pixel_size = _constants(path, fields, reading, "pixel_size_angstrom")["pixel_size_angstrom"]
    return Poses(_rotations(omega), shift * pixel_size.astype(np.float64)[:, None])


def _rotations(omega: NDArray[np.float64]) -> NDArray[np.float64]:
    """Matrices (N, 3, 3) of rotation vectors (N, 3); NaN for those that are not finite."""
    from scipy.spatial.transform import Rotation

    finite = np.isfinite(omega).all(axis=1)
    rotation = np.full((len(omega), 3, 3), np.nan)
    rotation[finite] = Rotation.from_rotvec(omega[finite]).as_matrix()
    return rotation


def _expanded_from(fields: Fields) -> NDArray[np.uint64] | None:
    """The particle that each row is a symmetry copy of."""
    source = fields.get("sym_expand/src_uid")
    return None if source is None else source.astype(np.uint64)


def _picks(path: Path, fields: Fields) -> Picks | None:
    """Micrographs and coordinates in their pixels: fractions of the width and height."""
    names = ("micrograph_path", "micrograph_shape", "center_x_frac", "center_y_frac")
    if any(f"location/{name}" not in fields for name in names):
        return None
    paths, shape, x, y = (fields[f"location/{name}"] for name in names)
    stacks, index = _stacks(path, paths, "location/micrograph_path")
    # the shape is (height, width)
    xy = np.column_stack([x, y]).astype(np.float64) * shape[:, ::-1]
    return Picks.of_paths(stacks, index, xy)


def _halfset(split: NDArray[Any] | None, count: int) -> NDArray[np.int8]:
    if split is None:
        return np.zeros(count, dtype=np.int8)
    return np.where(split == 0, 1, np.where(split == 1, 2, 0)).astype(np.int8)


FORMAT = Format("cryosparc", recognises, read)
