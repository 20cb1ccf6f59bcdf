"""The images of a particle set, read from many stacks as if they were one array."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from solvar.errors import InputError
from solvar.files import neighbours, open_regular, read_at
from solvar.imaging.grid import have_several_sizes
from solvar.imaging.optics import Optics
from solvar.mrc_header import MrcHeader, read_mrc_header
from solvar.particles.particle_set import ParticleSet

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_OPEN_STACKS = 64
# Images that tell the size of pixels, and the power of two from which on it matters.
_SAMPLE = 16
_NEAR_ONE = 20
# Images of each size that tell its noise, to 1 % or so.
_NOISE_SAMPLE = 256


class ImageStack:
    """The images of `particles` in the order of their exposures; nothing is read before `read`.

    Where optics groups differ in pixel size or box, images are cropped around their centre to what all have
    and Fourier-cropped to one box (`CommonGrid`). Grey levels have no common unit then: every program that
    extracts particles normalises them to their noise. So the noise is the unit: images of each size are
    multiplied by one number, such that on the common grid their corners vary as much as those of the
    coarsest ones, which stay as they are. What remains, if the dose was another one, is contrast.

    At most 64 stacks are open at a time; threads may share one `ImageStack`.

    Parameters
    ----------
    particles : ParticleSet
    box_size : int, optional
        Fourier-crop the images to this edge; the edge on disk by default.
    factor : float
        What every pixel is multiplied by.

    Raises
    ------
    InputError
        On construction (headers only) if a stack is missing, truncated, not square, of another
        size than its optics group says, or has too few images.
    """

    def __init__(
        self, particles: ParticleSet, box_size: int | None = None, factor: float = 1.0
    ) -> None:
        self._particles, self.factor = particles, factor
        self._size = _sizes(particles.optics)
        self._box_size = particles.box_size if box_size is None else int(box_size)
        if not 2 <= self._box_size <= particles.box_size:
            raise InputError(
                f"images of {particles.box_size} pixels cannot be downsampled to {box_size}",
                remedy=f"choose a box size from 2 to {particles.box_size}",
            )
        self._headers = _checked_headers(particles)
        self._files: OrderedDict[int, BinaryIO] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._particles.exposures)

    @property
    def box_size(self) -> int:
        """Edge D of the images that `read` returns, pixels."""
        return self._box_size

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the images that `read` returns, Å: L·apix/D."""
        return self._particles.pixel_size_angstrom * self._particles.box_size / self._box_size

    @property
    def extent_angstrom(self) -> float | Float64:
        """Edge of these images, Å; (G,) where optics groups differ."""
        extent = self._particles.grid.extent_angstrom
        return self.box_size * self.pixel_size_angstrom if isinstance(extent, float) else extent

    def read(self, index: ArrayLike) -> Float32:
        """The images at positions `index` among the exposures, in that order.

        Parameters
        ----------
        index : (B,) int array-like

        Returns
        -------
        (B, D, D) float32
            [image, y, x]; see `downsample` for the scale when D < L.

        Raises
        ------
        InputError
            If an image holds NaN or infinity, or is constant.
        """
        index = np.asarray(index, dtype=np.int64)
        if not self._size.any():
            return self.brought(self.recorded(index), index)
        images = np.empty((len(index), self._box_size, self._box_size), dtype=np.float32)
        for some in self.by_size(index):
            images[some] = self.brought(self.recorded(index[some]), index[some])
        return images

    def by_size(self, index: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Which of the images at positions `index` share pixel size and box: places in `index`, rising."""
        size = self._size[self._particles.exposures.optics_group[index]]
        return [np.flatnonzero(size == one) for one in np.unique(size)]

    def recorded(self, index: NDArray[np.int64]) -> Float32:
        """Images of one size as they are on disk, (B, L, L); see `read`.

        Raises
        ------
        InputError
            As `read`.
        """
        images = self._whole(index)
        self._refuse_broken(images, index)
        return images

    def gain(self, index: NDArray[np.int64]) -> float:
        """What pixels of images of one size at positions `index` are multiplied by."""
        if not self._size.any() or not len(index):
            return self.factor
        size = self._size[self._particles.exposures.optics_group[index[0]]]
        return self.factor * float(self._gain[size])

    def brought(self, images: Float32, index: NDArray[np.int64]) -> Float32:
        """Images (B, L, L) of one size, as they are on disk, on the common grid; they may change in place."""
        factor = self.gain(index)
        if factor != 1:
            images *= np.float32(factor)
        return self._cropped(images, index)

    def _cropped(self, images: Float32, index: NDArray[np.int64]) -> Float32:
        if len(index):
            kept = int(self._particles.grid.kept[self._particles.exposures.optics_group[index[0]]])
            first = images.shape[-1] // 2 - kept // 2
            images = images[:, first : first + kept, first : first + kept]
        return images if self._box_size == images.shape[-1] else downsample(images, self._box_size)

    @cached_property
    def _gain(self) -> Float64:
        """What images of each size are multiplied by, so that all have the same noise on the common grid."""
        particles, level = self._particles, np.full(int(self._size.max()) + 1, np.nan)
        axis = np.arange(self._box_size) - self._box_size // 2
        corner = np.hypot(axis[:, None], axis) >= self._box_size / 2
        size = self._size[particles.exposures.optics_group]
        for one in range(len(level)):
            members = np.flatnonzero(size == one)
            if not len(members):
                continue
            few = np.linspace(0, len(members) - 1, min(len(members), _NOISE_SAMPLE))
            some = members[few.astype(np.int64)]
            with np.errstate(invalid="ignore", over="ignore"):
                noise = self._cropped(self._whole(some), some)[:, corner].astype(np.float64)
                spread = noise.std(axis=1)
            # what is wrong with the others is told when they are asked for
            good = np.isfinite(spread) & (spread > 0)
            level[one] = np.median(spread[good]) if good.any() else np.nan
        known = level[np.isfinite(level)]
        # size 0 is the coarsest; where none of its images are left, the next one stands in
        gain = known[0] / level if len(known) else level
        return np.where(np.isfinite(gain), gain, 1.0)

    def _whole(self, index: NDArray[np.int64]) -> Float32:
        """Images of one size as they are on disk."""
        exposures = self._particles.exposures
        stack, frame = exposures.stack_index[index], exposures.frame[index]
        group = exposures.optics_group[index[:1]]
        side = int(self._particles.optics.box_size[group[0] if len(group) else 0])
        images = np.empty((len(index), side, side), dtype=np.float32)
        # one visit per stack, frames in file order: a disk and its cache like nothing better
        order = np.lexsort((frame, stack))
        starts = np.flatnonzero(np.diff(stack[order], prepend=-1))
        for part in np.split(order, starts[1:]) if len(order) else []:
            images[part] = self._frames(int(stack[part[0]]), frame[part])
        return images

    def brought_near_one(self) -> ImageStack:
        """The same images, multiplied by a power of two if their pixels are far from 1.

        Single precision holds neither the squares nor the inverses of pixels of 1e-18 or 1e30. Ordinary
        images are left as they are, to the last bit.

        Raises
        ------
        InputError
            As `read`.
        """
        few = np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(np.int64)
        whole = self._changed(self._particles.box_size, 1.0).read(few).astype(np.float64)
        spread = float(np.median(whole.std(axis=(1, 2))))
        if not 0 < spread < np.inf:
            return self  # what is wrong with them is told where they are whitened
        power = int(np.round(np.log2(spread)))
        if abs(power) <= _NEAR_ONE:
            return self
        # beyond that a factor is no number of single precision
        factor = 2.0 ** -np.clip(power, -126, 126)
        return self._changed(self._box_size, float(factor))

    def _changed(self, box_size: int, factor: float) -> ImageStack:
        """The same images of another edge, multiplied by another number; no header is read again."""
        other = copy(self)
        other.__dict__.pop("_gain", None)  # of images of that edge
        other._box_size, other.factor = box_size, factor
        return other

    def _frames(self, stack: int, frame: NDArray[np.int64]) -> NDArray[Any]:
        """Images of one stack, (B, L, L), in its own number type; `frame` rises."""
        header, file = self._headers[stack], self._open(stack)
        found = np.empty((len(frame), *header.shape[1:]), dtype=header.dtype)
        for first, last in neighbours(frame):
            place = header.offset + int(frame[first]) * found[0].nbytes
            try:
                read_at(file.fileno(), found[first:last], place)
            except EOFError:
                raise InputError(
                    "has become shorter while it was read", file=self._particles.stacks[stack]
                ) from None
        return found

    def _open(self, stack: int) -> BinaryIO:
        """The file of a stack; the least recently used one makes room for it."""
        with self._lock:
            if stack not in self._files:
                self._files[stack] = open_regular(self._particles.stacks[stack])
                # closed when the last thread that reads from it lets go
                while len(self._files) > _OPEN_STACKS:
                    self._files.popitem(last=False)
            self._files.move_to_end(stack)
            return self._files[stack]

    def _refuse_broken(self, images: Float32, index: NDArray[np.int64]) -> None:
        # NaN passes through max and min, and infinity makes the difference infinite or NaN
        with np.errstate(invalid="ignore", over="ignore"):
            spread = images.max(axis=(1, 2)) - images.min(axis=(1, 2))
        broken = np.flatnonzero(~(np.isfinite(spread) & (spread > 0)))
        if not len(broken):
            return
        particles, position = self._particles, index[broken[0]]
        problem = "is constant" if spread[broken[0]] == 0 else "holds NaN or infinite pixels"
        row = f"row {particles.image_row[position] + 1} of {particles.source}"
        raise InputError(
            f"image {particles.exposures.frame[position] + 1} {problem} ({row})",
            file=particles.stacks[particles.exposures.stack_index[position]],
            remedy="remove that row from the particle file, or leave it out with --ind",
        )


def downsample(images: Float32, box_size: int) -> Float32:
    """Fourier-crop images so that their centred, unnormalised Fourier coefficients do not change.

    Both grids have their origin at index edge // 2, for even and odd edges. The *sum* of an image
    is preserved, so pixel values grow by (L/D)²: projections stay sums along the beam of a volume
    on the coarser grid. (At D's Nyquist frequency, which nothing uses, only the real part of the
    coefficients along kx survives.)

    Parameters
    ----------
    images : (..., L, L) float32
    box_size : int
        D ≤ L.

    Returns
    -------
    (..., D, D) float32
    """
    from scipy import fft

    side = images.shape[-1]
    transform = fft.rfft2(np.fft.ifftshift(images, axes=(-2, -1)))
    low, high = (box_size + 1) // 2, box_size // 2
    rows = np.r_[0:low, side - high : side]
    cropped = np.ascontiguousarray(transform[..., rows, : box_size // 2 + 1])
    small = fft.irfft2(cropped, s=(box_size, box_size))
    return np.fft.fftshift(small, axes=(-2, -1)).astype(np.float32, copy=False)


def _sizes(optics: Optics) -> NDArray[np.int64]:
    """Number of each optics group's pixel size and box, the coarsest first; all 0 where they are alike."""
    if not have_several_sizes(optics):
        return np.zeros(len(optics.name), dtype=np.int64)
    sizes = np.stack([-optics.pixel_size_angstrom, optics.box_size], axis=1)
    number = np.unique(sizes, axis=0, return_inverse=True)[1]
    return number.reshape(-1).astype(np.int64)


def _checked_headers(particles: ParticleSet) -> dict[int, MrcHeader]:
    """Headers of the stacks in use, all of them consistent with the table."""
    used = np.unique(particles.exposures.stack_index)
    headers = {int(s): read_mrc_header(particles.stacks[s]) for s in used}
    depth = np.zeros(len(particles.stacks), dtype=np.int64)
    side = np.zeros(len(particles.stacks), dtype=np.int64)
    for stack, header in headers.items():
        depth[stack], side[stack] = header.shape[0], header.shape[1]
        if header.shape[1] != header.shape[2]:
            raise InputError(
                f"images are not square ({header.shape[2]} × {header.shape[1]} pixels)",
                file=particles.stacks[stack],
                remedy="extract the particles in a square box",
            )
    _refuse_other_box(particles, side)
    _refuse_missing_frames(particles, depth)
    return headers


def _refuse_other_box(particles: ParticleSet, side: NDArray[np.int64]) -> None:
    images = particles.exposures
    promised = particles.optics.box_size[images.optics_group]
    wrong = np.flatnonzero(side[images.stack_index] != promised)
    if not len(wrong):
        return
    position = wrong[0]
    stack: Path = particles.stacks[images.stack_index[position]]
    group = particles.optics.name[images.optics_group[position]]
    raise InputError(
        f"box size is {promised[position]} pixels in optics group {group}, "
        f"but {side[images.stack_index[position]]} in {stack}",
        file=particles.source,
        row=int(particles.image_row[position]),
        remedy="use the stack that belongs to this file; a downsampled copy has its own metadata",
    )


def _refuse_missing_frames(particles: ParticleSet, depth: NDArray[np.int64]) -> None:
    images = particles.exposures
    available = depth[images.stack_index]
    wrong = np.flatnonzero((images.frame >= available) | (images.frame < 0))
    if not len(wrong):
        return
    position = wrong[0]
    raise InputError(
        f"image {images.frame[position] + 1} is asked for, but "
        f"{particles.stacks[images.stack_index[position]]} holds {available[position]}",
        file=particles.source,
        row=int(particles.image_row[position]),
        remedy="use the stack that belongs to this file, or extract it again",
    )
