"""What an export target is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.selection import Selection
from solvar.export.new_stacks import NewStacks
from solvar.particles import Exposures, ParticleSet, Poses
from solvar.particles.picks import TOLERANCE_PIXEL
from solvar.results.run import Run

Writer = Callable[[Path], None]


@dataclass(frozen=True)
class ExportOptions:
    """What the caller wants beside the target.

    Attributes
    ----------
    selection : Selection
        Which particles of the run.
    particles : Path or None
        File to take the rows from; None for the one that the run was made from.
    refined_poses : bool or None
        Write the poses of the run (True) or those of the file (False); None: those of the run where it
        refined them.
    latents : bool
        Add latents, contrast and log-likelihood as columns (RELION).
    volumes : Path or None
        Folder with a series of maps to show (ChimeraX); None to make one along `component`.
    component : int
        Eigenvolume to move along, from 1 (ChimeraX).
    flip_hand : bool
        Write poses of the mirror image, where the hand was not known.
    overwrite : bool
        Replace files of an earlier export; inputs are never replaced.
    reading : mapping
        Keyword arguments of `read_particles` for the file the rows are taken from; for the input of
        the run, those that differ from what the run was made with.
    pick_tolerance : float
        Micrograph pixels by which coordinates may differ where images have other names.
    subtract : Path or None
        Mask of what is to stay in the images: new stacks are written, without what the model has elsewhere.
    """

    selection: Selection = field(default_factory=Selection)
    particles: Path | None = None
    refined_poses: bool | None = None
    latents: bool = False
    volumes: Path | None = None
    component: int = 1
    flip_hand: bool = False
    overwrite: bool = False
    reading: Mapping[str, Any] = field(default_factory=dict)
    pick_tolerance: float = TOLERANCE_PIXEL
    subtract: Path | None = None


@dataclass(frozen=True)
class Exported:
    """What an export has written and read back.

    Attributes
    ----------
    files : tuple of Path
        In the order they were written.
    particles : int or None
        How many they hold; None for volumes.
    refined_poses : bool
        Whether the poses are the refined ones of the run.
    """

    files: tuple[Path, ...]
    particles: int | None = None
    refined_poses: bool = False


@dataclass(frozen=True, eq=False)
class Chosen:
    """The particles to export, in the order of the file their rows are taken from.

    Attributes
    ----------
    original : ParticleSet
        What was read from that file, N particles.
    index : (M,) int64
        Positions in `original` of the particles to export, ascending.
    in_run : (M,) int64
        Positions of the same particles in the run.
    poses : Poses or None
        Refined poses of the M particles; None to keep those of the file.
    exposures : Exposures or None
        Beside refined poses the images of the M particles, as a run has moved them.
    """

    original: ParticleSet
    index: NDArray[np.int64]
    in_run: NDArray[np.int64]
    poses: Poses | None = None
    exposures: Exposures | None = None

    @property
    def particles(self) -> ParticleSet:
        """The M particles, with the poses to write."""
        selected = self.original.select(self.index)
        if self.poses is None or self.exposures is None:
            return selected
        return replace(selected, poses=self.poses, exposures=self.exposures)

    @property
    def everything(self) -> ParticleSet:
        """All N particles of the file; those that are not exported keep the poses of the file."""
        if self.poses is None:
            return self.original
        rotation = self.original.poses.rotation.copy()
        shift = self.original.poses.shift_angstrom.copy()
        rotation[self.index] = self.poses.rotation
        shift[self.index] = self.poses.shift_angstrom
        return replace(self.original, poses=Poses(rotation, shift))


@dataclass(frozen=True, eq=False)
class Job:
    """What a target is given: the run, the options and, where it takes them, particles and new stacks."""

    run: Run
    options: ExportOptions
    chosen: Chosen | None = None
    stacks: NewStacks | None = None

    @property
    def particles(self) -> Chosen:
        """The chosen particles of a target that takes particles."""
        assert self.chosen is not None
        return self.chosen

    @property
    def written(self) -> ParticleSet:
        """The chosen particles, with the poses and images to write."""
        return self.particles.particles if self.stacks is None else self.stacks.particles

    def with_stacks(self, name: str, write: Writer) -> Mapping[str, Writer]:
        """The files of a target whose one file of particles has this name: that, and stacks before it."""
        return {**({} if self.stacks is None else self.stacks.writers()), name: write}

    @property
    def poses_replaced(self) -> bool:
        """Whether poses other than those spelled in the file are to be written."""
        chosen = self.particles
        return chosen.poses is not None or chosen.original.reading.poses is not None

    @property
    def ctf_replaced(self) -> bool:
        """Whether CTFs came from a pickle beside the file."""
        return self.particles.original.reading.ctf is not None


@dataclass(frozen=True)
class Target:
    """A program to export to; one line in the registry.

    Attributes
    ----------
    name : str
        As `--to` spells it.
    files : callable (job) -> mapping of file name to callable (path)
        The files in the order they are written; a writer may be given another name in the same folder.
    read_back : callable (job, mapping of file name to path) -> int or None
        Reads the files that were written as their user will; returns the number of particles in them.
        Raises `InputError` if they do not hold what they should.
    suffix : str or None
        Of the one file of the target, when the output may name it; None for several files.
    takes_particles : bool
        False for targets that show volumes alone.
    whole_file : bool
        Whether every row of the file is needed, not only those that the run used.
    takes_images : bool
        Whether it can name images other than those of the file.
    """

    name: str
    files: Callable[[Job], Mapping[str, Writer]]
    read_back: Callable[[Job, Mapping[str, Path]], int | None]
    suffix: str | None = None
    takes_particles: bool = True
    whole_file: bool = False
    takes_images: bool = False
