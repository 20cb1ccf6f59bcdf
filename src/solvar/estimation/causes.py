"""What else than motion makes images of one molecule differ, by name, and what can be known of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

# of single images; the contrast is part of every model
CONTRAST, POSE, DEFOCUS, BACKGROUND = "contrast", "pose", "defocus", "background"
IMAGE_CAUSES = (POSE, DEFOCUS, BACKGROUND)
# what is the same from wherever it is looked at: noise inside the particle, ice, junk
VIEW = "any view"
CAUSES = (*IMAGE_CAUSES, VIEW)
# of a resolved distance: errors of poses that move the edge of the molecule by less do not show
_MATTERS = 0.25


@dataclass(frozen=True, eq=False)
class ComponentEvidence:
    """What r components explain of particles that they were not fitted to.

    Attributes
    ----------
    gain : (r,) float64
        Log-likelihood that each adds to the ones before it, nats a particle.
    explained : (r, 4) float64
        Which share of it each of `CAUSES` could have made, alone, 0 to 1.
    left : (r,) float64
        Which share none of them could have made, 0 to 1.
    real : (r,) bool
        Whether that is beyond chance.
    seen : (r,) bool
        Whether the gain is beyond chance, whatever has made it.
    """

    gain: Float64
    explained: Float64
    left: Float64
    real: Bool
    seen: Bool

    def of_nothing(self) -> ComponentEvidence:
        """The same, believed in nothing."""
        none = np.zeros_like(self.real)
        return replace(self, real=none, seen=none)


@dataclass(frozen=True)
class PoseDoubt:
    """What the images say of the errors of their poses, to first order.

    A domain that moves looks like a rotation about some axes and a shift along others. Errors of poses go in
    all directions of the molecule alike, because it is seen from all sides. So the direction of least spread
    tells the errors, and the whole spread what they are at most.

    Attributes
    ----------
    rotation_degree : float
        Root mean square of a rotation that is as large about all three axes as about that of least spread.
    shift_pixel : float
        Root mean square along the axis of least spread.
    most_degree, most_pixel : float
        Root mean square of the rotation about all axes, and of the shift along an axis, whatever makes them.
    removable : float
        Share of the squared rotations that one step would take away.
    beyond_chance : bool
        Whether they explain images beyond what none do.
    """

    rotation_degree: float
    shift_pixel: float
    most_degree: float
    most_pixel: float
    removable: float
    beyond_chance: bool

    def shows(self, edge_pixel: float, resolution_pixel: float) -> bool:
        """Whether errors are beyond chance and move the edge of a molecule by what a resolution shows."""
        moved = displacement(self.rotation_degree, edge_pixel, self.shift_pixel)
        return self.beyond_chance and moved > _MATTERS * resolution_pixel


def displacement(rotation_degree: float, radius: float, shift: float) -> float:
    """By how much errors of poses move the projection of a point, root mean square.

    Parameters
    ----------
    rotation_degree : float
        Root mean square about all three axes, of which two are seen to move it.
    radius : float
        Of the point from the centre.
    shift : float
        Root mean square along an axis, in units of the radius.
    """
    turned = np.deg2rad(rotation_degree) * np.sqrt(2 / 3) * radius
    return float(np.hypot(turned, np.sqrt(2) * shift))
