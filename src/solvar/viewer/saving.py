"""What the page gives to keep: the map that is shown, a movie along the path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.report.movie import FRAMES, frames, movie_model
from solvar.report.movie_files import write_movie
from solvar.viewer import jobs
from solvar.viewer.data import ViewerData
from solvar.viewer.viewing import along
from solvar.volume_file import read_volume, write_volume
from solvar.volumes.table import volume_below

_MOVIE = "path.gif"


@dataclass(frozen=True)
class SavedFile:
    """A file for the browser to keep.

    Attributes
    ----------
    name : str
    content : bytes
    """

    name: str
    content: bytes


def model_map(data: ViewerData, point: list[float]) -> SavedFile:
    """μ + V z at a point (r,) in standard deviations, in the box of the run, as an MRC file."""
    volume = data.run.volume_at(np.asarray(point) * data.spread)
    place = "_".join(f"{value:+.2f}" for value in point[:3])
    return _map(f"model_at_{place}.mrc", volume, data.run.pixel_size_angstrom)


def map_of(data: ViewerData, key: str) -> SavedFile:
    """A volume that was reconstructed, as an MRC file.

    Raises
    ------
    InputError
        If it is no longer there, leads out of the run folder, or belongs to another run.
    """
    found = jobs.existing(data.run, key)
    volume, pixel_size = read_volume(volume_below(data.run, found.file), data.run.folder)
    return _map(key.replace("/", "_") + ".mrc", volume, pixel_size or data.run.pixel_size_angstrom)


def movie(data: ViewerData, path: list[list[float]]) -> SavedFile:
    """The molecule along a path, as far as half-sets support it, as a GIF.

    Raises
    ------
    InputError
        If the path has no length, or the run has no half-sets.
    """
    points = along(path, FRAMES) * data.spread
    if data.run.validation is None:
        raise InputError("a run without half-sets does not tell what a movie may show")
    pictures = frames(movie_model(data.run), points)
    return SavedFile(_MOVIE, _written(_MOVIE, lambda file: write_movie(file, pictures)))


def _map(name: str, volume: NDArray[np.float32], pixel_size_angstrom: float) -> SavedFile:
    return SavedFile(
        name, _written(name, lambda file: write_volume(file, volume, pixel_size_angstrom))
    )


def _written(name: str, write: Callable[[Path], None]) -> bytes:
    with TemporaryDirectory() as folder:
        write(Path(folder) / name)
        return (Path(folder) / name).read_bytes()
