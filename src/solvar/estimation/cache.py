"""The estimator's only view of the images: whitened, re-centred pixels of the half disc.

Data and CTF of each pixel are divided by the noise amplitude and multiplied by √w, w the pixel's weight
in the half-plane inner product. The noise then has unit variance per real number and every inner product
is a plain sum: no weight and no σ² appears anywhere below this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.finite import require_finite_images
from solvar.estimation.pixels import Pixels
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc, centring_phase, images_to_disc
from solvar.parallel import Array, OneProcess, Processes, own_range
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
    rotation : (B, 3, 3) float32
    """

    place: Int64
    index: Int64
    data: Complex64
    ctf: Float32
    ctf_power: Float32
    rotation: Float32

    def __len__(self) -> int:
        return len(self.index)


@dataclass(eq=False)
class WhitenedImages:
    """Whitened half-disc pixels of N particles, of which this process holds a range.

    Attributes
    ----------
    disc : HalfDisc
        n pixels up to the finest level; a coarser level uses the first ones.
    box : int
        Edge of the images in pixels.
    pixel_size_angstrom : float
    pixels : Pixels
        Of the particles that this process owns; what `move` and `invert` ask for is applied as they are read.
    ctf_power : (M, k_c + 1) float32
        Of these particles, see `ImageBatch`.
    rotation : (N, 3, 3) float32
    shift : (N, 2) float64
        By how much the images have been moved since they were whitened, box lengths.
    inverted : bool
    processes : Processes
    """

    disc: HalfDisc
    box: int
    pixel_size_angstrom: float
    pixels: Pixels
    ctf_power: Float32
    rotation: Float32
    shift: Float64 = field(default_factory=lambda: np.zeros((0, 2)))
    inverted: bool = False
    processes: Processes = field(default_factory=OneProcess)

    def __post_init__(self) -> None:
        if not len(self.shift):
            self.shift = np.zeros((len(self), 2))
        self._own = own_range(len(self), self.processes)

    def __len__(self) -> int:
        return len(self.rotation)

    def batches(self, index: Int64, disc: HalfDisc, size: int = CHUNK) -> Iterator[ImageBatch]:
        """The images of the particles `index` that this process owns, `size` at a time, in their order.

        Of their pixels, those of `disc`, a prefix of the images' own.

        The next batch is read while the caller works on one, where pixels lie on disk.
        """
        first, last = self._own
        place = np.flatnonzero((index >= first) & (index < last))
        parts = [place[start : start + size] for start in range(0, len(place), size)]

        def load(part: Int64) -> ImageBatch:
            return self._load(part, index[part], disc)

        return prefetched(load, parts) if self.pixels.is_slow else map(load, parts)

    def batch(self, index: Int64, disc: HalfDisc) -> ImageBatch:
        """The images of some particles, all of which this process owns."""
        return self._load(np.arange(len(index)), index, disc)

    def _load(self, place: Int64, index: Int64, disc: HalfDisc) -> ImageBatch:
        row = index - self._own[0]
        data, ctf = self.pixels.read(row, len(disc))
        if self.inverted:
            np.negative(data, out=data)
        shift = self.shift[index]
        if shift.any():
            data *= centring_phase(disc, shift)
        return ImageBatch(place, index, data, ctf, self.ctf_power[row], self.rotation[index])

    def move(self, index: Int64, rotation: Float64, shift: Float64) -> None:
        """Give particles new rotations (B, 3, 3), and move their content by (B, 2) box lengths."""
        self.rotation[index] = rotation
        self.shift[index] += shift

    def shared(self, values: Array) -> Array:
        """Values a particle (N, …), each as the process that owns the particle has it."""
        if self.processes.size == 1:
            return values
        own = np.zeros_like(values)
        own[slice(*self._own)] = values[slice(*self._own)]
        return self.processes.sum(own)


def whiten(
    particles: ParticleSet,
    stack: ImageStack,
    noise_power: Float64,
    disc: HalfDisc,
    progress: Progress,
    team: ThreadTeam,
    make_pixels: Callable[[Int64, int], Pixels],
    processes: Processes | None = None,
) -> WhitenedImages:
    """Read every image once, in file order, and keep its whitened, re-centred half disc.

    Parameters
    ----------
    noise_power : (G, S) float64
        As of `estimate_noise`, S > k_c.
    disc : HalfDisc
        Pixels to keep.
    make_pixels : callable
        Room for the pixels of the particles (M,) that this process owns, n pixels each.
    processes : Processes, optional
        Who else reads a part.
    """
    processes = processes or OneProcess()
    first, last = own_range(len(particles), processes)
    own = np.arange(first, last)
    pixels = make_pixels(own, len(disc))
    ctf_power = np.empty((len(own), disc.k_c + 1), dtype=np.float32)
    in_shell = (disc.shell[:, None] == np.arange(disc.k_c + 1)).astype(np.float32)
    extent = stack.box_size * stack.pixel_size_angstrom
    scale = np.sqrt(disc.weight / noise_power[:, disc.shell])
    parts = [own[start : start + CHUNK] for start in range(0, len(own), CHUNK)]
    with progress.step("Reading and whitening images", len(own)) as step:
        for index, images in zip(parts, prefetched(stack.read, parts), strict=True):
            some, row = particles.select(index), index - first
            factor = scale[some.optics_group]
            data = images_to_disc(images, disc, team.size)
            data *= centring_phase(disc, some.poses.shift_angstrom / extent)
            data *= factor.astype(np.float32)
            modelled = evaluate_ctf(
                disc.kx, disc.ky, extent, some.ctf, some.optics, some.optics_group
            )
            ctf = (factor * modelled).astype(np.float32)
            require_finite_images(data, some)
            pixels.write(row, data, ctf)
            ctf_power[row] = ctf**2 @ in_shell
            step.advance(len(index))
    return WhitenedImages(
        disc=disc,
        box=stack.box_size,
        pixel_size_angstrom=stack.pixel_size_angstrom,
        pixels=pixels,
        ctf_power=ctf_power,
        rotation=particles.poses.rotation.astype(np.float32),
        processes=processes,
    )
