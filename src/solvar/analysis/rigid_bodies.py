"""Which chains or parts of chains of an atomic model move how far along a component, as rigid bodies.

The model is cut into blocks of neighbouring residues that are tied where they touch. Blocks follow the volumes
along the component from its middle to both ends. What they have done there says where chains bend: blocks
of a chain that share one motion are a body. Bodies, tied as good as not at all, are fitted to the volumes at
both ends once more, and the difference of their two poses is what is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.atoms import Atoms, placed, read_atoms
from solvar.analysis.body_fit import STEP, Body, Poses, Response, Ties, density, fit
from solvar.analysis.curves import Curves
from solvar.analysis.segments import Moments, Part, blocks_of, contacts, moving_as_one
from solvar.errors import InputError
from solvar.fitting.result import RESOLVED
from solvar.imaging.fourier import crop_volume, low_passed
from solvar.imaging.rotations import to_rotation_vector
from solvar.progress import Progress, harmless
from solvar.results.run import Run

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

MOVES, STILL, NOT_RIGID, COMES_AND_GOES = "moves", "still", "not rigid", "comes and goes"

_POINTS = 9
_VOXELS_PER_DETAIL, _LARGEST_GRID, _LARGEST_PLACING = 3.0, 128, 64
_FINEST_ANGSTROM = 5.0
_FIRST_ITERATIONS, _ITERATIONS, _LAST_ITERATIONS = 8, 3, 8
# stiffness of a tie between blocks, and between bodies: enough for one that has vanished
_BLOCK_TIE, _BODY_TIE = 0.02, 0.0005
# of the largest density of a body: there it is
_PRESENT_FROM = 0.1
_HARDLY_THERE, _EXPLAINED, _BEYOND_CHANCE = 0.35, 0.5, 2.0


@dataclass(frozen=True)
class BodyMotion:
    """How a body gets from one end of a component to the other.

    Attributes
    ----------
    body : str
        A chain, or a chain and its residues: ``A`` or ``A:30-67,118-160``.
    residues : int
    displacement_angstrom, error_angstrom : float
        Root mean square over its atoms, and the standard error.
    rotation_degree : float
    axis : (3,) floats
        Of the rotation, right-handed, xyz of the map.
    translation_angstrom : (3,) floats
        Of its centre of mass.
    occupancy : (2,) floats
        How much of it is there at either end; 1 is as much as of most atoms.
    correlation : float
        Of the change of density where the body is with that which all bodies together make.
    explained : float
        The share of that change which they make.
    verdict : str
        ``moves``, ``still``, ``not rigid`` or ``comes and goes``.
    """

    body: str
    residues: int
    displacement_angstrom: float
    error_angstrom: float
    rotation_degree: float
    axis: tuple[float, float, float]
    translation_angstrom: tuple[float, float, float]
    occupancy: tuple[float, float]
    correlation: float
    explained: float
    verdict: str


@dataclass(frozen=True)
class ComponentMotion:
    """The bodies along a component, counted from 1, as they are told apart at a resolution (Å)."""

    component: int
    resolution_angstrom: float
    bodies: tuple[BodyMotion, ...]


@dataclass(frozen=True, eq=False)
class Ends:
    """What is known of the two ends of a component.

    Attributes
    ----------
    change, made : (n, n, n) float64
        Of density from one end to the other, and by the bodies.
    poses : (2,) Poses
    curvature : (7G, 7G) float64
        Mean of that of the two fits.
    independent : float
        Fourier coefficients a voxel.
    """

    change: Float64
    made: Float64
    poses: tuple[Poses, Poses]
    curvature: Float64
    independent: float


def resolved_components(run: Run, chosen: list[int]) -> list[int]:
    """Those of the `chosen` components of a run, from 1, or of all, that its half-sets resolve.

    Raises
    ------
    InputError
        If there is none.
    """
    validation = run.validation
    wanted = chosen or range(1, run.rank + 1)
    found = [j for j in wanted if validation is not None and validation.verdict(j - 1) == RESOLVED]
    if not found:
        why = "no component is resolved" if validation is not None else "the run had no half-sets"
        raise InputError(
            f"{why}, so that nothing is known of what moves where",
            file=run.folder,
            remedy="leave --atoms out",
        )
    return found


def atoms_of_run(run: Run, path: Path) -> Atoms:
    """The atoms of a file where the mean of a run has them; positions are from the centre of its box.

    Raises
    ------
    InputError
        If the file cannot be read, or its atoms do not fit the mean.
    """
    atoms = read_atoms(path)
    finest = max(_FINEST_ANGSTROM, _VOXELS_PER_DETAIL * run.extent_angstrom / _LARGEST_PLACING)
    edge = _edge(run, finest)
    mean = _seen(run, run.model.mean, finest, edge)
    return placed(atoms, mean, run.extent_angstrom / edge, path)


def rigid_bodies(
    run: Run, atoms: Atoms, components: list[int], progress: Progress | None = None
) -> list[ComponentMotion]:
    """How the bodies of a model move along components of a run.

    Parameters
    ----------
    run : Run
    atoms : Atoms
        As of `atoms_of_run`.
    components : list of int
        From 1; resolved ones.
    progress : Progress, optional
    """
    curves, told = Curves(run), []
    with harmless(progress).step("Rigid bodies", len(components), "components") as step:
        for component in components:
            told.append(_along(run, atoms, curves.along(component, _POINTS), component))
            step.advance()
    return told


def _along(run: Run, atoms: Atoms, latents: Float64, component: int) -> ComponentMotion:
    """The bodies along a component, whose points are latents (n, r)."""
    assert run.validation is not None  # who else would know that it is resolved
    resolution = float(run.validation.component_resolution[component - 1])
    finest = max(_FINEST_ANGSTROM, _VOXELS_PER_DETAIL * run.extent_angstrom / _LARGEST_GRID, resolution)
    mean, volumes = _volumes(run, latents, finest)
    pixel_size = run.extent_angstrom / len(mean)
    atoms = _fitted_as_one(atoms, mean, pixel_size, finest)
    response = Response.between(atoms, mean, pixel_size)
    blocks = blocks_of(atoms)
    before, after = _followed(atoms, blocks, response, finest, mean, volumes)
    tolerance = max(_PRECISION * finest, _SHARED * _largest(blocks, before, after))
    parts = moving_as_one(atoms, blocks, before, after, tolerance)
    ends = _at_both_ends(atoms, parts, response, finest, (before, after), (volumes[0], volumes[-1]))
    return ComponentMotion(component, finest, tuple(_motion(atoms, ends, g) for g in range(len(parts))))


def _edge(run: Run, finest: float) -> int:
    """Voxels of a grid, an even number, on which details of `finest` Å are sampled well."""
    return 2 * int(np.ceil(_VOXELS_PER_DETAIL * run.extent_angstrom / finest / 2))


def _seen(run: Run, volume: Float32, finest: float, edge: int) -> Float32:
    """A volume of a run low-passed to `finest` Å, on a grid of `edge` voxels."""
    return crop_volume(low_passed(volume, run.extent_angstrom / finest), edge)


def _volumes(run: Run, latents: Float64, finest: float) -> tuple[Float32, list[Float32]]:
    """Mean and volumes at latents, no finer than `finest` Å and than the half-sets support each component."""
    model, validation = run.model, run.validation
    assert validation is not None
    edge = _edge(run, finest)
    mean = _seen(run, model.mean, finest, edge)
    supported = np.flatnonzero(validation.reliable & np.isfinite(validation.component_resolution))
    change = [
        _seen(run, model.eigenvolumes[j], max(finest, validation.component_resolution[j]), edge)
        for j in supported
    ]
    volumes = [
        mean + np.tensordot(z[supported].astype(np.float32), change, axes=1) for z in latents
    ]
    return mean, volumes


def _bodies(atoms: Atoms, parts: list[Part], response: Response, margin: float) -> list[Body]:
    return [
        Body(atoms.positions[part.atoms], atoms.weights[part.atoms], response, margin) for part in parts
    ]


def _fitted_as_one(atoms: Atoms, mean: Float32, pixel_size: float, finest: float) -> Atoms:
    """The whole model turned and moved to fit the mean, from where it nearly does."""
    response = Response.between(atoms, mean, pixel_size)
    body = Body(atoms.positions, atoms.weights, response, finest)
    free = Ties(np.zeros((0, 3)), np.zeros((0, 2), np.int64), 0.0)
    poses, _ = fit(mean, [body], Poses.at_rest(1), free, _FIRST_ITERATIONS)
    return replace(atoms, positions=body.moved(poses.rotation[0], poses.shift[0]))


def _followed(
    atoms: Atoms, blocks: list[Part], response: Response, finest: float, mean: Float32, volumes: list[Float32]
) -> tuple[Float64, Float64]:  # fmt: skip
    """Positions (A, 3) of the atoms at both ends of a path, of blocks that follow its volumes from the middle."""
    bodies = _bodies(atoms, blocks, response, finest)
    ties = Ties(*contacts(atoms, blocks), _BLOCK_TIE)
    start, _ = fit(mean, bodies, Poses.at_rest(len(bodies)), ties, _FIRST_ITERATIONS)
    middle = len(volumes) // 2
    ends = []
    for way in (volumes[middle::-1], volumes[middle:]):
        poses = start
        for volume in way:
            poses, _ = fit(volume, bodies, poses, ties, _ITERATIONS)
        moved = np.empty_like(atoms.positions)
        for part, body, turn, shift in zip(blocks, bodies, poses.rotation, poses.shift, strict=True):
            moved[part.atoms] = body.moved(turn, shift)
        ends.append(moved)
    return ends[0], ends[1]


def _largest(parts: list[Part], before: Float64, after: Float64) -> float:
    """The largest displacement of a part, root mean square over its atoms, Å."""
    square = ((after - before) ** 2).sum(axis=1)
    return float(np.sqrt(max(square[part.atoms].mean() for part in parts)))


def _at_both_ends(
    atoms: Atoms, parts: list[Part], response: Response, finest: float,
    starts: tuple[Float64, Float64], volumes: tuple[Float32, Float32],
) -> Ends:  # fmt: skip
    """Bodies fitted to the volumes at both ends, from where their blocks are."""
    bodies, ties = _bodies(atoms, parts, response, finest), Ties(*contacts(atoms, parts), _BODY_TIE)
    fitted, shown, curvature = [], [], 0.0
    for volume, moved in zip(volumes, starts, strict=True):
        turn, shift = [], []
        for part, body in zip(parts, bodies, strict=True):
            weights = atoms.weights[part.atoms]
            sums = Moments.of(weights, body.around, moved[part.atoms])
            turn.append(sums.rotation())
            shift.append(sums.after / sums.weight - body.centre)
        start = Poses(np.stack(turn), np.stack(shift), np.ones(len(parts)))
        poses, found = fit(volume, bodies, start, ties, _LAST_ITERATIONS)
        fitted.append(poses)
        shown.append(density(bodies, poses, len(volume)))
        curvature = curvature + found / 2
    independent = 4 / 3 * np.pi * (response.pixel_size / finest) ** 3
    ...
