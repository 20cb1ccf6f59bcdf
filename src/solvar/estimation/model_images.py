"""What a linear model of volumes says that images hold: noiseless, on the grid of their files.

The way back from volumes to the pixels that the estimator was given, however these were cropped, binned or
brought to a common grid: volumes are sampled at the frequencies of the whole image on disk. Beyond the band
limit of the model nothing is known, and images are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solvar.estimation.image_batch import frames_of
from solvar.imaging.aberrations import odd_correction
from solvar.imaging.ctf import evaluate_ctf
from solvar.imaging.fourier import HalfDisc, centring_phase, disc_to_images
from solvar.imaging.projector import Projection, Projector
from solvar.imaging.recorded import transfer_on_file
from solvar.particles import ParticleSet
from solvar.threads import ThreadTeam

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# frequencies that differ by less are the same
_ROUNDING = 1e-4


@dataclass(frozen=True, eq=False)
class ModelImages:
    """Images of particles by volumes Σ_c coefficient_c volume_c, of optics groups of one pixel size and box.

    Attributes
    ----------
    volumes : (C, L, L, L) float32
        On the common grid of the particles, perhaps downsampled.
    k_c : int
        Their largest frequency, k_c < L/2.
    particles : ParticleSet
        One image each.
    group : int
        One of the optics groups, which tells pixel size and box.
    projection : Projection
    team : ThreadTeam
    """

    volumes: Float32
    k_c: int
    particles: ParticleSet
    group: int
    projection: Projection
    team: ThreadTeam

    @property
    def box_size(self) -> int:
        """Edge of the images, pixels."""
        return int(self.particles.optics.box_size[self.group])

    @property
    def pixel_size_angstrom(self) -> float:
        """Pixel size of the images, Å."""
        return float(self.particles.optics.pixel_size_angstrom[self.group])

    @property
    def extent_angstrom(self) -> float:
        """Edge of the images, Å."""
        return self.box_size * self.pixel_size_angstrom

    def images(self, index: Int64, coefficients: Float64) -> Float32:
        """Images of the particles `index` (B,) by coefficients (B, C), as files hold them.

        Returns
        -------
        (B, L, L) float32
            CTF, aberrations, position and sign applied; L is the edge on disk.
        """
        some, optics = self.particles.exposures.rows(index), self.particles.optics
        group, disc = some.optics_group, self._disc
        ctf = evaluate_ctf(disc.kx, disc.ky, self.extent_angstrom, some.ctf, optics, group)
        scale = transfer_on_file(ctf, optics, group) * self._inside[group]
        frame = frames_of(self.particles.poses.rotation[index], None, self._stretch[group])
        slices = self._projector.project(self._prepared, frame, scale.astype(np.float32))
        found: Complex64 = np.matmul(coefficients[:, None].astype(np.complex64), slices)[:, 0]
        position = -self.particles.poses.shift_angstrom[index] / self.extent_angstrom
        found *= centring_phase(disc, position)
        odd = odd_correction(disc.kx, disc.ky, self.extent_angstrom, optics)
        if odd is not None:
            found *= odd.conj()[group]
        if some.sign is not None:
            found *= some.sign[:, None]
        return disc_to_images(found, disc, self.box_size, self.team.size)

    @property
    def _ratio(self) -> float:
        """Edge of the images over that of the volumes."""
        return self.extent_angstrom / self._volume_extent

    @property
    def _volume_extent(self) -> float:
        grid = self.particles.grid
        return grid.box_size * grid.pixel_size_angstrom

    @cached_property
    def _disc(self) -> HalfDisc:
        """The frequencies of images that the model knows something of in any optics group."""
        matrix = self._magnification
        least = float(np.linalg.svd(matrix, compute_uv=False).min())
        reach = int(np.ceil(self.k_c * self._ratio / least - _ROUNDING))
        return HalfDisc.of_radius(min(reach, (self.box_size - 1) // 2))

    @cached_property
    def _magnification(self) -> Float64:
        """(G, 2, 2), identities where there is none."""
        optics = self.particles.optics
        perfect = np.tile(np.eye(2), (len(optics.name), 1, 1))
        return perfect if optics.magnification is None else optics.magnification

    @cached_property
    def _padded(self) -> Float32:
        """The volumes with room around them, so that an edge has more than two of the images' frequencies."""
        box, wanted = self.volumes.shape[-1], 2 * self._disc.k_c + 2
        if wanted <= box:
            return self.volumes
        before = wanted // 2 - box // 2
        room = (before, wanted - box - before)
        return np.pad(self.volumes, ((0, 0), room, room, room))

    @cached_property
    def _stretch(self) -> Float64:
        """Pixel k of an image is frequency stretch·k of the padded volumes, (G, 2, 2)."""
        return self._magnification * (self._padding / self._ratio)

    @property
    def _padding(self) -> float:
        return self._padded.shape[-1] / self.volumes.shape[-1]

    @cached_property
    def _inside(self) -> NDArray[np.bool_]:
        """Which pixels of the disc the volumes reach, (G, n)."""
        length = np.linalg.norm(self._stretch @ np.stack([self._disc.kx, self._disc.ky]), axis=1)
        return np.asarray(length <= self.k_c * self._padding + _ROUNDING)

    @cached_property
    def _projector(self) -> Projector:
        longest = float(np.linalg.svd(self._stretch, compute_uv=False).max())
        box = self._padded.shape[-1]
        return self.projection.projector(box, self._disc, self.team, max(1.0, longest))

    @cached_property
    def _prepared(self) -> Any:
        return self._projector.prepare(self._padded)
