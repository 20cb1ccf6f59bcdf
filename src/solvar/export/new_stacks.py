"""Stacks that an export writes in place of those of its input: one for each size of images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.export.subtraction import Subtraction
from solvar.machine import free_disk
from solvar.particles import ParticleSet, Reading
from solvar.particles.copies import image_places
from solvar.particles.stack_write import write_stack
from solvar.progress import Progress

Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class NewStacks:
    """The images of exported particles after a subtraction.

    Attributes
    ----------
    subtraction : Subtraction
    original : ParticleSet
        The M particles as their rows have them, with the poses to write.
    in_run : (M,) int64
        Positions of the same particles in the run.
    folder : Path
        Where stacks and particle file will be, absolute.
    progress : Progress
    """

    subtraction: Subtraction
    original: ParticleSet
    in_run: Int64
    folder: Path
    progress: Progress

    def __post_init__(self) -> None:
        self._refuse_other_images()
        self._refuse_full_disk()

    def _refuse_other_images(self) -> None:
        ours = self.subtraction.particles.select(self.in_run)
        other = image_places(ours) != image_places(self.original)
        if other.any():
            raise InputError(
                "has other images than the run was made from, and --subtract takes from those",
                file=self.original.source,
                row=int(self.original.row[np.flatnonzero(other)[0]]),
                remedy="leave out --particles, or pass a file of the same images",
            )

    def _refuse_full_disk(self) -> None:
        # a stack is written through a map of its file, and a full disk ends the process
        particles = self.subtraction.particles
        box = particles.optics.box_size[particles.exposures.optics_group[self.in_run]]
        need, free = 4 * int(np.sum(box**2)), free_disk(self.folder)
        if need > free:
            raise InputError(
                f"has {free / 2**30:.1f} GiB left, and the new stacks take {need / 2**30:.1f} GiB",
                file=self.folder,
                remedy="choose another --output, or fewer particles",
            )

    @cached_property
    def rows(self) -> dict[str, Int64]:
        """Name of each stack, and positions of its particles among the M, in their order."""
        parts = self.subtraction.stack.by_size(self.in_run)
        if len(parts) == 1:
            return {"particles.mrcs": parts[0]}
        return {f"particles_{number}.mrcs": part for number, part in enumerate(parts, 1)}

    def writers(self) -> Mapping[str, Callable[[Path], None]]:
        """What writes each stack."""
        return {name: partial(self._write, places) for name, places in self.rows.items()}

    def _write(self, places: Int64, path: Path) -> None:
        index = self.in_run[places]
        optics = self.subtraction.particles.optics
        group = self.subtraction.particles.exposures.optics_group[index[0]]
        box, pixel_size = int(optics.box_size[group]), float(optics.pixel_size_angstrom[group])
        with self.progress.step("Subtracting", len(index), "images") as step:
            images = self.subtraction.images(index, step)
            write_stack(path, (len(index), box, box), pixel_size, images)

    @property
    def particles(self) -> ParticleSet:
        """The M particles with images in the new stacks."""
        return self.found_at({name: self.folder / name for name in self.rows})

    def found_at(self, files: Mapping[str, Path]) -> ParticleSet:
        """The M particles with images in these files for stacks of these names."""
        stack, frame = np.empty((2, len(self.in_run)), np.int64)
        for number, places in enumerate(self.rows.values()):
            stack[places], frame[places] = number, np.arange(len(places))
        exposures = replace(self.original.exposures, stack_index=stack, frame=frame)
        stacks = tuple(files[name] for name in self.rows)
        return replace(self.original, stacks=stacks, exposures=exposures, found_elsewhere=None)

    @contextmanager
    def reading(self, files: Mapping[str, Path]) -> Iterator[Reading]:
        """How to read the particle file while stacks of these names have other ones for now."""
        with tempfile.TemporaryDirectory() as folder:
            for name in self.rows:
                (Path(folder) / name).symlink_to(files[name].absolute())
            links = Path(folder)
            yield Reading(datadir=links, strip_prefix=str(self.folder), working_folder=links)
