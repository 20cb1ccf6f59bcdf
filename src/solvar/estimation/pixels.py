"""Where whitened pixels lie: in memory, or on disk when they do not fit.

On disk each frequency band has a file of its own, so that a coarse band reads what it needs and no more, and
the particles of a half-set stand together in file order, so that a batch made of neighbours is read in long
pieces. The files have no name: however the process ends, nothing is left behind.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from solvar.errors import SolvarError
from solvar.files import Shelf, neighbours, read_at

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

BYTES_PER_PIXEL = 12


class Pixels(Protocol):
    """Pixels and CTFs of M particles.

    Attributes
    ----------
    is_slow : bool
        Whether reading ahead pays.
    shelf : Shelf
        Where what else is large is kept: in memory beside pixels in memory, on disk beside those on disk.
    """

    is_slow: bool
    shelf: Shelf

    def write(self, row: Int64, data: Complex64, ctf: Float32) -> None:
        """Keep the pixels (B, n) of the particles `row`."""

    def read(self, row: Int64, pixels: int) -> tuple[Complex64, Float32]:
        """The first pixels of the particles `row`, (B, pixels) each, in arrays of the caller's own."""

    def close(self) -> None:
        """Free the memory or disk space."""


class MemoryPixels:
    """Two arrays; implements `Pixels`.

    Attributes
    ----------
    data : (M, n) complex64
    ctf : (M, n) float32
    """

    is_slow = False

    def __init__(self, data: Complex64, ctf: Float32) -> None:
        self.data, self.ctf, self.shelf = data, ctf, Shelf()

    @classmethod
    def empty(cls, count: int, pixels: int) -> MemoryPixels:
        """Memory for `count` particles."""
        shape = count, pixels
        return cls(np.empty(shape, dtype=np.complex64), np.empty(shape, dtype=np.float32))

    def write(self, row: Int64, data: Complex64, ctf: Float32) -> None:
        """See `Pixels`."""
        self.data[row], self.ctf[row] = data, ctf

    def read(self, row: Int64, pixels: int) -> tuple[Complex64, Float32]:
        """See `Pixels`."""
        return self.data[row, :pixels], self.ctf[row, :pixels]

    def close(self) -> None:
        """See `Pixels`."""
        self.data, self.ctf = self.data[:0], self.ctf[:0]


def in_memory(own: Int64, pixels: int) -> Pixels:
    """Memory for the pixels of the particles `own`."""
    return MemoryPixels.empty(len(own), pixels)


class DiskPixels:
    """Nameless files, one a frequency band; implements `Pixels`.

    A record is a particle's data in the band and then its CTF there.

    Parameters
    ----------
    folder : path
        Where the files lie.
    group : (M,) int
        Half-set of each particle; particles of one group stand together.
    bands : list of int
        Pixels up to the end of each band, rising.
    half_precision : bool
        Two bytes a number instead of four: half the disk, and rounding of 5·10⁻⁴ of each whitened pixel,
        whose noise is 1.
    ctf_scale : float
        About how large CTFs are, which may be far from what half precision holds.
    """

    is_slow = True

    def __init__(
        self,
        folder: Path,
        group: NDArray[np.int8],
        bands: list[int],
        half_precision: bool = False,
        ctf_scale: float = 1.0,
    ) -> None:
        self.shelf = Shelf(folder)
        # a power of two: multiplying by it rounds nothing
        self._scale = np.float32(2.0 ** -np.round(np.log2(ctf_scale))) if half_precision else None
        self._place = np.empty(len(group), dtype=np.int64)
        self._place[np.argsort(group, kind="stable")] = np.arange(len(group))
        self._dtype = np.dtype(np.float16 if half_precision else np.float32)
        self._bands = list(zip([0, *bands[:-1]], bands, strict=True))
        need = len(group) * bands[-1] * BYTES_PER_PIXEL * self._dtype.itemsize // 4
        _require_space(folder, need)
        # they stay open until `close`
        self._files = [tempfile.TemporaryFile(dir=folder, buffering=0) for _ in bands]  # noqa: SIM115

    def write(self, row: Int64, data: Complex64, ctf: Float32) -> None:
        """See `Pixels`."""
        place = self._place[row]
        runs = neighbours(place)
        for (low, high), file in zip(self._bands, self._files, strict=True):
            real = np.ascontiguousarray(data[:, low:high]).view(np.float32)
            part = ctf[:, low:high] if self._scale is None else ctf[:, low:high] * self._scale
            record = _converted(np.concatenate([real, part], axis=1), self._dtype)
            for first, last in runs:
                _write(file.fileno(), record[first:last], place[first])

    def read(self, row: Int64, pixels: int) -> tuple[Complex64, Float32]:
        """See `Pixels`."""
        data = np.empty((len(row), pixels), dtype=np.complex64)
        ctf = np.empty((len(row), pixels), dtype=np.float32)
        place = self._place[row]
        runs = neighbours(place)
        for (low, high), file in zip(self._bands, self._files, strict=True):
            if low >= pixels:
                break
            record = np.empty((len(row), 3 * (high - low)), dtype=self._dtype)
            for first, last in runs:
                _read(file.fileno(), record[first:last], place[first])
            stop = min(high, pixels)
            data.view(np.float32)[:, 2 * low : 2 * stop] = record[:, : 2 * (stop - low)]
            ctf[:, low:stop] = record[:, 2 * (high - low) :][:, : stop - low]
        if self._scale is not None:
            ctf /= self._scale
        return data, ctf

    def close(self) -> None:
        """See `Pixels`."""
        for file in self._files:
            file.close()


def _converted(values: Float32, dtype: np.dtype[Any]) -> NDArray[np.floating]:
    """Numbers in the precision of the file.

    Raises
    ------
    SolvarError
        If one is beyond it.
    """
    with np.errstate(over="ignore"):
        found = values.astype(dtype)
    if dtype == np.float16 and not np.isfinite(found).all():
        raise SolvarError(
            f"a whitened pixel of {np.abs(values).max():.3g} standard deviations of the noise is beyond half "
            "precision; run again with --cache-precision float32"
        )
    return found


def _write(handle: int, record: NDArray[np.floating], place: int) -> None:
    offset, rest = int(place) * record[0].nbytes, record.view(np.uint8).reshape(-1).data
    while len(rest):
        written = os.pwrite(handle, rest, offset)
        offset, rest = offset + written, rest[written:]


def _read(handle: int, record: NDArray[np.floating], place: int) -> None:
    try:
        read_at(handle, record, int(place) * record[0].nbytes)
    except EOFError:
        raise SolvarError("the cache of whitened images ended early: the disk lost data") from None


def _require_space(folder: Path, need: int) -> None:
    from solvar.machine import free_disk

    free = free_disk(folder)
    if free < need:
        raise SolvarError(
            f"{folder} has {free / 2**30:.1f} GiB free and the whitened images take "
            f"{need / 2**30:.1f} GiB; free some space or name another folder with --scratch"
        )
