"""A frequency band: particles and volumes up to k_c, the projector between them, and buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.ball import Ball, ball_of
from solvar.estimation.image_batch import ImageBatch
from solvar.estimation.images import CHUNK, WhitenedImages
from solvar.estimation.information import SamplingInformation, sampling_information, shell_mean
from solvar.estimation.support import Support
from solvar.files import Shelf
from solvar.imaging.masks import default_mask
from solvar.imaging.projector import Projection, Projector
from solvar.parallel import Array
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# of a buffer of the image plane; and the fewest images that keep all threads busy
_BUFFER_BYTES, _FEWEST_IMAGES = 256 << 20, 64
# images at a time of a gradient, whose slices and residuals are the largest buffers
GRADIENT_CHUNK = 1000


class Band:
    """The particles `index` at frequencies up to `k_c`.

    Volumes live on the smallest even grid that holds these frequencies, with the same coefficients
    v̂(k) as on the full grid, so that a band costs what its pixels cost.

    Parameters
    ----------
    images : WhitenedImages
    index : (M,) int64, optional
        Particles; default: all.
    k_c : int, optional
        Default: the finest frequency of the images.
    support : Support or (L, L, L) float32, optional
        Masks of mean and columns on the full grid, or one mask for both; default: the soft sphere of a fit
        without a mask.
    projection : Projection, optional
        How slices are computed; default: as in a fit, on the CPU.
    team : ThreadTeam, optional
        Default: all cores.
    sampling : callable, optional
        Where D is known already, up to `k_c` or further; it is summed up anew by default.

    Attributes
    ----------
    box : int
        Edge of the band's volumes.
    support : Support
        On the band's grid.
    operations : (n, 3, 3) float64 or None
        Rotations of the point group of the mean; None without symmetry.
    """

    def __init__(
        self,
        images: WhitenedImages,
        index: Int64 | None = None,
        k_c: int | None = None,
        support: Support | Float32 | None = None,
        projection: Projection | None = None,
        team: ThreadTeam | None = None,
        sampling: Callable[[], SamplingInformation] | None = None,
    ) -> None:
        index = np.arange(len(images)) if index is None else index
        k_c = images.disc.k_c if k_c is None else k_c
        if support is None:
            support = default_mask(images.box, images.store.pixel_size_angstrom)
        if isinstance(support, np.ndarray):
            support = Support.of(support)
        team = team or ThreadTeam()
        self.images, self.index, self.k_c, self.team = images, index, k_c, team
        self.box = band_box(k_c, images.box)
        self.disc = images.disc.prefix(k_c)
        self.support = support.resampled(self.box).on(self.shelf)
        self._projection = projection or Projection()
        self.projector = self._projector(team)
        self._sampling = sampling
        self.operations: Float64 | None = None
        self._buffers: dict[str, Any] = {}

    @cached_property
    def information(self) -> Float32:
        """D(k) on the rfftn grid; not every band needs it."""
        if self._sampling is None:
            found = sampling_information(self.images, self.index, self.k_c, self.team)
        else:
            found = self._sampling()
        return self.shelf.keep(found.on_grid(self.box, self.k_c))

    @cached_property
    def ball(self) -> Ball:
        """The coefficients of volumes that the band holds."""
        return ball_of(self.box, self.k_c)

    @property
    def shelf(self) -> Shelf:
        """Where large arrays are kept that are seldom looked at."""
        return self.images.store.pixels.shelf

    @cached_property
    def shell_information(self) -> Float64:
        """Shell means of D."""
        return shell_mean(self.information, self.box, self.k_c + 1)

    def seeing(self, images: WhitenedImages) -> Band:
        """The same band of the same images at other poses, with the same memory to work in."""
        other = copy(self)
        for derived in ("information", "shell_information", "for_threads", "on_cpu"):
            other.__dict__.pop(derived, None)
        other.images, other._sampling = images, None
        return other

    @property
    def of_mean(self) -> Band:
        """The same band with every particle at all its equivalent poses, where the mean has a symmetry."""
        if self.operations is None:
            return self
        return self.seeing(self.images.at_equivalent_poses(self.operations))

    def with_operations(self, operations: Float64 | None) -> Band:
        """The same band, whose mean has the symmetry of rotations (n, 3, 3), or none."""
        other = copy(self)
        other.operations = operations
        return other

    def with_counts(self, counts: Sequence[int]) -> Band:
        """The same band for other numbers of columns in each of their blocks, where there are any."""
        other = copy(self)
        other.support = self.support.with_counts(tuple(counts))
        return other

    def restricted(self, index: Int64) -> Band:
        """The same band of some of its particles, with the same memory to work in."""
        other = self.seeing(self.images)
        other.index = index
        return other

    def working_in(self, memory: dict[str, Any]) -> Band:
        """The same band with the memory of other bands to work in, while none of them works."""
        other = copy(self)
        other._buffers = memory
        return other

    @cached_property
    def on_cpu(self) -> Band:
        """The same band with slices that are computed on the CPU, with memory of its own if they were not."""
        if isinstance(self.projector.empty(0), np.ndarray):
            return self
        other = self.seeing(self.images)
        other._projection, other._buffers = self._projection.on_cpu(), {}
        other.projector = other._projector(self.team)
        return other

    @cached_property
    def for_threads(self) -> list[Band]:
        """The same band for each thread of its team, with memory of its own: they work side by side.

        Itself alone where slices are not computed on the CPU.
        """
        if self.team.size == 1 or not isinstance(self.projector.empty(0), np.ndarray):
            return [self]
        return [self._alone() for _ in range(self.team.size)]

    def _alone(self) -> Band:
        """The same band on one thread."""
        other = self.seeing(self.images)
        other.team, other._buffers = ThreadTeam(1), {}
        other.projector = other._projector(other.team)
        return other

    def _projector(self, team: ThreadTeam) -> Projector:
        longest = self.images.store.longest
        return self._projection.projector(self.box, self.disc, team, longest)

    def projector_in(self, box: int) -> Projector:
        """A projector of the band's slices in a wider box of such voxels, which is padding enough.

        Frames are to be longer by as much as the box is wider.
        """
        wider = replace(self._projection, upsampling=1.0)
        longest = self.images.store.longest * box / self.box
        return wider.projector(box, self.disc, self.team, longest)

    def batches(self, index: Int64 | None = None, size: int = CHUNK) -> Iterator[ImageBatch]:
        """The images of some of the band's particles, of all by default, as `WhitenedImages.batches`."""
        index = self.index if index is None else index
        return self.images.batches(index, self.disc, size, self.team)

    def chunk(self, channels: int, most: int = CHUNK) -> int:
        """How many images at a time, so that a buffer of so many channels of theirs takes 256 MiB at most.

        All of `most` on a device, which cuts work into pieces of its own.
        """
        if not isinstance(self.projector.empty(0), np.ndarray):
            return most
        return images_that_fit(channels, len(self.disc), most)

    @property
    def count(self) -> float:
        """Summed weight of the band's particles: their number where all weights are 1."""
        return self.images.total_weight(self.index)

    def sum(self, values: Array) -> Array:
        """A sum over particles, over those of all processes."""
        return self.images.processes.sum(values)

    def slices(self, prepared: Any, frame: Float32, ctf: Float32) -> Any:
        """Slices (B, C, n) at frames (B, 3, 2), in memory that the next call uses again."""
        shape = len(frame), self.projector.channels(prepared), len(self.disc)
        return self.projector.project(prepared, frame, ctf, self.buffer("slices", shape))

    def buffer(self, name: str, shape: tuple[int, ...]) -> Any:
        """An uninitialised array of a shape, in memory that the band keeps under this name.

        It lies where the projector computes (docs/gpu.md). Fresh memory for every batch cost two threads up
        to half their speed in page faults.
        """
        size = int(np.prod(shape))
        if name not in self._buffers or len(self._buffers[name]) < size:
            self._buffers[name] = self.projector.empty(size)
        return self._buffers[name][:size].reshape(shape)

    def expand(self, per_shell: Float64) -> Float32:
        """Values per shell on the rfftn grid; inf beyond k_c."""
        shape = self.box, self.box, self.box // 2 + 1
        return self.ball.on_grid(self.ball.expand(per_shell), np.inf).reshape(shape)

    def spectrum(self, volumes: Float32) -> Complex64:
        """rfftn of (C, box, box, box) volumes."""
        import scipy.fft

        return scipy.fft.rfftn(volumes, axes=(1, 2, 3), workers=self.team.size)

    def volumes(self, spectrum: Complex64) -> Float32:
        """Inverse of `spectrum`."""
        import scipy.fft

        edge = (self.box,) * 3
        return scipy.fft.irfftn(spectrum, s=edge, axes=(1, 2, 3), workers=self.team.size)


def images_that_fit(channels: int, pixels: int, most: int) -> int:
    """How many images, `most` at most, have so many channels of complex pixels in a buffer."""
    return min(most, max(_BUFFER_BYTES // (8 * channels * pixels), _FEWEST_IMAGES))


def band_box(k_c: int, box: int) -> int:
    """Smallest grid that holds |k| ≤ k_c, a multiple of 4 where `box` allows, at most `box`."""
    return min(box, 2 * k_c + 2 + (2 * k_c + 2) % 4)
