"""The estimator's only view of the images: whitened, re-centred pixels of the half disc.

Data and CTF of each pixel are divided by the noise amplitude and multiplied by √w, w the pixel's weight
in the half-plane inner product. The noise then has unit variance per real number and every inner product
is a plain sum: no weight and no σ² appears anywhere below this module.

Pixels are kept in units of the noise as it was first estimated. Another noise model, other poses or the other
sign make another `WhitenedImages` of the same pixels, applied as they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.finite import require_finite_images
from solvar.estimation.grouping import Grouping
from solvar.estimation.noise import NoiseModel
from solvar.estimation.pixels import Pixels
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc, centring_phase, images_to_disc
from solvar.parallel import Array, OneProcess, Processes, dealt
from solvar.particles import Exposures, ImageStack, ParticleSet
from solvar.particles.exposures import ranges
from solvar.progress import Progress
from solvar.threads import ThreadTeam, prefetched

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CHUNK = 512


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Whitened images of B particles: R of them, and R = B for ordinary stacks and poses.

    Attributes
    ----------
    place : (B,) int64
        Where the particles stand among those that were asked for.
    index : (B,) int64
        Which particles they are.
    row : (R,) int64
        Which of the stored images they are.
    data : (R, n) complex64
    ctf : (R, n) float32
    ctf_power : (B, k_c + 1) float32
        Σ ctf² over the pixels of each shell of a particle's images: what they say about a shell.
    frame : (R, 3, 2) float32
        Pixel (kx, ky) samples the volume's transform at frame·(kx, ky).
    tilt : (R, 3, 3) float64 or None
        Rotation of the image's frame into its particle's; None where all are the identity.
    grouping : Grouping or None
        Where a particle has several images or poses.
    """

    place: Int64
    index: Int64
    row: Int64
    data: Complex64
    ctf: Float32
    ctf_power: Float32
    frame: Float32
    tilt: Float64 | None = None
    grouping: Grouping | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def particle(self) -> Int64:
        """Which particle each image shows, (R,)."""
        return self.index if self.grouping is None else self.index[self.grouping.particle_of_image]

    @property
    def index_of_poses(self) -> Int64:
        """Which particle each pose is one of, (Q,)."""
        return self.index if self.grouping is None else self.index[self.grouping.particle]

    def weighted(self, values: Float32 | Complex64) -> Any:
        """Values of the images (R, …) times the prior weights of their poses."""
        if self.grouping is None or not self.grouping.is_uncertain:
            return values
        weight = self.grouping.prior_weight[self.grouping.pose].astype(np.float32)
        return values * weight.reshape(-1, *[1] * (values.ndim - 1))

    def per_image(self, values: Float64) -> Float64:
        """Values of the particles (B, …) for each of their images, (R, …)."""
        return values if self.grouping is None else values[self.grouping.particle_of_image]

    def frames(self, rotation: Float64) -> Float32:
        """The frames (R, 3, 2) that other rotations (B, 3, 3) of the particles would have."""
        turned = self.per_image(rotation)
        return frames_of(turned if self.tilt is None else turned @ self.tilt)

    def moves(self, shift: Float64) -> Float64:
        """Shifts (R, 2) of the images when particles are moved by (B, 2) in their own frame's x and y."""
        moved = self.per_image(shift)
        if self.tilt is None:
            return moved
        return np.einsum("rji,rj->ri", self.tilt[:, :2, :2], moved)


def frames_of(rotation: Float64) -> Float32:
    """Frames (B, 3, 2) float32 of rotations (B, 3, 3)."""
    return np.ascontiguousarray(rotation[:, :, :2], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """K weighted poses of each of N particles.

    Attributes
    ----------
    rotation : (N, K, 3, 3) float64
    shift : (N, K, 2) float64
        By how much images are moved beyond their first poses, box lengths.
    log_weight : (N, K) float64
        Log prior weight; -inf leaves a pose out, each particle keeps at least one.
    """

    rotation: Float64
    shift: Float64
    log_weight: Float64


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
    reference : NoiseModel
        What the pixels were whitened by.
    first : (N,) int64
        The first of a particle's images among those of this process, or -1.
    count : (N,) int64 or None
        Images of each particle; None where all have one.
    tilt : (M, 3, 3) float64 or None
        As in `Exposures`.
    processes : Processes
    """

    disc: HalfDisc
    box: int
    pixel_size_angstrom: float
    pixels: Pixels
    ctf_power: Float32
    group: Int64
    reference: NoiseModel
    first: Int64
    count: Int64 | None
    tilt: Float64 | None
    processes: Processes

    @property
    def extent_angstrom(self) -> float:
        """Edge of the box in Å."""
        return self.box * self.pixel_size_angstrom


@dataclass(frozen=True, eq=False)
class WhitenedImages:
    """Whitened half-disc pixels of N particles under a noise model, at poses, with a sign.

    Attributes
    ----------
    store : ImageStore
    noise : NoiseModel
        What images are whitened by.
    rotation : (N, 3, 3) float64
    shift : (N, 2) float64
        By how much images are moved beyond their first poses, box lengths.
    inverted : bool
        Whether the sign of the pixels is turned around.
    hypotheses : Hypotheses or None
        Several weighted poses a particle, in place of `rotation` and `shift`.
    """

    store: ImageStore
    noise: NoiseModel
    rotation: Float64
    shift: Float64
    inverted: bool = False
    hypotheses: Hypotheses | None = None

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
        """What stored pixels of each optics group are multiplied by, (G, n); None for 1."""
        if self.noise is self.store.reference:
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
        return bool(shift.any())

    def batches(self, index: Int64, disc: HalfDisc, size: int = CHUNK) -> Iterator[ImageBatch]:
        """The images of the particles `index` that this process owns, in their order, about `size` at a time.

        Of their pixels, those of `disc`, a prefix of the images' own.

        The next batch is read while the caller works on one, where pixels lie on disk.
        """
        place = np.flatnonzero(self.store.first[index] >= 0)
        each = max(1, size // self._images_a_particle)
        parts = [place[start : start + each] for start in range(0, len(place), each)]

        def load(part: Int64) -> ImageBatch:
            return self._load(part, index[part], disc)

        return prefetched(load, parts) if self.store.pixels.is_slow else map(load, parts)

    @cached_property
    def _images_a_particle(self) -> int:
        """The most images that a particle has at all its poses."""
        several = 1 if self.store.count is None else int(self.store.count.max())
        return several * (1 if self.hypotheses is None else self.hypotheses.log_weight.shape[1])

    def batch(self, index: Int64, disc: HalfDisc) -> ImageBatch:
        """The images of some particles, all of which this process owns."""
        return self._load(np.arange(len(index)), index, disc)

    def _load(self, place: Int64, index: Int64, disc: HalfDisc) -> ImageBatch:
        rotation, shift, row, grouping = self._posed_rows(index)
        data, ctf = self.store.pixels.read(row, len(disc))
        power = self.store.ctf_power[row]
        if self._factor is not None:
            group = self.store.group[row]
            factor = self._factor[group, : len(disc)]
            ctf *= factor
            real = data.view(np.float32).reshape(*data.shape, 2)
            real *= factor[:, :, None]
            power = power * self._power_ratio[group]
        if self.inverted:
            np.negative(data, out=data)
        tilt = None if self.store.tilt is None else self.store.tilt[row]
        if self._moved:
            if tilt is not None:
                shift = np.einsum("rji,rj->ri", tilt[:, :2, :2], shift)
            data *= centring_phase(disc, shift)
        if grouping is not None:
            # the same at every pose of a particle: its first one will do
            power = grouping.sum_by_pose(power)[grouping.first_poses]
        frame = frames_of(rotation if tilt is None else rotation @ tilt)
        return ImageBatch(place, index, row, data, ctf, power, frame, tilt, grouping)

    def _posed_rows(self, index: Int64) -> tuple[Float64, Float64, Int64, Grouping | None]:
        """Rotation (R, 3, 3), shift (R, 2) and row of images of particles, and how they belong together."""
        store, poses = self.store, self.hypotheses
        if store.count is None and poses is None:
            return self.rotation[index], self.shift[index], store.first[index], None
        if poses is None:
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
        """The same images at rotations (N, 3, 3), moved by (N, 2) box lengths beyond their first poses."""
        return replace(self, rotation=rotation, shift=shift, hypotheses=None)

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


def whiten(
    particles: ParticleSet,
    stack: ImageStack,
    noise: NoiseModel,
    disc: HalfDisc,
    progress: Progress,
    team: ThreadTeam,
    make_pixels: Callable[[Int64, int], Pixels],
    processes: Processes | None = None,
) -> WhitenedImages:
    """Read every image once, in file order, and keep its whitened, re-centred half disc.

    Parameters
    ----------
    noise : NoiseModel
        Of S > k_c shells.
    disc : HalfDisc
        Pixels to keep.
    make_pixels : callable
        Makes memory or files for the pixels of the particles (M,) that this process owns, n pixels each.
    processes : Processes, optional
        Who else reads a part.

    Notes
    -----
    Eight arguments: what is read, what it becomes, and the company it is read in.
    """
    processes = processes or OneProcess()
    own = dealt(particles.halfset, processes)
    exposures = particles.exposures.of(own)
    shown = particles.exposures.places(own)
    pixels = make_pixels(own[exposures.particle], len(disc))
    ctf_power = np.empty((len(shown), disc.k_c + 1), dtype=np.float32)
    in_shell = (disc.shell[:, None] == np.arange(disc.k_c + 1)).astype(np.float32)
    extent = stack.box_size * stack.pixel_size_angstrom
    scale = noise.whitening(disc)
    rows = [np.arange(len(shown))[start : start + CHUNK] for start in range(0, len(shown), CHUNK)]
    parts = [shown[row] for row in rows]
    with progress.step("Reading and whitening images", len(shown)) as step:
        for row, images in zip(rows, prefetched(stack.read, parts), strict=True):
            some, group = exposures.rows(row), exposures.optics_group[row]
            factor = scale[group]
            data = images_to_disc(images, disc, team.size)
            shift = particles.poses.shift_angstrom[own[some.particle]]
            data *= centring_phase(disc, some.moves(shift) / extent)
            data *= factor.astype(np.float32)
            modelled = evaluate_ctf(disc.kx, disc.ky, extent, some.ctf, particles.optics, group)
            ctf = (factor * modelled).astype(np.float32)
            require_finite_images(data, particles, shown[row])
            pixels.write(row, data, ctf)
            ctf_power[row] = ctf**2 @ in_shell
            step.advance(len(row))
    store = ImageStore(
        disc=disc,
        box=stack.box_size,
        pixel_size_angstrom=stack.pixel_size_angstrom,
        pixels=pixels,
        ctf_power=ctf_power,
        group=exposures.optics_group,
        reference=noise,
        **_places(own, exposures, len(particles)),
        tilt=exposures.tilt,
        processes=processes,
    )
    shift = np.zeros((len(particles), 2))
    return WhitenedImages(store, noise, particles.poses.rotation, shift)


def _places(own: Int64, exposures: Exposures, particles: int) -> dict[str, Any]:
    """`first` and `count` of an `ImageStore` that holds the images of the particles `own`."""
    count = exposures.counts()
    first = np.full(particles, -1)
    first[own] = np.cumsum(count) - count
    if (count == 1).all():
        return {"first": first, "count": None}
    several = np.zeros(particles, np.int64)
    several[own] = count
    return {"first": first, "count": several}


def in_memory_images(
    pixels: Pixels,
    rotation: Float64,
    disc: HalfDisc,
    box: int,
    pixel_size_angstrom: float,
    ctf_power: Float32,
) -> WhitenedImages:
    """Images (N) that are whitened already, all of them this process's.

    Parameters
    ----------
    pixels : Pixels
    rotation : (N, 3, 3)
    disc : HalfDisc
    box : int
        Edge in pixels.
    pixel_size_angstrom : float
    ctf_power : (N, k_c + 1)
        As in `ImageBatch`.
    """
    count = len(rotation)
    noise = NoiseModel(np.ones((1, disc.k_c + 2)))
    store = ImageStore(
        disc=disc,
        box=box,
        pixel_size_angstrom=pixel_size_angstrom,
        pixels=pixels,
        ctf_power=ctf_power,
        group=np.zeros(count, np.int64),
        reference=noise,
        first=np.arange(count),
        count=None,
        tilt=None,
        processes=OneProcess(),
    )
    return WhitenedImages(store, noise, rotation, np.zeros((count, 2)))
