"""The estimator's only view of the images: whitened, re-centred pixels of the half disc.

Data and CTF of each pixel are divided by the noise amplitude and multiplied by √w, w the pixel's weight
in the half-plane inner product. The noise then has unit variance per real number and every inner product
is a plain sum: neither this weight nor any σ² appears anywhere below this module.

Pixels are kept in units of the noise as it was first estimated. Another noise model, other poses, weights of
the particles or the other sign make another `WhitenedImages` of the same pixels, applied as they are read.
An image of weight w counts in every sum as one with 1/w of the noise power: one of weight 0 says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.grouping import Grouping, Hypotheses
from solvar.estimation.image_batch import ImageBatch, frames_of
from solvar.estimation.noise import NoiseModel
from solvar.estimation.pixels import Pixels
from solvar.imaging.fourier import HalfDisc, centring_phase
from solvar.imaging.grid import per_image
from solvar.parallel import Array, Processes
from solvar.particles.exposures import ranges, seen_shifts
from solvar.threads import ThreadTeam, prefetched

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CHUNK = 512
_BELIEVED = 0.5


def believed(weight: Float64, index: Int64) -> Int64:
    """Those of some particles that weigh more than one half, of weights (N,); all if none does."""
    return index[kept] if (kept := weight[index] >= _BELIEVED).any() else index


@dataclass(frozen=True, eq=False)
class ImageStore:
    """Images of the particles that this process owns, of N, as they were read and whitened once.

    Attributes
    ----------
    disc : HalfDisc
        n pixels up to the finest band; a coarser band uses the first ones.
    box : int
        Edge of the images in pixels.
    pixel_size_angstrom : float
    pixels : Pixels
        Of the M images of its particles, whitened by `reference`.
    ctf_power : (M, k_c + 1) float32
        Of each image, see `ImageBatch`.
    group : (M,) int64
        Optics group of each image.
    noise_group : (M,) int64
        Which of `NoiseGroups`; those of an ordinary stack are its optics groups.
    reference : NoiseModel
        What the pixels were whitened by.
    doubted : (n,) bool
        Pixels that are believed to be noisier than that, for what was taken out of the images.
    first : (N,) int64
        The first of a particle's images among those of this process, or -1.
    count : (N,) int64 or None
        Images of each particle; None where all have one.
    tilt : (M, 3, 3) float64 or None
        As in `Exposures`.
    tilt_image : (M,) int64 or None
        As in `Exposures`; where the file does not say, each image's own number. None without `tilt`.
    processes : Processes
    stretch : (G, 2, 2) float64 or None
        Of the optics groups, see `CommonGrid`; None for identities.
    image_extent_angstrom : (G,) float64 or None
        Edges of the images of the optics groups, where they differ from the box's.
    """

    disc: HalfDisc
    box: int
    pixel_size_angstrom: float
    pixels: Pixels
    ctf_power: Float32
    group: Int64
    noise_group: Int64
    reference: NoiseModel
    doubted: NDArray[np.bool_]
    first: Int64
    count: Int64 | None
    tilt: Float64 | None
    processes: Processes
    tilt_image: Int64 | None = None
    stretch: Float64 | None = None
    image_extent_angstrom: Float64 | None = None

    @property
    def extent_angstrom(self) -> float:
        """Edge of the box in Å."""
        return self.box * self.pixel_size_angstrom

    @property
    def image_extents(self) -> float | Float64:
        """Edges of the images in Å: a number, or (G,) where those of optics groups differ."""
        extents = self.image_extent_angstrom
        return self.extent_angstrom if extents is None else extents

    def shift_unit(self, group: Int64) -> float | Float64:
        """Å in one box length of images of these optics groups (N,): a number, or (N, 1)."""
        return per_image(self.image_extents, group)

    @cached_property
    def longest(self) -> float:
        """By how much frames lengthen a vector (kx, ky) at most, 1 or more."""
        if self.stretch is None:
            return 1.0
        return max(1.0, float(np.linalg.svd(self.stretch, compute_uv=False).max()))

    @cached_property
    def radius(self) -> Float32:
        """Length in the volume of the pixels of each optics group, (G, n); not without `stretch`."""
        assert self.stretch is not None
        position = self.stretch @ np.stack([self.disc.kx, self.disc.ky]).astype(np.float64)
        return np.hypot(position[:, 0], position[:, 1]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class WhitenedImages:
    """Whitened half-disc pixels of N particles under a noise model, at poses, with a sign.

    Attributes
    ----------
    store : ImageStore
    noise : NoiseModel
        What images are whitened by.
    rotation : (N, 3, 3) float64
    shift : (N, d) float64
        By how much particles are moved beyond their first poses, box lengths: along x and y, and where they
        were tilted along z too.
    inverted : bool
        Whether the sign of the pixels is turned around.
    hypotheses : Hypotheses or None
        Several weighted poses a particle, in place of `rotation` and `shift`.
    operations : (n, 3, 3) float64 or None
        Rotations of a point group: every particle is seen at all its equivalent poses, of equal weight.
    tilt_shift : (K, 2) float64 or None
        By how much the images of each exposure of tilt series are moved besides, box lengths; None for 0.
    weight : (N,) float64 or None
        Of each particle in every sum, 0 to 1; None where all are 1.
    contrast : (M,) float32 or None
        Of each stored image, beyond what its CTF says: this is multiplied by it. None for 1.
    """

    store: ImageStore
    noise: NoiseModel
    rotation: Float64
    shift: Float64
    inverted: bool = False
    hypotheses: Hypotheses | None = None
    weight: Float64 | None = None
    operations: Float64 | None = None
    tilt_shift: Float64 | None = None
    contrast: Float32 | None = None

    def __len__(self) -> int:
        return len(self.rotation)

    @property
    def disc(self) -> HalfDisc:
        """n pixels up to the finest band."""
        return self.store.disc

    @property
    def box(self) -> int:
        """Edge of the images in pixels."""
        return self.store.box

    @property
    def processes(self) -> Processes:
        """Who share the particles."""
        return self.store.processes

    @cached_property
    def _factor(self) -> Float32 | None:
        """What stored pixels of each group of noise are multiplied by, (G, n); None for 1."""
        if self.noise.is_same(self.store.reference):
            return None
        before, now = self.store.reference.power, self.noise.power
        shell = self.disc.shell
        return np.sqrt(before[:, shell] / now[:, shell]).astype(np.float32)

    @cached_property
    def _power_ratio(self) -> Float32:
        """The same for the CTF powers of shells, (G, k_c + 1)."""
        shells = slice(0, self.disc.k_c + 1)
        ratio = self.store.reference.power[:, shells] / self.noise.power[:, shells]
        return ratio.astype(np.float32)

    @cached_property
    def _moved(self) -> bool:
        shift = self.shift if self.hypotheses is None else self.hypotheses.shift
        return bool(shift.any()) or self.tilt_shift is not None

    def _moves(self, shift: Float64, tilt: Float64 | None, row: Int64) -> Float64:
        """Shifts (R, 2) of stored images whose particles are moved by (R, d)."""
        seen = seen_shifts(shift, tilt)
        if self.tilt_shift is None:
            return seen
        assert self.store.tilt_image is not None
        return seen + self.tilt_shift[self.store.tilt_image[row]]

    def batches(
        self, index: Int64, disc: HalfDisc, size: int = CHUNK, team: ThreadTeam | None = None
    ) -> Iterator[ImageBatch]:
        """The images of the particles `index` that this process owns, in their order, about `size` at a time.

        Of their pixels, those of `disc`, a prefix of the images' own.

        The next batch is read while the caller works on one, where pixels lie on disk. A team shares out what
        is done with the pixels of a batch.
        """
        place = self.owned(index)
        each = max(1, size // self.images_a_particle)
        parts = [place[start : start + each] for start in range(0, len(place), each)]

        def load(part: Int64) -> ImageBatch:
            return self._load(part, index[part], disc, team)

        return prefetched(load, parts) if self.store.pixels.is_slow else map(load, parts)

    def owned(self, index: Int64) -> Int64:
        """Where the particles that this process owns stand among `index`, ascending."""
        return np.flatnonzero(self.store.first[index] >= 0)

    @cached_property
    def images_a_particle(self) -> int:
        """The most images that a particle has at all its poses."""
        several = 1 if self.store.count is None else int(self.store.count.max())
        several *= 1 if self.operations is None else len(self.operations)
        return several * (1 if self.hypotheses is None else self.hypotheses.log_weight.shape[1])

    def batch(self, index: Int64, disc: HalfDisc) -> ImageBatch:
        """The images of some particles, all of which this process owns."""
        return self._load(np.arange(len(index)), index, disc)

    def _load(
        self, place: Int64, index: Int64, disc: HalfDisc, team: ThreadTeam | None = None
    ) -> ImageBatch:
        rotation, shift, row, grouping = self._posed_rows(index)
        weight, each = None if self.weight is None else self.weight[index], None
        if weight is not None:
            each = weight if grouping is None else weight[grouping.particle_of_image]
        tilt = None if self.store.tilt is None else self.store.tilt[row]
        moves = self._moves(shift, tilt, row) if self._moved else None
        data, ctf = self._pixels(row, disc, each, moves, team or ThreadTeam(1))
        power = self._power(row, each)
        if grouping is not None:
            # the same at every pose of a particle: its first one will do
            power = grouping.sum_by_pose(power)[grouping.first_poses]
        stretch = None
        if self.store.stretch is not None:
            stretch = self.store.stretch[self.store.group[row]]
        frame = frames_of(rotation, tilt, stretch)
        return ImageBatch(
            place, index, row, data, ctf, power, frame, tilt, grouping, stretch, weight
        )

    def _power(self, row: Int64, weight: Float64 | None) -> Float32:
        """CTF powers (R, k_c + 1) of stored images of these weights."""
        power = self.store.ctf_power[row]
        if self._factor is not None:
            power = power * self._power_ratio[self.store.noise_group[row]]
        if self.contrast is not None:
            power = power * self.contrast[row, None] ** 2
        if weight is not None:
            power = power * weight[:, None].astype(np.float32)
        return power

    def _pixels(
        self,
        row: Int64,
        disc: HalfDisc,
        weight: Float64 | None,
        moves: Float64 | None,
        team: ThreadTeam,
    ) -> tuple[Complex64, Float32]:
        """Data and CTF (R, n) of stored images of these weights (R,), moved by (R, 2)."""
        pixels, count = self.store.pixels, len(disc)
        shape = len(row), count
        if pixels.is_slow:
            data, ctf = pixels.read(row, count)
        else:
            data, ctf = np.empty(shape, np.complex64), np.empty(shape, np.float32)

        def some(first: int, last: int) -> None:
            here = slice(first, last)
            if not pixels.is_slow:
                data[here], ctf[here] = pixels.read(row[here], count)
            self._change(data[here], ctf[here], row[here], disc)
            if weight is not None:
                _weigh(data[here], ctf[here], weight[here])
            if moves is not None:
                data[here] *= centring_phase(disc, moves[here])

        team.over_items(len(row), count, some)
        return data, ctf

    def _change(self, data: Complex64, ctf: Float32, row: Int64, disc: HalfDisc) -> None:
        """Bring stored pixels (R, n) to this noise, contrast and sign, in place."""
        if self._factor is not None:
            factor = self._factor[self.store.noise_group[row], : len(disc)]
            ctf *= factor
            real = data.view(np.float32).reshape(*data.shape, 2)
            real *= factor[:, :, None]
        if self.contrast is not None:
            ctf *= self.contrast[row, None]
        if self.inverted:
            np.negative(data, out=data)
        if self.store.stretch is not None:
            # a volume ends at k_c: what a stretched image has beyond it is left out
            inside = self.store.radius[self.store.group[row], : len(disc)] <= disc.k_c
            data *= inside
            ctf *= inside

    def _posed_rows(self, index: Int64) -> tuple[Float64, Float64, Int64, Grouping | None]:
        """Rotation (R, 3, 3), shift (R, d) and row of images of particles, and how they belong together."""
        store, poses, operations = self.store, self.hypotheses, self.operations
        if store.count is None and poses is None and operations is None:
            return self.rotation[index], self.shift[index], store.first[index], None
        if operations is not None:
            particle = np.repeat(np.arange(len(index)), len(operations))
            rotation = (operations @ self.rotation[index][:, None]).reshape(-1, 3, 3)
            shift, log_weight = self.shift[index[particle]], np.zeros(len(particle))
        elif poses is None:
            particle, log_weight = np.arange(len(index)), np.zeros(len(index))
            rotation, shift = self.rotation[index], self.shift[index]
        else:
            particle, number = np.nonzero(poses.log_weight[index] > -np.inf)
            chosen = index[particle], number
            rotation, shift = poses.rotation[chosen], poses.shift[chosen]
            log_weight = poses.log_weight[chosen]
        count = np.ones_like(particle) if store.count is None else store.count[index[particle]]
        pose = np.repeat(np.arange(len(particle)), count)
        row = ranges(store.first[index[particle]], count)
        return rotation[pose], shift[pose], row, Grouping(pose, particle, log_weight)

    def posed(self, rotation: Float64, shift: Float64) -> WhitenedImages:
        """The same images at rotations (N, 3, 3), moved by (N, d) box lengths beyond their first poses."""
        return replace(self, rotation=rotation, shift=shift, hypotheses=None)

    def tilt_images_moved(self, shift: Float64) -> WhitenedImages:
        """The same images, those of each exposure of tilt series moved by (K, 2) box lengths."""
        return replace(self, tilt_shift=shift)

    def of_contrast(self, contrast: Float64 | None) -> WhitenedImages:
        """The same stored images, of contrasts (M,)."""
        return replace(self, contrast=None if contrast is None else contrast.astype(np.float32))

    def weighted(self, weight: Float64) -> WhitenedImages:
        """The same images, particles weighted by (N,) in every sum."""
        return replace(self, weight=None if (weight == 1).all() else weight)

    def believed(self, index: Int64) -> Int64:
        """Those of some particles whose images show one more likely than not; all if none does."""
        return index if self.weight is None else believed(self.weight, index)

    def total_weight(self, index: Int64) -> float:
        """Of some particles: their number where all weights are 1."""
        return float(len(index)) if self.weight is None else float(self.weight[index].sum())

    def at_equivalent_poses(self, operations: Float64) -> WhitenedImages:
        """The same images, every particle at all poses that rotations (n, 3, 3) of a group make alike."""
        return replace(self, operations=operations, hypotheses=None)

    def supposed(self, hypotheses: Hypotheses) -> WhitenedImages:
        """The same images at several weighted poses each."""
        return replace(self, hypotheses=hypotheses)

    def shared(self, values: Array) -> Array:
        """Values a particle (N, …), each as the process that owns the particle has it."""
        if self.processes.size == 1:
            return values
        own = np.zeros_like(values)
        mine = self.store.first >= 0
        own[mine] = values[mine]
        return self.processes.sum(own)


def _weigh(data: Complex64, ctf: Float32, weight: Float64) -> None:
    """Multiply data and CTF (R, n) of images by the roots of their weights (R,), in place."""
    root = np.sqrt(weight).astype(np.float32)[:, None]
    data *= root
    ctf *= root
