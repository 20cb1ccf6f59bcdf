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

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.finite import require_finite_images
from solvar.estimation.noise import NoiseModel
from solvar.estimation.pixels import Pixels
from solvar.imaging.aberrations import odd_correction
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc, centring_phase, images_to_disc
from solvar.imaging.grid import per_image
from solvar.parallel import Array, OneProcess, Processes, dealt
from solvar.particles import ImageStack, ParticleSet
from solvar.progress import Progress
from solvar.threads import ThreadTeam, prefetched

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

CHUNK = 512


@dataclass(frozen=True, eq=False)
class ImageBatch:
    """Whitened images of B particles.

    Attributes
    ----------
    place : (B,) int64
        Where the particles stand among those that were asked for.
    index : (B,) int64
        Which particles they are.
    data : (B, n) complex64
    ctf : (B, n) float32
    ctf_power : (B, k_c + 1) float32
        Σ ctf² over the pixels of each shell: what an image says about a shell.
    frame : (B, 3, 2) float32
        Pixel (kx, ky) samples the volume's transform at frame·(kx, ky).
    stretch : (B, 2, 2) float64 or None
        What frames hold besides the rotation, see `CommonGrid`; None for identities.
    """

    place: Int64
    index: Int64
    data: Complex64
    ctf: Float32
    ctf_power: Float32
    frame: Float32
    stretch: Float64 | None = None

    def __len__(self) -> int:
        return len(self.index)

    def frames(self, rotation: Float64) -> Float32:
        """The frames (B, 3, 2) that other rotations (B, 3, 3) of the particles would have."""
        return frames_of(rotation, self.stretch)


def frames_of(rotation: Float64, stretch: Float64 | None = None) -> Float32:
    """Frames (B, 3, 2) float32 of rotations (B, 3, 3), the plane stretched (B, 2, 2) before it is turned."""
    plane = rotation[:, :, :2]
    return np.ascontiguousarray(plane if stretch is None else plane @ stretch, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class ImageStore:
    """Pixels of the particles that this process owns, of N, as they were read and whitened once.

    Attributes
    ----------
    disc : HalfDisc
        n pixels up to the finest band; a coarser band uses the first ones.
    box : int
        Edge of the images in pixels.
    pixel_size_angstrom : float
    pixels : Pixels
        Of the M particles that this process owns, whitened by `reference`.
    ctf_power : (M, k_c + 1) float32
        Of these particles, see `ImageBatch`.
    group : (M,) int64
        Their optics groups.
    reference : NoiseModel
        What the pixels were whitened by.
    row : (N,) int64
        Row of each particle among those of this process, or -1.
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
    reference: NoiseModel
    row: Int64
    processes: Processes
    stretch: Float64 | None = None
    image_extent_angstrom: Float64 | None = None

    @property
    def extent_angstrom(self) -> float:
        """Edge of the box in Å."""
        return self.box * self.pixel_size_angstrom

    def shift_unit(self, group: Int64) -> float | Float64:
        """Å in one box length of images of these optics groups (N,): a number, or (N, 1)."""
        extent = self.image_extent_angstrom
        return per_image(self.extent_angstrom if extent is None else extent, group)

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
    shift : (N, 2) float64
        By how much images are moved beyond their first poses, box lengths.
    inverted : bool
        Whether the sign of the pixels is turned around.
    """

    store: ImageStore
    noise: NoiseModel
    rotation: Float64
    shift: Float64
    inverted: bool = False

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
        return bool(self.shift.any())

    def batches(self, index: Int64, disc: HalfDisc, size: int = CHUNK) -> Iterator[ImageBatch]:
        """The images of the particles `index` that this process owns, `size` at a time, in their order.

        Of their pixels, those of `disc`, a prefix of the images' own.

        The next batch is read while the caller works on one, where pixels lie on disk.
        """
        place = np.flatnonzero(self.store.row[index] >= 0)
        parts = [place[start : start + size] for start in range(0, len(place), size)]

        def load(part: Int64) -> ImageBatch:
            return self._load(part, index[part], disc)

        return prefetched(load, parts) if self.store.pixels.is_slow else map(load, parts)

    def batch(self, index: Int64, disc: HalfDisc) -> ImageBatch:
        """The images of some particles, all of which this process owns."""
        return self._load(np.arange(len(index)), index, disc)

    def _load(self, place: Int64, index: Int64, disc: HalfDisc) -> ImageBatch:
        row = self.store.row[index]
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
        if self._moved:
            data *= centring_phase(disc, self.shift[index])
        stretch = None
        if self.store.stretch is not None:
            group = self.store.group[row]
            stretch = self.store.stretch[group]
            # a volume ends at k_c: what a stretched image has beyond it is left out
            inside = self.store.radius[group, : len(disc)] <= disc.k_c
            data *= inside
            ctf *= inside
        frame = frames_of(self.rotation[index], stretch)
        return ImageBatch(place, index, data, ctf, power, frame, stretch)

    def posed(self, rotation: Float64, shift: Float64) -> WhitenedImages:
        """The same images at rotations (N, 3, 3), moved by (N, 2) box lengths beyond their first poses."""
        return replace(self, rotation=rotation, shift=shift)

    def shared(self, values: Array) -> Array:
        """Values a particle (N, …), each as the process that owns the particle has it."""
        if self.processes.size == 1:
            return values
        own = np.zeros_like(values)
        mine = self.store.row >= 0
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
        Room for the pixels of the particles (M,) that this process owns, n pixels each.
    processes : Processes, optional
        Who else reads a part.

    Notes
    -----
    Eight arguments: what is read, what it becomes, and the company it is read in.
    """
    processes = processes or OneProcess()
    own = dealt(particles.halfset, processes)
    pixels = make_pixels(own, len(disc))
    ctf_power = np.empty((len(own), disc.k_c + 1), dtype=np.float32)
    in_shell = (disc.shell[:, None] == np.arange(disc.k_c + 1)).astype(np.float32)
    extent = stack.extent_angstrom
    odd = odd_correction(disc.kx, disc.ky, extent, particles.optics)
    scale = noise.whitening(disc)
    parts = [own[start : start + CHUNK] for start in range(0, len(own), CHUNK)]
    first = 0
    with progress.step("Reading and whitening images", len(own)) as step:
        for index, images in zip(parts, prefetched(stack.read, parts), strict=True):
            some, row = particles.select(index), np.arange(first, first + len(index))
            first += len(index)
            factor = scale[some.optics_group]
            data = images_to_disc(images, disc, team.size)
            data *= centring_phase(
                disc, some.poses.shift_angstrom / per_image(extent, some.optics_group)
            )
            if odd is not None:
                data *= odd[some.optics_group]
            data *= factor.astype(np.float32)
            modelled = evaluate_ctf(
                disc.kx, disc.ky, extent, some.ctf, some.optics, some.optics_group
            )
            ctf = (factor * modelled).astype(np.float32)
            require_finite_images(data, some)
            pixels.write(row, data, ctf)
            ctf_power[row] = ctf**2 @ in_shell
            step.advance(len(index))
    rows = np.full(len(particles), -1)
    rows[own] = np.arange(len(own))
    store = ImageStore(
        disc=disc,
        box=stack.box_size,
        pixel_size_angstrom=stack.pixel_size_angstrom,
        pixels=pixels,
        ctf_power=ctf_power,
        group=particles.optics_group[own],
        reference=noise,
        row=rows,
        processes=processes,
        stretch=particles.grid.stretch,
        image_extent_angstrom=None if isinstance(extent, float) else extent,
    )
    shift = np.zeros((len(particles), 2))
    return WhitenedImages(store, noise, particles.poses.rotation, shift)


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
        row=np.arange(count),
        processes=OneProcess(),
    )
    return WhitenedImages(store, noise, rotation, np.zeros((count, 2)))
