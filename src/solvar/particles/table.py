"""What a format hands over: a `ParticleTable`, the format's rows in the program's conventions.

The registry turns a table into a `ParticleSet`: it selects rows, finds the image files, fills what
only image headers know and checks the result. A format does none of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.imaging.optics import CtfParameters, Optics
from solvar.particles.exposures import Exposures, ranges
from solvar.particles.particle_set import ParticleSet, Poses
from solvar.particles.picks import Picks
from solvar.particles.reading import Reading

# what else can be done about a file without poses
FIND_POSES = "find them from the images alone with solvar abinitio"
# what is supposed where a column with shifts is missing
CENTRED = "The file has no shifts ({}), so the particles were taken to be centred."


@dataclass(frozen=True, eq=False)
class Series:
    """The M images of N rows that are particles of tomograms.

    Attributes
    ----------
    images : Exposures
        In the table's own stacks; `frame` counts the visible ones.
    number : (M,) int64
        Of each image among all exposures of its tilt series, from 0.
    visible, total : (N,) int64
        How many images the stack of each row has if it has the visible ones, or all.
    """

    images: Exposures
    number: NDArray[np.int64]
    visible: NDArray[np.int64]
    total: NDArray[np.int64]

    def of(self, index: NDArray[np.int64]) -> Series:
        """Of the rows `index`, which are counted anew."""
        number = self.number[self.images.places(index)]
        return Series(self.images.of(index), number, self.visible[index], self.total[index])

    def with_images(self, index: NDArray[np.int64]) -> Series:
        """The same rows with some of their images, of which some may have none."""
        return replace(self, images=self.images.rows(index), number=self.number[index])


@dataclass(frozen=True, eq=False)
class ParticleTable:
    """All N rows of a metadata file, in file order.

    Attributes
    ----------
    stack_names : tuple of str
        The distinct image files as the metadata spells them.
    stack_index, frame : (N,) int64
        Image `frame` (zero-based) of `stack_names[stack_index]`.
    optics, ctf : Optics, CtfParameters or None
        None if `Reading.ctf` replaces them; a box size of 0 stands for "only the image knows".
    optics_group : (N,) int64
    poses : Poses or None
        None if `Reading.poses` replaces them.
    halfset : (N,) int8
        1, 2, or 0 for unknown.
    uid : (N,) uint64 or None
        None to have it derived from the image name.
    expanded_from : (N,) uint64 or None
        The particle that each row is a symmetry copy of; None if the file does not say.
    picks : Picks or None
        None if the file does not say where the particles were picked.
    sign : (N,) int8 or None
        As in `Exposures`.
    series : Series or None
        The images of rows that have several each, with their CTFs; `ctf` is then None.
    tomograms : Path or None
        The file that describes the tilts of `series`.
    particle : (N,) int64 or None
        Which particle each row is a tilt of, numbered by first appearance; None where a row is a particle.
    tilt_image : (N,) int64 or None
        As in `Exposures`.
    remarks : tuple of str
        What was supposed on reading that the user should know, in plain sentences.
    columns : mapping
        Spelling in the file of a field, for messages: {"defocus_u_angstrom": "rlnDefocusU"}.
    """

    stack_names: tuple[str, ...]
    stack_index: NDArray[np.int64]
    frame: NDArray[np.int64]
    halfset: NDArray[np.int8]
    optics_group: NDArray[np.int64]
    optics: Optics | None = None
    ctf: CtfParameters | None = None
    poses: Poses | None = None
    uid: NDArray[np.uint64] | None = None
    expanded_from: NDArray[np.uint64] | None = None
    picks: Picks | None = None
    sign: NDArray[np.int8] | None = None
    series: Series | None = None
    tomograms: Path | None = None
    particle: NDArray[np.int64] | None = None
    tilt_image: NDArray[np.int64] | None = None
    remarks: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def particle_count(self) -> int:
        """How many particles the rows show."""
        return len(self) if self.particle is None else int(self.particle.max(initial=-1)) + 1

    def rows_of(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows (M,) of tilted particles `index` (n,), side by side, and which of the n each shows, (M,)."""
        assert self.particle is not None
        order = np.argsort(self.particle, kind="stable")
        count = np.bincount(self.particle)
        first = np.cumsum(count) - count
        places = ranges(first[index], count[index])
        return order[places], np.repeat(np.arange(len(index)), count[index])


@dataclass(frozen=True)
class Format:
    """One way in which programs write particle metadata; one line in the registry.

    Attributes
    ----------
    name : str
        Becomes `ParticleSet.source_format`.
    recognises : callable (path) -> bool
        Judges by content; cheap, never raises on a foreign file.
    read : callable (path, reading) -> ParticleTable
    write : callable (path, particles, extra columns), optional
    """

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Reading], ParticleTable]
    write: Callable[[Path, ParticleSet, Mapping[str, ArrayLike] | None], None] | None = None


def group_rows(columns: list[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group rows that agree in every column, groups ordered by first appearance.

    Parameters
    ----------
    columns : list of (N,) arrays

    Returns
    -------
    first : (G,) int64
        A representative row of each group.
    group : (N,) int64
    """
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        distinct, inverse = np.unique(column, return_inverse=True)
        # renumbering after each column keeps the codes below N², so they cannot overflow
        code = np.unique(code * len(distinct) + inverse.reshape(-1), return_inverse=True)[1]
    _, first, group = np.unique(code, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(by_appearance))
    return first[by_appearance], rank[group.reshape(-1)]


def shortest_float64(values: ArrayLike) -> NDArray[np.float64]:
    """Single-precision constants as the decimal number that was meant: float32(2.7) -> 2.7."""
    return np.array([float(str(v)) for v in np.asarray(values, np.float32)], dtype=np.float64)
