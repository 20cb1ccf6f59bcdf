"""How the images of a tilt series lie to their specimen: rotations, shifts and heights above focus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TiltGeometry:
    """Of the T images of one tilt series: a point p of the specimen is seen at rotation·p + shift.

    Attributes
    ----------
    rotation : (T, 3, 3) float64
        From the specimen's frame (x, y, z) into that of each image (its x, its y, along the beam).
    shift_angstrom : (T, 2) float64
        Where the specimen's centre is seen, from the centre of the image.
    hand : float
        1 if what is higher in an image's frame is more underfocused there, -1 if less (`rlnTomoHand`).
    """

    rotation: Float64
    shift_angstrom: Float64
    hand: float = 1.0

    def __len__(self) -> int:
        return len(self.rotation)

    def seen(self, position_angstrom: Float64) -> Float64:
        """Where points (…, 3), Å from the specimen's centre, are in each image, (…, T, 2) from its centre."""
        flat = np.einsum("tij,...j->...ti", self.rotation[:, :2], position_angstrom)
        return np.asarray(flat + self.shift_angstrom, dtype=np.float64)

    def defocus_offset(self, position_angstrom: Float64) -> Float64:
        """How much more underfocused points (…, 3), Å from the specimen's centre, are in each image, (…, T)."""
        return np.asarray(
            self.hand * np.einsum("tj,...j->...t", self.rotation[:, 2], position_angstrom),
            dtype=np.float64,
        )


def rotations_of_angles(x_degree: Float64, y_degree: Float64, z_degree: Float64) -> Float64:
    """Rotations (T, 3, 3) of a specimen into its images: about x, then y, then z, by angles (T,).

    These are RELION 5's `rlnTomoXTilt`, `rlnTomoYTilt` and `rlnTomoZRot`.
    """
    from scipy.spatial.transform import Rotation

    angles = np.stack([x_degree, y_degree, z_degree], axis=-1)
    return np.asarray(Rotation.from_euler("xyz", angles, degrees=True).as_matrix())
