"""A batch of whitened images: what every sum over images is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.grouping import Grouping, Values
from solvar.particles.exposures import seen_shifts

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


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
    stretch : (R, 2, 2) float64 or None
        What frames hold besides the rotation, see `CommonGrid`; None for identities.
    weight : (B,) float64 or None
        Of each particle: data and CTFs hold its root already. None where all are 1.
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
    stretch: Float64 | None = None
    weight: Float64 | None = None

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

    @property
    def is_uncertain(self) -> bool:
        """Whether any particle has several poses."""
        return self.grouping is not None and self.grouping.is_uncertain

    def refuse_uncertain(self, what: str) -> None:
        """Raise ValueError if any particle has several poses, which `what` cannot weigh."""
        if self.is_uncertain:
            raise ValueError(f"{what} needs one pose a particle")

    def weighted(self, values: Float32 | Complex64) -> Any:
        """Values of the images (R, …) times the prior weights of their poses."""
        if not self.is_uncertain:
            return values
        assert self.grouping is not None
        weight = self.grouping.prior_weight[self.grouping.pose].astype(np.float32)
        return values * weight.reshape(-1, *[1] * (values.ndim - 1))

    def per_pose(self, values: Values) -> Values:
        """Sums over the images (R, …) of each pose, (Q, …)."""
        return values if self.grouping is None else self.grouping.sum_by_pose(values)

    def images_each(self) -> Int64:
        """How many images each particle has at all its poses, (B,)."""
        if self.grouping is None:
            return np.ones(len(self), np.int64)
        return np.bincount(self.grouping.particle_of_image, minlength=len(self))

    def per_image(self, values: Float64) -> Float64:
        """Values of the particles (B, …) for each of their images, (R, …)."""
        return values if self.grouping is None else values[self.grouping.particle_of_image]

    def frames(self, rotation: Float64) -> Float32:
        """The frames (R, 3, 2) that other rotations (B, 3, 3) of the particles would have."""
        return frames_of(self.per_image(rotation), self.tilt, self.stretch)

    def moves(self, shift: Float64) -> Float64:
        """Shifts (R, 2) of the images when particles are moved by (B, d) along axes of their own frames."""
        return seen_shifts(self.per_image(shift), self.tilt)

    def by_stretch(self) -> Iterator[tuple[Int64, Float64 | None]]:
        """Which images share a stretch, and that: (2, 2), or None where there is none."""
        if self.stretch is None:
            yield np.arange(len(self.data)), None
            return
        kinds, kind = np.unique(self.stretch, axis=0, return_inverse=True)
        for number, stretch in enumerate(kinds):
            yield np.flatnonzero(kind.ravel() == number), stretch


def frames_of(
    rotation: Float64, tilt: Float64 | None = None, stretch: Float64 | None = None
) -> Float32:
    """Frames (B, 3, 2) float32 of rotations (B, 3, 3) of particles and, before these, of their images.

    The plane of an image is stretched (B, 2, 2) first.
    """
    plane = (rotation if tilt is None else rotation @ tilt)[:, :, :2]
    return np.ascontiguousarray(plane if stretch is None else plane @ stretch, dtype=np.float32)
