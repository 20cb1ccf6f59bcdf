"""The HDF5 files of a run, read without trust: a file may have been damaged or made up.

HDF5 can place the data of a set in other files, through links, external storage and virtual sets, and can
promise far more numbers than it holds. What is read here lies in the file itself, uncompressed as solvar
writes it, and all of it together is no longer than the file.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.files import believed_size, open_inside

if TYPE_CHECKING:
    import h5py

REPEAT = "repeat the run"
# bytes; a run's identity takes 32
_LARGEST_ATTRIBUTE = 1024
_ROWS_AT_A_TIME = 1 << 13
# Edges of an array; None stands for any length.
Shape = tuple[int | None, ...]


class Hdf5File:
    """An open file, from which numbers and names are read.

    Parameters
    ----------
    file : h5py.File
    path : Path
    size : int
        Bytes that it may be believed to hold.
    remedy : str
        For whoever must hear that it is damaged.
    """

    def __init__(self, file: h5py.File, path: Path, size: int, remedy: str) -> None:
        self._file, self._left = file, size
        self.path, self.remedy = path, remedy

    def __contains__(self, name: str) -> bool:
        return self._own(name) is not None

    def names(self, group: str) -> list[str]:
        """Of what lies in a group.

        Raises
        ------
        InputError
            If there is no such group.
        """
        import h5py

        found = self._own(group)
        if not isinstance(found, h5py.Group):
            raise self.refused(group, "is missing")
        return list(found)

    def arrays(
        self, shapes: Mapping[str, Shape], truths: Collection[str] = ()
    ) -> dict[str, NDArray[Any]]:
        """Sets of numbers, in the byte order and one of the number types that everything computes with.

        Parameters
        ----------
        shapes : mapping of name to shape
            None for an edge of any length.
        truths : collection of str
            Those of them that hold truth values, which no number is.

        Raises
        ------
        InputError
            If one is missing, has another shape, holds no numbers, lies elsewhere or claims more than the
            file holds.
        """
        kinds = {name: "b" if name in truths else "fiu" for name in shapes}
        return {name: _plain(self._array(name, shapes[name], kinds[name])) for name in shapes}

    def strings(self, name: str) -> tuple[str, ...]:
        """A list of names, as `write_strings` writes it.

        Raises
        ------
        InputError
            As `arrays`.
        """
        try:
            return tuple(each.decode("utf-8") for each in self._array(name, (None,), "S").tolist())
        except UnicodeDecodeError as error:
            raise self.refused(name, "holds no text") from error

    def attribute(self, name: str, group: str = "/") -> NDArray[Any]:
        """A few numbers or a name attached to the file or to a group; empty if there are none.

        Raises
        ------
        InputError
            If something else is attached by that name.
        """
        import h5py

        owner = self._file if group == "/" else self._own(group)
        if owner is None or name not in owner.attrs:
            return np.empty(0)
        found = owner.attrs.get_id(name)
        kind = found.dtype
        is_text = kind.kind == "S" or h5py.check_string_dtype(kind) is not None
        length = math.prod(found.shape or (0,)) * kind.itemsize
        if not (is_text or kind.kind in "fiub") or length > _LARGEST_ATTRIBUTE:
            raise self.refused(name, "is no attribute of solvar's")
        value = np.asarray(owner.attrs[name])
        return value if is_text else _plain(value)

    def number(self, name: str) -> float:
        """An attribute of the file that is one finite number.

        Raises
        ------
        InputError
        """
        value = self.attribute(name)
        if value.dtype.kind not in "fiu" or value.size != 1 or not np.isfinite(value).all():
            raise self.refused(name, "is missing or not a number")
        return float(value.reshape(()))

    def refused(self, name: str, problem: str) -> InputError:
        """The error that says what is wrong with `name`."""
        return InputError(problem, file=self.path, column=name, remedy=self.remedy)

    def _array(self, name: str, shape: Shape, kinds: str) -> NDArray[Any]:
        import h5py

        item = self._own(name)
        if not isinstance(item, h5py.Dataset):
            raise self.refused(name, "is missing")
        found = item.shape or ()
        fits = len(found) == len(shape) and all(
            wanted is None or edge == wanted for edge, wanted in zip(found, shape, strict=True)
        )
        if item.dtype.kind not in kinds or not fits:
            wanted = " × ".join("any" if edge is None else str(edge) for edge in shape)
            what = {"S": "names", "b": "truth values"}.get(kinds, "numbers")
            problem = f"holds {item.dtype} of shape {found} where {wanted} {what} are needed"
            raise self.refused(name, problem)
        if item.is_virtual or item.external or item.id.get_create_plist().get_nfilters():
            raise self.refused(name, "is stored in a way that solvar does not use")
        length = math.prod(found) * item.dtype.itemsize
        # numbers that were never written take no space in the file, but all of it in memory
        if item.id.get_storage_size() != length or length > self._left:
            raise self.refused(name, f"claims {length} bytes, other than the file holds")
        self._left -= length
        array: NDArray[Any] = item[()]
        return array

    def _own(self, name: str) -> Any:
        """What a name stands for in this very file; None if it is missing or a link to elsewhere."""
        import h5py

        place: Any = self._file
        for part in name.split("/"):
            # asked below h5py, whose own questions follow links
            if not isinstance(place, h5py.Group) or not place.id.links.exists(part.encode()):
                return None
            if place.id.links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
                raise self.refused(name, "is a link")
            place = place[part]
        return place


@contextmanager
def opened(
    folder: Path, name: str, run_id: str | None = None, remedy: str = REPEAT
) -> Iterator[Hdf5File]:
    """The file `name` below `folder`, open for reading.

    Parameters
    ----------
    folder : Path
    name : str
    run_id : str, optional
        Of the run that it must belong to.
    remedy : str

    Raises
    ------
    InputError
        If the file is missing, a link, of another run, or damaged where it is read.
    """
    import h5py

    path = Path(folder) / name
    try:
        # the open file is handed on, not its name: what was looked at is what is read
        with open_inside(folder, name) as plain, h5py.File(plain, "r") as file:
            found = Hdf5File(file, path, believed_size(plain), remedy)
            if run_id is not None and found.attribute("run_id").tolist() != run_id:
                raise InputError("belongs to another run than run.json", file=path, remedy=remedy)
            yield found
    except InputError:
        raise
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise InputError(f"is missing or damaged ({reason})", file=path, remedy=remedy) from error
    # whatever HDF5 stumbles over: h5py raises KeyError, RuntimeError, OSError, TypeError …
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"is missing or damaged ({reason})", file=path, remedy=remedy) from error


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers of single or double precision, whole ones, or truth values, as this machine has them."""
    kind = array.dtype
    if kind.kind == "b":
        # a byte that is neither 0 nor 1 would be neither true nor false
        return array.view(np.uint8) != 0
    if kind.kind == "f" and kind.itemsize not in (4, 8):
        with np.errstate(over="ignore"):
            return array.astype(np.float32 if kind.itemsize < 4 else np.float64)
    return array.astype(kind.newbyteorder("="), copy=False)


def write_strings(file: h5py.File, name: str, values: tuple[str, ...]) -> None:
    """A list of names, all of the same length in the file: one that grows by references could outgrow it."""
    import h5py

    encoded = [value.encode() for value in values]
    longest = max([1, *map(len, encoded)])
    file.create_dataset(name, data=encoded, dtype=h5py.string_dtype("utf-8", longest))


def write_single(file: h5py.File, name: str, values: NDArray[np.floating]) -> None:
    """Numbers in single precision, rounded some rows at a time."""
    written = file.create_dataset(name, values.shape, np.float32)
    for first in range(0, len(values), _ROWS_AT_A_TIME):
        rows = slice(first, first + _ROWS_AT_A_TIME)
        written[rows] = values[rows]
