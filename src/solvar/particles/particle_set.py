"""`ParticleSet`: every particle of a project, with its identity kept from input to export."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.grid import CommonGrid
from solvar.imaging.optics import Optics
from solvar.particles.exposure_order import NoiseGroups
from solvar.particles.exposures import Exposures
from solvar.particles.identity import first_of_each
from solvar.particles.picks import Picks
from solvar.particles.reading import Reading
from solvar.particles.stack_paths import FoundElsewhere

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Poses:
    """Orientation and centring of N particles.

    Attributes
    ----------
    rotation : (N, 3, 3) float64
        R = Rz(rot)·Ry(tilt)·Rz(psi); the image samples the volume's transform at R·(kx, ky, 0).
        The viewing direction is the third column.
    shift_angstrom : (N, d) float64
        Shift that centres the particle, along the axes of its own frame: a particle at +p has shift -p. Along
        x and y (d = 2), and where particles were tilted z as well (d = 3).
    """

    rotation: Float64
    shift_angstrom: Float64


@dataclass(frozen=True, eq=False)
class ParticleSet:
    """An immutable table of N particles.

    Attributes
    ----------
    source : Path
        The metadata file that was read.
    source_format : str
        Name of its format in the registry: "relion", "cryosparc", "cryodrgn".
    row : (N,) int64
        Zero-based place of each particle in `source`, the way back to the original metadata: its row, and in
        a tilt series, where a particle has several rows, its number among the particles.
    uid : (N,) uint64
        Identity of a particle: cryoSPARC's uid, or a digest of stack path and frame (of its first image).
    optics : Optics
    poses : Poses
    stacks : tuple of Path
        The distinct, resolved image files.
    exposures : Exposures
        The images of the particles, one each in an ordinary stack.
    halfset : (N,) int8
        1 or 2 as given by the file; 0 where the file does not say.
    reading : Reading
        What was added to `source` to read it.
    picks : Picks or None
        Micrographs and coordinates, where the file has them.
    found_elsewhere : FoundElsewhere or None
        Stacks that are not where the file says.
    copy_of : (N,) int64 or None
        Position of the first row that shows the same particle at an equivalent pose (`expansion.py`); None
        where every particle is here once.
    symmetry_copies : int
        Rows left out because they are symmetry copies of a particle that is here, whose poses are ignored.
    supposed : tuple of str
        What was supposed on reading, in plain sentences.
    """

    source: Path
    source_format: str
    row: NDArray[np.int64]
    uid: NDArray[np.uint64]
    optics: Optics
    poses: Poses
    stacks: tuple[Path, ...]
    exposures: Exposures
    halfset: NDArray[np.int8]
    reading: Reading = field(default_factory=Reading)
    picks: Picks | None = None
    found_elsewhere: FoundElsewhere | None = None
    copy_of: NDArray[np.int64] | None = None
    symmetry_copies: int = 0
    supposed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def grid(self) -> CommonGrid:
        """What images of all optics groups are brought to."""
        return CommonGrid.of(self.optics)

    @cached_property
    def noise_groups(self) -> NoiseGroups:
        """Which images share a noise spectrum."""
        return NoiseGroups.of(self.exposures, self.optics)

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the common grid, Å: the coarsest one of the optics groups."""
        return self.grid.pixel_size_angstrom

    @property
    def box_size(self) -> int:
        """Edge of the common grid, pixels: that of the images where they are all alike."""
        return self.grid.box_size

    @property
    def image_row(self) -> NDArray[np.int64]:
        """Zero-based row of each of the M images in `source`, (M,)."""
        row = self.exposures.row
        return self.row[self.exposures.particle] if row is None else row

    @property
    def is_of_tomograms(self) -> bool:
        """Whether rows of `source` are particles with tilts that another file describes."""
        return self.exposures.tilt is not None and self.exposures.row is None

    @property
    def row_images(self) -> NDArray[np.int64]:
        """Of the rows (K,) of `source` that these particles have, the position of each one's first image."""
        images = self.exposures
        return images.first if images.row is None else np.arange(len(images))

    @property
    def image_poses(self) -> Poses:
        """Orientation and centring of each of the M images, as if they were particles of their own."""
        images, poses = self.exposures, self.poses
        if images.are_single:
            return poses
        rotation = poses.rotation[images.particle]
        if images.tilt is not None:
            rotation = rotation @ images.tilt
        return Poses(rotation, images.moves(poses.shift_angstrom[images.particle]))

    @cached_property
    def originals(self) -> NDArray[np.int64]:
        """Positions of the rows that are no symmetry copies of an earlier one, ascending."""
        if self.copy_of is None:
            return np.arange(len(self))
        return np.flatnonzero(self.copy_of == np.arange(len(self)))

    @cached_property
    def image_of(self) -> NDArray[np.int64]:
        """Position of the row whose image serves each: its own, or of copies that of their particle.

        Copies whose image or CTF was made anew have their own.
        """
        own = np.arange(len(self))
        if self.copy_of is None:
            return own
        images, first = self.exposures, self.copy_of
        columns = [
            images.stack_index,
            images.frame,
            images.optics_group,
            *images.ctf.columns.values(),
        ]
        alike = np.all([each == each[first] for each in columns], axis=0)
        return np.where(alike, first, own)

    def digest(self) -> str:
        """blake2b (128 bit, as hex) over what a fit uses of the table; paths are left out."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr(self.optics.name).encode())
        images = self.exposures
        tables = [vars(part) for part in (self.optics, self.poses, images.ctf, images, self)]
        for name, values in ((n, v) for table in tables for n, v in table.items()):
            if isinstance(values, np.ndarray):
                digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def remarks(self) -> list[str]:
        """What was done on reading that the user should know, in plain sentences."""
        told = list(self.supposed)
        if self.found_elsewhere is not None:
            told.append(self.found_elsewhere.sentence())
        if self.copy_of is not None:
            told.append(
                f"The set is symmetry-expanded: {len(self):,} rows show {len(self.originals):,} particles. "
                "Every row is placed for itself; copies of a particle share its noise, stay in one "
                "half-set, and count as one particle in every test."
            )
        if self.symmetry_copies:
            told.append(
                f"The set is symmetry-expanded: {self.symmetry_copies:,} rows are copies of a particle "
                "in an earlier row, share its noise and were left out, as poses are ignored."
            )
        return told

    def select(self, index: NDArray[np.int64]) -> ParticleSet:
        """The particles at positions `index` (any order), identity kept."""
        copy_of = None
        if self.copy_of is not None:
            copy_of = first_of_each(self.copy_of[index])
            if np.array_equal(copy_of, np.arange(len(index))):
                copy_of = None
        return replace(
            self,
            copy_of=copy_of,
            row=self.row[index],
            uid=self.uid[index],
            poses=Poses(self.poses.rotation[index], self.poses.shift_angstrom[index]),
            exposures=self.exposures.of(index),
            halfset=self.halfset[index],
            picks=None if self.picks is None else self.picks.select(index),
        )
