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
from solvar.analysis.segments import Blocks, blocks_of, pieces
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
    validation = run.validation
    assert validation is not None  # who else would know that it is resolved
    largest_detail = _VOXELS_PER_DETAIL * run.extent_angstrom / _LARGEST_GRID
    resolution = float(validation.component_resolution[component - 1])
    finest = max(_FINEST_ANGSTROM, largest_detail, resolution)
    mean, volumes = _volumes(run, latents, finest)
    pixel_size = run.extent_angstrom / len(mean)
    response = Response.between(atoms, mean, pixel_size)
    atoms = _fitted_as_one(atoms, mean, response, finest)
    response = Response.between(atoms, mean, pixel_size)
    blocks = blocks_of(atoms)
    first, last = _followed(mean, volumes, atoms, blocks, response, finest)
    parts = pieces(atoms, blocks, first, last, finest)
    bodies = [_body(atoms, part.atoms, response, finest) for part in parts]
    ...
