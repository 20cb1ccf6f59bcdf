"""Rigid bodies of atoms in density: how they look, and the poses in which they explain a volume.

A volume is explained by Σ_g q_g ρ_g, ρ_g the density of body g turned about its own centre and moved. Poses
and occupancies q come from Gauss-Newton steps for all bodies at once. Seven numbers describe a step of a
body: of q, of its shift (Å), and of its rotation times its radius of gyration (Å), so that all but the first
are lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.bodies.atoms import Atoms, spread
from solvar.imaging.fourier import volume_shells
from solvar.imaging.rotations import from_rotation_vector

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Box = tuple[slice, slice, slice]

STEP = 7
# holds occupancies to 1, in the stiffness of ties; and steps to 0, where nothing else decides
_HOLD, _DAMPING = 5.0, 1e-3
_LEAST_OCCUPANCY = 0.05
_SETTLED_ANGSTROM = 0.02


@dataclass(frozen=True, eq=False)
class Poses:
    """Where G bodies are: x → R (x − centre) + centre + shift, and how much of each is there.

    Attributes
    ----------
    rotation : (G, 3, 3) float64
    shift : (G, 3) float64
        Å.
    occupancy : (G,) float64
    """

    rotation: Float64
    shift: Float64
    occupancy: Float64

    @classmethod
    def at_rest(cls, count: int) -> Poses:
        """Nothing has moved."""
        return cls(np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)), np.ones(count))


@dataclass(frozen=True, eq=False)
class Response:
    """What makes a map of points: the amplitude by which they are multiplied at each frequency.

    Attributes
    ----------
    frequency : (S,) float64
        1/Å.
    amplitude : (S,) float64
    pixel_size : float
        Of the grid of the map, Å.
    """

    frequency: Float64
    amplitude: Float64
    pixel_size: float

    @classmethod
    def between(cls, atoms: Atoms, mean: Float32, pixel_size: float) -> Response:
        """That with which atoms explain a map (n, n, n) best, shell by shell; never negative."""
        import scipy.fft

        n = len(mean)
        origin = np.full(3, n // 2)
        points = spread(atoms.positions, atoms.weights, (n, n, n), pixel_size, origin)
        of_atoms, of_map = (scipy.fft.rfftn(each).ravel() for each in (points, mean))
        shell = volume_shells(n).ravel()
        product = np.bincount(shell, (of_map * of_atoms.conj()).real)
        power = np.bincount(shell, np.abs(of_atoms) ** 2)
        amplitude = np.maximum(product, 0) / np.maximum(power, 1e-30)
        frequency = np.arange(n // 2 + 1) / (n * pixel_size)
        return cls(frequency, amplitude[: n // 2 + 1], pixel_size)

    def seen(self, points: Float64) -> Float64:
        """A grid of points (nz, ny, nx) as the map would show it."""
        import scipy.fft

        *full, last = points.shape
        z, y = (np.fft.fftfreq(edge, self.pixel_size) for edge in full)
        x = np.fft.rfftfreq(last, self.pixel_size)
        radius = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
        response = np.interp(radius, self.frequency, self.amplitude, right=0.0)
        volume: Float64 = scipy.fft.irfftn(scipy.fft.rfftn(points) * response, points.shape)
        return volume


class Body:
    """Atoms that move as one, and their density in a patch of a grid around their centre.

    Parameters
    ----------
    positions : (A, 3)
        Å, xyz, from the centre of the map.
    weights : (A,)
    response : Response
    margin : float
        By how much their density reaches beyond them, Å.
    """

    def __init__(
        self, positions: Float64, weights: Float64, response: Response, margin: float
    ) -> None:
        from scipy.ndimage import spline_filter

        self.weights = weights
        self.centre: Float64 = weights @ positions / weights.sum()
        self.around = positions - self.centre
        self.second_moment = (self.around * weights[:, None]).T @ self.around / weights.sum()
        # a single atom has none, and turns nobody
        self.gyration = float(np.sqrt(max(np.trace(self.second_moment), 1.0)))
        self.pixel_size, self._margin = response.pixel_size, margin
        reach = np.abs(self.around).max(axis=0)[::-1] + margin
        self._half = np.ceil(reach / self.pixel_size).astype(np.int64)
        nz, ny, nx = (int(edge) for edge in 2 * self._half + 1)
        points = spread(self.around, weights, (nz, ny, nx), self.pixel_size, self._half)
        self._spline = spline_filter(response.seen(points), order=3, mode="constant")

    def moved(self, rotation: Float64, shift: Float64) -> Float64:
        """Positions (A, 3) of the atoms in a pose, Å."""
        return self.around @ rotation.T + self.centre + shift

    def density(
        self, rotation: Float64, shift: Float64, edge: int
    ) -> tuple[Box, Float64, list[Float64]]:
        """Where the body is seen in a grid of `edge` voxels, its density there, and x, y, z from its centre.

        The three coordinates (Å) broadcast to the shape of the box.
        """
        from scipy.ndimage import map_coordinates

        centre, atoms = self.centre + shift, self.moved(rotation, shift)
        low = (atoms.min(axis=0) - self._margin)[::-1] / self.pixel_size + edge // 2
        high = (atoms.max(axis=0) + self._margin)[::-1] / self.pixel_size + edge // 2
        # at least two voxels, for gradients, also of a body that has left the box
        first = np.clip(np.floor(low).astype(np.int64), 0, edge - 2)
        last = np.clip(np.ceil(high).astype(np.int64) + 1, first + 2, edge)
        z, y, x = (
            (np.arange(first[k], last[k]) - edge // 2) * self.pixel_size - centre[2 - k]
            for k in range(3)
        )
        away = [x[None, None, :], y[None, :, None], z[:, None, None]]
        at = [
            sum(rotation[j, i] * away[j] for j in range(3)) / self.pixel_size + self._half[2 - i]
            for i in (2, 1, 0)
        ]
        values: Float64 = map_coordinates(self._spline, np.stack(at), order=3, prefilter=False)
        return (
            (slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])),
            values,
            away,
        )


@dataclass(frozen=True, eq=False)
class Ties:
    """Points that two bodies share, as where a chain goes on; they cost what they are torn apart.

    Attributes
    ----------
    point : (n, 3) float64
        In the model, Å from the centre of the map.
    pair : (n, 2) int64
        The bodies.
    stiffness : float
        Of one tie, in the typical curvature of a body's shift. Five times as much holds occupancies to 1.
    """

    point: Float64
    pair: Int64
    stiffness: float

    def pull(self, bodies: list[Body], poses: Poses) -> tuple[Float64, Float64]:
        """Curvature (7G, 7G) and gradient (7G,) of half the squared tears, for a stiffness of 1."""
        count, gyration = len(bodies), np.array([body.gyration for body in bodies])
        centre = np.stack([body.centre for body in bodies])
        turned, moved, change = [], [], []
        for one in self.pair.T:
            arm = np.einsum("nij,nj->ni", poses.rotation[one], self.point - centre[one])
            turned.append(arm)
            moved.append(arm + centre[one] + poses.shift[one])
            step = np.zeros((len(one), 3, STEP))
            step[:, :, 1:4] = np.eye(3)
            # ω × arm, of ω times the radius of gyration
            step[:, :, 4:] = np.cross(np.eye(3), arm[:, None], axis=-1).swapaxes(1, 2)
            step[:, :, 4:] /= gyration[one][:, None, None]
            change.append(step)
        change[1] = -change[1]
        tear = moved[0] - moved[1]
        curvature = np.zeros((count, count, STEP, STEP))
        gradient = np.zeros((count, STEP))
        for one, of_one in zip(self.pair.T, change, strict=True):
            np.add.at(gradient, one, np.einsum("nik,ni->nk", of_one, tear))
            for other, of_other in zip(self.pair.T, change, strict=True):
                block = np.einsum("nik,nil->nkl", of_one, of_other)
                np.add.at(curvature, (one, other), block)
        return curvature.swapaxes(1, 2).reshape(count * STEP, -1), gradient.ravel()


def density(bodies: list[Body], poses: Poses, edge: int) -> Float64:
    """What all bodies together show in a grid (edge, edge, edge)."""
    total = np.zeros((edge,) * 3)
    for body, turn, shift, share in zip(bodies, *vars(poses).values(), strict=True):
        box, values, _ = body.density(turn, shift, edge)
        total[box] += share * values
    return total


def fit(
    volume: Float32, bodies: list[Body], poses: Poses, ties: Ties, iterations: int
) -> tuple[Poses, Float64]:
    """Poses in which bodies explain a volume, by least squares from those that are given.

    Parameters
    ----------
    volume : (n, n, n)
    bodies : list of Body
    poses : Poses
    ties : Ties
    iterations : int
        At most.

    Returns
    -------
    poses : Poses
    curvature : (7G, 7G) float64
        JᵀJ of the densities at the last step, without ties.
    """
    count = len(bodies)
    curvature = np.zeros((count * STEP,) * 2)
    for _ in range(iterations):
        curvature, slope = _normal_equations(volume, bodies, poses)
        free = np.diag(curvature).reshape(count, STEP)
        stiffness = ties.stiffness * np.median(free[:, 1:4])
        tied, torn = ties.pull(bodies, poses)
        prior = np.zeros((count, STEP))
        prior[:, 0] = _HOLD * ties.stiffness * np.median(free[:, 0])
        pull = slope - stiffness * torn
        pull[::STEP] -= prior[:, 0] * (poses.occupancy - 1)
        prior += _DAMPING * (free + np.median(free, axis=0))
        step = np.linalg.solve(curvature + stiffness * tied + np.diag(prior.ravel()), pull)
        poses, size = _stepped(bodies, poses, np.asarray(step, np.float64).reshape(count, STEP))
        if size < _SETTLED_ANGSTROM:
            break
    return poses, curvature


def _stepped(bodies: list[Body], poses: Poses, step: Float64) -> tuple[Poses, float]:
    """Poses after a step (G, 7), and its largest length, Å."""
    gyration = np.array([[body.gyration] for body in bodies])
    turned = from_rotation_vector(step[:, 4:] / gyration) @ poses.rotation
    occupancy = np.maximum(poses.occupancy + step[:, 0], _LEAST_OCCUPANCY)
    size = float(np.linalg.norm(step[:, 1:], axis=1).max())
    return Poses(turned, poses.shift + step[:, 1:4], occupancy), size


def _normal_equations(volume: Float32, bodies: list[Body], poses: Poses) -> tuple[Float64, Float64]:
    """JᵀJ (7G, 7G) and Jᵀ of what the bodies leave of a volume (7G,)."""
    left = volume.astype(np.float64)
    boxes, columns = [], []
    for body, turn, shift, share in zip(bodies, *vars(poses).values(), strict=True):
        box, values, away = body.density(turn, shift, len(volume))
        left[box] -= share * values
        boxes.append(box)
        columns.append(_columns(body, values, away, share))
    slope = np.concatenate(
        [
            each.reshape(STEP, -1) @ left[box].ravel().astype(np.float32)
            for each, box in zip(columns, boxes, strict=True)
        ]
    )
    return _gram(columns, boxes), slope.astype(np.float64)


def _columns(body: Body, values: Float64, away: list[Float64], share: float) -> Float32:
    """Derivatives (7, …) of the density of a body by the numbers of a step."""
    z, y, x = (np.gradient(values, body.pixel_size, axis=axis) for axis in range(3))
    turning = [away[1] * z - away[2] * y, away[2] * x - away[0] * z, away[0] * y - away[1] * x]
    lengths = np.concatenate([np.stack([x, y, z]), np.stack(turning) / body.gyration])
    return np.concatenate([values[None], -share * lengths]).astype(np.float32)


def _gram(columns: list[Float32], boxes: list[Box]) -> Float64:
    """Inner products (7G, 7G) of the columns of bodies, where their boxes overlap."""
    count = len(columns)
    found = np.zeros((count, STEP, count, STEP))
    for g in range(count):
        for h in range(g, count):
            shared = [
                (max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(boxes[g], boxes[h], strict=True)
            ]
            if any(stop <= start for start, stop in shared):
                continue
            first, second = (
                columns[k][(slice(None), *_within(shared, boxes[k]))].reshape(STEP, -1)
                for k in (g, h)
            )
            found[g, :, h] = first @ second.T
            found[h, :, g] = found[g, :, h].T
    return found.reshape(count * STEP, -1)


def _within(shared: list[tuple[int, int]], box: Box) -> list[slice]:
    """A part of the grid as a part of a box."""
    return [slice(a - one.start, b - one.start) for (a, b), one in zip(shared, box, strict=True)]
