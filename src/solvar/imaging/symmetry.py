"""Whether a volume has the symmetry of a point group, and about which axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.imaging.fourier import crop_volume
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.imaging.point_groups import PointGroup
from solvar.imaging.rotations import from_rotation_vector
from solvar.imaging.sampler import Sampler

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

# volumes of so many voxels an edge tell axes roughly, then finely
_ROUGH, _FINE = 20, 48
# directions of an axis over half a sphere, 6° apart, the best of which are tried with turns about them
_DIRECTIONS, _TRIED, _TURNS = 600, 6, 72
_NEAR = np.deg2rad(20)


def symmetry_fsc(first: Float32, second: Float32, group: PointGroup, shells: int) -> Float64:
    """How well a volume agrees with another one turned by the rotations that generate a group, (shells,).

    Of half-maps of a molecule that has the symmetry this is their FSC.

    Parameters
    ----------
    first, second : (L, L, L)
    group : PointGroup
    shells : int
    """
    turned = Sampler(second)
    curves = [
        fourier_shell_correlation(first, turned.at(each, np.zeros(3)), shells)
        for each in group.generators
    ]
    return np.mean(curves, axis=0)


@dataclass(frozen=True, eq=False)
class Axes:
    """Where the axes of a point group lie in a volume.

    Attributes
    ----------
    rotation : (3, 3) float64
        A: the operations are A·g·Aᵀ.
    centre : (3,) float64
        A point x, y, z that they leave where it is, from the centre of the box, box lengths.
    correlation : float
        Of the volume with itself turned by the rotations that generate the group.
    """

    rotation: Float64
    centre: Float64
    correlation: float


def find_axes(volume: Float32, group: PointGroup) -> Axes:
    """The axes about which a volume comes nearest to the symmetry of a group of two operations or more.

    Parameters
    ----------
    volume : (L, L, L)
        A consensus, noise low-passed.
    group : PointGroup
    """
    # the strongest voxels are those of the molecule, be it dark or bright
    bright = volume if np.sum(volume.astype(np.float64) ** 3) >= 0 else -volume
    centre = _centre_of_mass(bright)
    rough = _Scene(crop_volume(volume, min(_ROUGH, len(volume))), group.generators)
    along = _directions(_DIRECTIONS)
    tilts = np.stack([_onto(direction) for direction in along])
    # every group has a generator about z
    about_z = group.generators[np.isclose(group.generators[:, 2, 2], 1)]
    first = np.array([rough.correlation(tilt, centre, about_z) for tilt in tilts])
    if group.name.startswith("C"):
        starts = tilts[[int(first.argmax())]]
    else:
        spins = from_rotation_vector(
            np.outer(np.arange(_TURNS) * 2 * np.pi / _TURNS, [0.0, 0.0, 1.0])
        )
        starts = np.concatenate([tilts[place] @ spins for place in _peaks(first, along)])
    scores = [rough.correlation(each, centre) for each in starts]
    begun = starts[int(np.argmax(scores))]
    fine = _Scene(crop_volume(volume, min(_FINE, len(volume))), group.generators)
    for scene in (rough, fine):
        begun, centre, reached = scene.climbed(begun, centre)
    return Axes(begun, centre, reached)


class _Scene:
    """A volume at one resolution, and the rotations that should leave it as it is."""

    def __init__(self, volume: Float32, generators: Float64) -> None:
        self._volume, self._sampler, self._generators = volume, Sampler(volume), generators
        self._norm = float(np.vdot(volume, volume))

    def correlation(
        self, rotation: Float64, centre: Float64, generators: Float64 | None = None
    ) -> float:
        """Mean correlation of the volume with itself turned, about axes that are turned and moved."""
        asked = self._generators if generators is None else generators
        found = []
        for generator in asked:
            turn = rotation @ generator @ rotation.T
            # what is at c + g(x - c)
            move = (centre - turn @ centre) * len(self._volume)
            found.append(float(np.vdot(self._volume, self._sampler.at(turn, move))))
        return float(np.mean(found)) / self._norm

    def climbed(self, rotation: Float64, centre: Float64) -> tuple[Float64, Float64, float]:
        """The best rotation and centre near some, and their correlation."""
        from scipy.optimize import minimize

        unit = 2.0 / len(self._volume)

        def lost(step: Float64) -> float:
            turned = from_rotation_vector(unit * step[None, :3])[0] @ rotation
            return -self.correlation(turned, centre + 0.5 * unit * step[3:])

        simplex = np.vstack([np.zeros(6), np.eye(6)])
        found = minimize(
            lost,
            np.zeros(6),
            method="Nelder-Mead",
            options={"initial_simplex": simplex, "maxfev": 250, "xatol": 1e-2, "fatol": 1e-6},
        )
        turned = from_rotation_vector(unit * found.x[None, :3])[0] @ rotation
        return turned, centre + 0.5 * unit * found.x[3:], -float(found.fun)


def _centre_of_mass(volume: Float32) -> Float64:
    """Of what stands out of a volume (L, L, L), x, y, z from the centre of the box, box lengths."""
    size = len(volume)
    axis = np.arange(size) - size // 2
    mass = np.maximum(volume.astype(np.float64) - 0.2 * float(volume.max()), 0)
    each = [np.vdot(mass.sum(axis=others), axis) for others in ((0, 1), (0, 2), (1, 2))]
    return np.array(each) / (mass.sum() * size)


def _directions(count: int) -> Float64:
    """Directions (count, 3) spread evenly over half a sphere (a spiral)."""
    z = (np.arange(count) + 0.5) / count
    angle = np.arange(count) * np.pi * (3 - 5**0.5)
    around = np.sqrt(1 - z**2)
    return np.stack([around * np.cos(angle), around * np.sin(angle), z], axis=1)


def _onto(direction: Float64) -> Float64:
    """A rotation (3, 3) that takes z to a direction (3,)."""
    axis = np.cross([0.0, 0.0, 1.0], direction)
    size = np.linalg.norm(axis)
    if size < 1e-9:
        return np.eye(3)
    return from_rotation_vector((axis / size * np.arctan2(size, direction[2]))[None])[0]


def _peaks(score: Float64, direction: Float64) -> list[int]:
    """The best directions (K, 3) by their scores, none near a better one."""
    kept: list[int] = []
    for place in np.argsort(-score):
        if all(abs(direction[place] @ direction[k]) < np.cos(_NEAR) for k in kept):
            kept.append(int(place))
        if len(kept) == _TRIED:
            break
    return kept
