"""`Exposures`: the images of particles. An ordinary stack has one a particle, a tilt series has many."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.optics import CtfParameters

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Exposures:
    """A table of M images of N particles, the images of a particle side by side.

    Attributes
    ----------
    particle : (M,) int64
        Which particle an image shows; rising, every particle at least once.
    optics_group : (M,) int64
        Index into the particles' `optics`.
    ctf : CtfParameters
    stack_index, frame : (M,) int64
        Image `frame` (zero-based) of the particles' `stacks[stack_index]`.
    tilt : (M, 3, 3) float64 or None
        Rotation from the frame of the image into that of its particle: the image samples the volume's
        transform at R·tilt·(kx, ky, 0), R the particle's rotation. None where all are the identity.
    shift_angstrom : (M, 2) float64 or None
        Shift (x, y) of each image of its own, besides what is seen in it of its particle's. None: no own.
    row : (M,) int64 or None
        Zero-based row of each image in the metadata file; None where that is its particle's.
    tilt_image : (M,) int64 or None
        Which exposure of its tilt series (tomogram and tilt) each image was cut from, numbered from 0; None
        where the file does not say.
    number : (M,) int64 or None
        Of the exposure in its tilt series, from 0 in the order of dose; None where doses are not known.
    defocus_offset_angstrom : (M,) float64 or None
        What `ctf` has of defocus for the height of the particle in its tomogram; None where that is unknown.
    sign : (M,) int8 or None
        1 or -1: by what pixels are to be multiplied so that all images have the same contrast.
        None where the file says the same of all its images, which tells nothing.
    contrast : (M,) float64 or None
        By what each image is stronger than `ctf` says, as a fit finds it; None for 1.
    """

    particle: Int64
    optics_group: Int64
    ctf: CtfParameters
    stack_index: Int64
    frame: Int64
    tilt: Float64 | None = None
    shift_angstrom: Float64 | None = None
    row: Int64 | None = None
    tilt_image: Int64 | None = None
    number: Int64 | None = None
    defocus_offset_angstrom: Float64 | None = None
    sign: NDArray[np.int8] | None = None
    contrast: Float64 | None = None

    @classmethod
    def one_each(
        cls,
        optics_group: Int64,
        ctf: CtfParameters,
        stack_index: Int64,
        frame: Int64,
        sign: NDArray[np.int8] | None = None,
    ) -> Exposures:
        """Of an ordinary stack: one image a particle."""
        return cls(np.arange(len(frame)), optics_group, ctf, stack_index, frame, sign=sign)

    def __len__(self) -> int:
        return len(self.particle)

    @property
    def are_single(self) -> bool:
        """Whether every particle has one image, which nothing turns or moves."""
        still = self.tilt is None and self.shift_angstrom is None
        return still and bool(np.array_equal(self.particle, np.arange(len(self))))

    @property
    def shift_axes(self) -> int:
        """Axes along which a particle may be moved: those of an image, and the beam if it was tilted."""
        return 2 if self.tilt is None else 3

    @property
    def tilt_images(self) -> int:
        """How many exposures of tilt series the images were cut from; as many as images if nobody says."""
        return len(self) if self.tilt_image is None else int(self.tilt_image.max()) + 1

    @property
    def signs_differ(self) -> bool:
        """Whether some images have the opposite contrast of others."""
        return self.sign is not None and bool(np.any(self.sign != self.sign[:1]))

    def of(self, index: Int64) -> Exposures:
        """Those of the particles at positions `index` (any order), which are counted anew."""
        if self.are_single:
            return self._at(index, np.arange(len(index)))
        place = self.places(index)
        count = self.counts()[index]
        return self._at(place, np.repeat(np.arange(len(index)), count))

    def counts(self) -> Int64:
        """Number of images of each particle, (N,)."""
        return np.bincount(self.particle).astype(np.int64)

    def places(self, index: Int64) -> Int64:
        """Positions of the images of the particles `index`, in their order."""
        count = self.counts()
        return ranges(np.cumsum(count)[index] - count[index], count[index])

    @property
    def first(self) -> Int64:
        """Position of each particle's first image, (N,)."""
        return np.flatnonzero(np.diff(self.particle, prepend=-1))

    def first_of(self, values: Int64) -> Int64:
        """Of values (M,) of the images those of each particle's first one, (N,)."""
        return values[self.first]

    def mean_of(self, values: Float64) -> Float64:
        """Of values (M,) of the images the mean of each particle's, (N,)."""
        return values if self.are_single else np.bincount(self.particle, values) / self.counts()

    @property
    def ctf_at_centre(self) -> CtfParameters:
        """CTFs of the images as of particles at the centre of their tomograms."""
        offset = self.defocus_offset_angstrom
        return self.ctf if offset is None else self.ctf.defocused(-offset)

    def rows(self, index: Int64) -> Exposures:
        """Some of the images; those of a particle need not be whole."""
        return self._at(index, self.particle[index])

    def moves(self, shift: Float64) -> Float64:
        """Shifts (M, 2) of the images, Å, from shifts (M, d) along axes of their particles' own frames."""
        seen = seen_shifts(shift, self.tilt)
        return seen if self.shift_angstrom is None else seen + self.shift_angstrom

    def common_moves(self) -> Float64:
        """Moves (N, 3) of the particles, Å, that explain what their images have of shifts of their own best.

        Without tilts, or shifts, there are none.
        """
        count = int(self.particle[-1]) + 1
        if self.tilt is None or self.shift_angstrom is None:
            return np.zeros((count, self.shift_axes))
        return common_moves(self.shift_angstrom, self.tilt, self.particle, count)

    def _at(self, place: Int64, particle: Int64) -> Exposures:
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        taken = {n: v[place] for n, v in columns.items() if isinstance(v, np.ndarray)}
        ctf = self.ctf.take(place)
        return Exposures(**{**columns, **taken, "ctf": ctf, "particle": particle})

    def refuse_several(
        self, what: str, remedy: str = "give a stack with one image a particle"
    ) -> None:
        """Raise InputError if a particle has several images, which `what` does not know."""
        if not self.are_single:
            raise InputError(
                f"{what} knows one image a particle, these have up to {self.counts().max()}",
                remedy=remedy,
            )


def seen_shifts(shift: Float64, tilt: Float64 | None) -> Float64:
    """What is seen, (M, 2), of shifts (M, d) along a particle's x, y, … in images tilted by (M, 3, 3)."""
    if tilt is None:
        return shift
    return np.einsum("mji,mj->mi", tilt[:, : shift.shape[1], :2], shift)


def common_moves(shift: Float64, tilt: Float64, particle: Int64, count: int) -> Float64:
    """Moves (N, 3) of particles of which is seen in their images what explains shifts of these best.

    By least squares; along the beam of a particle that was not tilted nothing is seen, and it stays.

    Parameters
    ----------
    shift : (M, 2)
    tilt : (M, 3, 3)
        As in `Exposures`.
    particle : (M,)
        Which particle an image shows, 0 to `count` - 1.
    count : int
        N.
    """
    axes = tilt[:, :, :2]
    normal, score = np.zeros((count, 3, 3)), np.zeros((count, 3))
    np.add.at(normal, particle, axes @ axes.transpose(0, 2, 1))
    np.add.at(score, particle, np.einsum("mij,mj->mi", axes, shift))
    inverse = np.linalg.pinv(normal, hermitian=True)
    return np.einsum("nij,nj->ni", inverse, score)


def ranges(start: Int64, count: Int64) -> Int64:
    """The whole numbers start … start + count - 1 of every pair, one after the other."""
    first = np.cumsum(count) - count
    return np.arange(int(count.sum())) + np.repeat(start - first, count)
