"""Simulated tilt series: specimens that hold some particles each, and how their images were taken."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.optics import CtfParameters
from solvar.imaging.tilt_geometry import TiltGeometry, rotations_of_angles
from solvar.particles import Poses
from solvar.simulation.settings import SimulationSettings

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# 4,000 × 4,000 × 1,200 pixels of 3 Å
_SIZE_ANGSTROM = np.array([12000.0, 12000.0, 3600.0])
# by how much specimens lie differently in the holder (x), and axes of tilt wander from image to image (z)
_X_TILT_SD, _Z_ROT_SD, _Z_ROT_WANDER = 2.0, 1.0, 0.2
# of images from each other, Å
_DRIFT_SD, _DEFOCUS_WANDER = 200.0, 100.0


@dataclass(frozen=True, eq=False)
class TiltSeries:
    """K specimens of which T images each were taken, and N particles in them.

    An image is of one particle in one exposure; those of a particle are side by side, tilts rising.

    Attributes
    ----------
    angle_degree : (K, T, 3) float64
        Rotations of the specimen about x, y, z (`rlnTomoXTilt`, `rlnTomoYTilt`, `rlnTomoZRot`).
    shift_angstrom : (K, T, 2) float64
        Where the centre of the specimen is in each exposure, from the exposure's own.
    ctf : CtfParameters
        Of the K·T exposures at the centre of the specimen.
    hand : int
        As in `TiltGeometry`.
    size_pixel : (3,) int64
        Edges of a specimen along x, y, z.
    specimen : (N,) int64
    coordinate_angstrom : (N, 3) float64
        Where images of each particle are cut out, from the centre of its specimen.
    visible : (N, T) bool
        Whether the whole image is within the exposure; of the least exposed one it always is.
    """

    angle_degree: Float64
    shift_angstrom: Float64
    ctf: CtfParameters
    hand: int
    size_pixel: Int64
    specimen: Int64
    coordinate_angstrom: Float64
    visible: NDArray[np.bool_]

    @cached_property
    def geometry(self) -> tuple[TiltGeometry, ...]:
        """Of each specimen."""
        return tuple(TiltGeometry(rotations_of_angles(*a.T), self.hand) for a in self.angle_degree)

    @cached_property
    def particle(self) -> Int64:
        """Which particle each image shows, (M,)."""
        return np.nonzero(self.visible)[0]

    @cached_property
    def tilt(self) -> Int64:
        """Which exposure of its specimen each image is of, (M,)."""
        return np.nonzero(self.visible)[1]

    @cached_property
    def dose_per_angstrom2(self) -> Float64:
        """That each exposure found, (K, T)."""
        dose = self.ctf.dose_per_angstrom2
        assert dose is not None
        return dose.reshape(self.angle_degree.shape[:2])

    def least_exposed(self, particle: Int64) -> Int64:
        """The least exposed image of particles."""
        tilt = np.argmin(self.dose_per_angstrom2, axis=1)[self.specimen[particle]]
        before = np.cumsum(self.visible[particle], axis=1)[np.arange(len(particle)), tilt] - 1
        count = self.visible.sum(axis=1)
        return (np.cumsum(count) - count)[particle] + before

    def poses_of(self, image: Int64, poses: Poses) -> Poses:
        """Poses of images, shifts (n, 3) along their x, y and beam, from those of the particles."""
        particle = self.particle[image]
        turn = self._rotation[self.specimen[particle], self.tilt[image]]
        return Poses(
            poses.rotation[particle] @ turn.transpose(0, 2, 1),
            np.einsum("nij,nj->ni", turn, poses.shift_angstrom[particle]),
        )

    def ctf_of_images(self, shift_angstrom: Float64) -> CtfParameters:
        """CTFs of all images, each in focus where its particle is, off its coordinate by -shift (N, 3)."""
        position = self.coordinate_angstrom - shift_angstrom
        offset = np.empty(self.visible.shape)
        for number, geometry in enumerate(self.geometry):
            members = self.specimen == number
            offset[members] = geometry.defocus_offset(position[members])
        exposure = self.specimen[self.particle] * self.visible.shape[1] + self.tilt
        return self.ctf.take(exposure).defocused(offset[self.visible])

    @cached_property
    def _rotation(self) -> Float64:
        """(K, T, 3, 3)."""
        return np.stack([each.rotation for each in self.geometry])


def draw_tilt_series(
    settings: SimulationSettings, specimen: Int64, rng: np.random.Generator
) -> TiltSeries:
    """Tilt series of a dose-symmetric scheme, and particles anywhere in their specimens.

    Parameters
    ----------
    settings : SimulationSettings
    specimen : (N,)
        That each particle is in, rising from 0.
    rng : Generator
    """
    count, tilts = int(specimen[-1]) + 1, settings.tilts
    nominal, dose = _scheme(settings)
    angle = np.empty((count, tilts, 3))
    angle[..., 0] = rng.normal(0, _X_TILT_SD, (count, 1))
    angle[..., 1] = nominal
    angle[..., 2] = settings.tilt_axis + rng.normal(0, _Z_ROT_SD, (count, 1))
    angle[..., 2] += rng.normal(0, _Z_ROT_WANDER, (count, tilts))
    size = 2 * np.rint(0.5 * _SIZE_ANGSTROM / settings.pixel_size).astype(np.int64)
    free = 0.5 * np.maximum(size - settings.box_size, 0) * settings.pixel_size
    # a disc is within the field of view whatever the direction of the tilt axis
    around = rng.uniform(0, 2 * np.pi, len(specimen))
    radius = np.sqrt(rng.random(len(specimen))) * free[0]
    height = rng.uniform(-1, 1, len(specimen)) * free[2]
    coordinate = np.column_stack([radius * np.cos(around), radius * np.sin(around), height])
    shift = rng.normal(0, _DRIFT_SD, (count, tilts, 2))
    ctf = _draw_ctf(settings, np.cos(np.deg2rad(nominal)), dose, count, rng)
    rotation = rotations_of_angles(*angle.reshape(-1, 3).T).reshape(count, tilts, 3, 3)[specimen]
    seen = np.einsum("ntij,nj->nti", rotation[:, :, :2], coordinate) + shift[specimen]
    visible = (np.abs(seen) <= free[:2]).all(axis=-1)
    visible[:, np.argmin(dose)] = True
    return TiltSeries(angle, shift, ctf, settings.hand, size, specimen, coordinate, visible)


def _scheme(settings: SimulationSettings) -> tuple[Float64, Float64]:
    """Tilts (T,), degrees, rising, and the dose before each: from 0 outwards, side by side."""
    number = np.arange(settings.tilts) - settings.tilts // 2
    angle = np.asarray(number * (settings.tilt_range / max(settings.tilts // 2, 1)), np.float64)
    order = np.lexsort((-number, np.abs(number)))
    dose = np.empty(settings.tilts)
    dose[order] = np.arange(settings.tilts) * settings.dose_per_tilt
    return angle, dose


def _draw_ctf(
    settings: SimulationSettings,
    scale: Float64,
    dose: Float64,
    count: int,
    rng: np.random.Generator,
) -> CtfParameters:
    """Of the exposures of `count` specimens, (count·T,), whose scale and dose (T,) are alike."""
    tilts = len(dose)
    mean = np.repeat(rng.uniform(settings.defocus_min, settings.defocus_max, count), tilts)
    mean += rng.normal(0, _DEFOCUS_WANDER, count * tilts)
    half = np.repeat(np.abs(rng.normal(0, settings.astigmatism, count)), tilts)
    return CtfParameters(
        defocus_u_angstrom=mean + half,
        defocus_v_angstrom=mean - half,
        defocus_angle_radian=np.repeat(rng.uniform(0, np.pi, count), tilts),
        phase_shift_radian=np.zeros(count * tilts),
        bfactor_angstrom2=np.zeros(count * tilts),
        scale=np.tile(scale, count),
        dose_per_angstrom2=np.tile(dose, count),
    )
