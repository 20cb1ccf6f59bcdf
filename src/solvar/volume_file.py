"""Volumes on disk: cubic MRC files with their pixel size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.files import replacing
from solvar.mrc_header import read_mrc, read_mrc_header

Float32 = NDArray[np.float32]

_LABEL = "solvar run "


def read_volume(path: str | Path, inside: Path | None = None) -> tuple[Float32, float]:
    """Read a cubic volume.

    Parameters
    ----------
    path : path
    inside : path, optional
        A folder that `path` begins with, and below which no link is followed.

    Returns
    -------
    volume : (L, L, L) float32
        [z, y, x].
    pixel_size_angstrom : float
        0 where the file does not say.

    Raises
    ------
    InputError
        If it cannot be read, is not cubic, or holds NaN or infinite voxels.
    """
    header, data = read_mrc(Path(path), inside)
    if len(set(data.shape)) != 1 or data.shape[0] < 2:
        shape = " × ".join(str(n) for n in data.shape)
        raise InputError(f"is not a cubic volume ({shape} voxels)", file=path)
    if not np.isfinite(data).all():
        raise InputError("holds NaN or infinite voxels", file=path)
    return data.astype(np.float32, copy=False), header.pixel_size_angstrom


def write_volume(
    path: str | Path,
    volume: ArrayLike,
    pixel_size_angstrom: float,
    origin_angstrom: float = 0.0,
    run_id: str | None = None,
) -> None:
    """Write a cubic volume; the file appears complete or not at all.

    Parameters
    ----------
    path : path
    volume : (L, L, L) array-like
        [z, y, x].
    pixel_size_angstrom : float
    origin_angstrom : float
        Where voxel 0 lies on each axis; viewers place maps by it.
    run_id : str, optional
        Of the run that it belongs to; it becomes a label of the file.

    Raises
    ------
    InputError
        If the volume is not cubic or not finite, or the pixel size is not positive.
    """
    import mrcfile

    data = np.ascontiguousarray(volume, dtype=np.float32)
    if data.ndim != 3 or len(set(data.shape)) != 1:
        raise InputError(f"a volume of shape {data.shape} is not cubic", file=path)
    if not np.isfinite(data).all():
        raise InputError("the volume to be written holds NaN or infinite voxels", file=path)
    if not pixel_size_angstrom > 0:
        raise InputError(f"a pixel size of {pixel_size_angstrom} Å makes no sense", file=path)
    with replacing(Path(path)) as temporary, mrcfile.new(temporary, overwrite=True) as file:
        file.set_data(data)
        file.set_volume()
        file.voxel_size = pixel_size_angstrom
        file.header.origin = (origin_angstrom,) * 3
        if run_id is not None:
            file.add_label(f"{_LABEL}{run_id}")


def run_id_of(path: str | Path, inside: Path | None = None) -> str | None:
    """Identity of the run that a volume says it belongs to; None if it says nothing.

    Parameters
    ----------
    path : path
    inside : path, optional
        As in `read_volume`.

    Raises
    ------
    InputError
        If it is no MRC file.
    """
    labels = read_mrc_header(Path(path), inside).labels
    said = (label.removeprefix(_LABEL) for label in labels if label.startswith(_LABEL))
    return next(said, None)
