"""The HDF5 files of a run, read without trust: a file may have been damaged since it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError

if TYPE_CHECKING:
    import h5py

REPEAT = "repeat the run"
# Edges of an array; None stands for any length.
Shape = tuple[int | None, ...]


@contextmanager
def opened(path: Path, remedy: str = REPEAT) -> Iterator[h5py.File]:
    """The file, open for reading; whatever HDF5 stumbles over becomes an InputError.

    Raises
    ------
    InputError
        If the file is missing, or damaged where it is read.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except InputError:
        raise
    # h5py raises KeyError, RuntimeError, OSError, TypeError … for the same damage
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"is missing or damaged ({reason})", file=path, remedy=remedy) from error


def read_arrays(
    file: h5py.File, shapes: Mapping[str, Shape], remedy: str = REPEAT
) -> dict[str, NDArray[Any]]:
    """Datasets of numbers.

    Parameters
    ----------
    file : h5py.File
        As `opened` yields it.
    shapes : mapping of dataset name to shape
        None for an edge of any length.
    remedy : str

    Raises
    ------
    InputError
        If one is missing, has another shape, holds no numbers or claims more than the file holds.
    """
    return {name: _read_array(file, name, shape, remedy) for name, shape in shapes.items()}


def read_number(file: h5py.File, name: str) -> float:
    """An attribute of the file that is one finite number.

    Raises
    ------
    InputError
    """
    value = np.asarray(file.attrs.get(name, np.nan))
    if value.dtype.kind not in "fiu" or value.size != 1 or not np.isfinite(value).all():
        raise InputError("is missing or not a number", file=_path(file), column=name, remedy=REPEAT)
    return float(value.reshape(()))


def _read_array(file: h5py.File, name: str, shape: Shape, remedy: str) -> NDArray[Any]:
    import h5py

    def refuse(problem: str) -> InputError:
        return InputError(problem, file=_path(file), column=name, remedy=remedy)

    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        raise refuse("is missing")
    found = item.shape or ()
    fits = len(found) == len(shape) and all(
        wanted is None or edge == wanted for edge, wanted in zip(found, shape, strict=True)
    )
    if item.dtype.kind not in "fiub" or not fits:
        wanted = " × ".join("any" if edge is None else str(edge) for edge in shape)
        raise refuse(f"holds {item.dtype} of shape {found} where {wanted} numbers are needed")
    # chunks that were never written take no space in the file, but all of it in memory
    if item.nbytes > _path(file).stat().st_size:
        raise refuse(f"claims {item.nbytes} bytes, more than the file holds")
    array: NDArray[Any] = item[()]
    return array


def _path(file: h5py.File) -> Path:
    return Path(str(file.filename))
