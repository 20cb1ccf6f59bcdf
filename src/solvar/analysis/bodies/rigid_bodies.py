"""Which chains of an atomic model, or parts of them, move how far along a component, as rigid bodies.

The model is cut into blocks of neighbouring residues, tied where they touch, which follow the volumes along
the component from its middle to both ends. Where they end up says where chains bend: blocks of a chain that
share a rigid motion are a body. Bodies, hardly tied any more, are fitted to the volumes at both ends once
more, and the difference of their two poses is what is told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.analysis.bodies.atoms import Atoms, placed, read_atoms
from solvar.analysis.bodies.fit import Body, Poses, Response, Ties, density, fit
from solvar.analysis.bodies.motion import BodyMotion, Ends, motions
from solvar.analysis.bodies.segments import Moments, Part, blocks_of, contacts, moving_as_one
from solvar.analysis.curves import Curves
from solvar.errors import InputError
from solvar.fitting.result import RESOLVED
from solvar.imaging.fourier import crop_volume, low_passed
from solvar.progress import Progress, harmless
from solvar.results.run import Run
from solvar.results.supported import have_shape

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_POINTS = 9
# Amplitudes of a change are lost before halves cease to agree on it: it is looked at coarser than that
_COARSER, _COARSE_ANGSTROM, _FINEST_ANGSTROM = 1.5, 20.0, 8.0
_VOXELS_PER_DETAIL, _LARGEST_GRID, _LARGEST_PLACING = 3.0, 128, 64
_PLACING_ITERATIONS, _FIRST_ITERATIONS, _ITERATIONS = 20, 8, 3
# of a tie between blocks, and between bodies: enough for one that is hardly there
_BLOCK_TIE, _BODY_TIE = 0.02, 0.0005
# what blocks of a body may be off: a share of the detail, or of the largest displacement
_PRECISION, _SHARED = 0.1, 0.25


@dataclass(frozen=True)
class ComponentMotion:
    """The bodies along a component.

    Attributes
    ----------
    component : int
        From 1.
    resolution_angstrom : float
        Up to which density was compared.
    bodies : tuple of BodyMotion
        In the order of the model.
    """

    component: int
    resolution_angstrom: float
    bodies: tuple[BodyMotion, ...]


@dataclass(frozen=True, eq=False)
class Model:
    """An atomic model of what a run shows.

    Attributes
    ----------
    atoms : Atoms
        Where the mean has them; positions are from the centre of its box.
    components : list of int
        From 1, those along which its motion is asked for.
    messages : list of str
        What to know about it.
    """

    atoms: Atoms
    components: list[int]
    messages: list[str]


@dataclass(frozen=True, eq=False)
class Scene:
    """A model as a map of a certain resolution shows it."""

    atoms: Atoms
    response: Response
    resolution: float

    def bodies(self, parts: list[Part]) -> list[Body]:
        """Parts of the model as bodies of density."""
        positions, weights = self.atoms.positions, self.atoms.weights
        return [
            Body(positions[part.atoms], weights[part.atoms], self.response, self.resolution)
            for part in parts
        ]


def model_of_run(run: Run, path: Path, chosen: list[int]) -> Model:
    """The atoms of a file where a run has them, and the components along which they can be followed.

    Parameters
    ----------
    run : Run
    path : Path
        PDB or mmCIF.
    chosen : list of int
        Components, from 1; empty for all. Those that the half-sets resolve are kept.

    Raises
    ------
    InputError
        If no such component is resolved, the file cannot be read, or its atoms do not fit the mean.
    """
    components, atoms = _resolved(run, chosen), read_atoms(path)
    finest = max(_FINEST_ANGSTROM, _VOXELS_PER_DETAIL * run.extent_angstrom / _LARGEST_PLACING)
    mean = _seen(run, run.model.mean, finest, _edge(run, finest))
    found = placed(atoms, mean, run.extent_angstrom / len(mean), path)
    # the first voxel of the maps of a run lies at 0
    corner = run.pixel_size_angstrom * (run.box_size // 2)
    far = float(np.linalg.norm(found.centre + corner - atoms.centre))
    told = (
        f"The atoms fit the mean {far:.0f} Å from where their file has them, and were moved there."
    )
    return Model(found, components, [told] if far > finest else [])


def _resolved(run: Run, chosen: list[int]) -> list[int]:
    """Those of the chosen components, or of all, that the half-sets resolve; from 1."""
    validation = run.validation
    wanted = chosen or range(1, run.rank + 1)
    found = [j for j in wanted if validation is not None and validation.verdict(j - 1) == RESOLVED]
    if not found:
        why = "no component is resolved" if validation is not None else "the run had no half-sets"
        raise InputError(
            f"{why}: nothing is known of what moves where",
            file=run.folder,
            remedy="leave --atoms out",
        )
    return sorted(set(found))


def rigid_bodies(run: Run, model: Model, progress: Progress | None = None) -> list[ComponentMotion]:
    """How the bodies of a model move along each of its components."""
    curves, told = Curves(run), []
    with harmless(progress).step("Rigid bodies", len(model.components), "components") as step:
        for component in model.components:
            latents = curves.along(component, _POINTS)
            told.append(_along(run, model.atoms, latents, component))
            step.advance()
    return told


def _along(run: Run, atoms: Atoms, latents: Float64, component: int) -> ComponentMotion:
    """The bodies along a component, whose points are latents (n, r)."""
    assert run.validation is not None  # who else would know that it is resolved
    resolution = max(
        _resolution(float(run.validation.component_resolution[component - 1])),
        _VOXELS_PER_DETAIL * run.extent_angstrom / _LARGEST_GRID,
    )
    mean, volumes = _volumes(run, latents, resolution)
    scene = _scene(atoms, mean, run.extent_angstrom / len(mean), resolution)
    blocks = blocks_of(scene.atoms)
    before, after = _followed(scene, blocks, mean, volumes)
    off = max(_PRECISION * resolution, _SHARED * _largest(blocks, before, after))
    parts = moving_as_one(scene.atoms, blocks, before, after, off)
    ends = _at_both_ends(scene, parts, (before, after), (volumes[0], volumes[-1]))
    names = [part.name(atoms) for part in parts]
    return ComponentMotion(component, resolution, tuple(motions(names, ends)))


def _resolution(supported: float) -> float:
    """Å at which a component is read that the half-sets support up to `supported`."""
    return max(supported, _FINEST_ANGSTROM, min(_COARSER * supported, _COARSE_ANGSTROM))


def _edge(run: Run, finest: float) -> int:
    """Voxels, an even number, of a grid on which details of `finest` Å are sampled well."""
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
    supported = np.flatnonzero(have_shape(run))
    change = [
        _seen(run, model.eigenvolumes[j], max(finest, validation.component_resolution[j]), edge)
        for j in supported
    ]
    chosen = latents[:, supported].astype(np.float32)
    return mean, [mean + np.tensordot(z, change, axes=1) for z in chosen]


def _scene(atoms: Atoms, mean: Float32, pixel_size: float, resolution: float) -> Scene:
    """The whole model turned and moved to fit the mean, from where it nearly does: first without detail."""
    everything = Part(0, np.arange(len(atoms.chain)), np.arange(len(atoms.positions)))
    nobody = Ties(np.zeros((0, 3)), np.zeros((0, 2), np.int64), 0)
    for detail in (max(resolution, _COARSE_ANGSTROM), resolution):
        seen = low_passed(mean, len(mean) * pixel_size / detail)
        start = Scene(atoms, Response.between(atoms, seen, pixel_size), detail)
        bodies = start.bodies([everything])
        poses, _ = fit(seen, bodies, Poses.at_rest(1), nobody, _PLACING_ITERATIONS)
        atoms = replace(atoms, positions=bodies[0].moved(poses.rotation[0], poses.shift[0]))
    return Scene(atoms, Response.between(atoms, mean, pixel_size), resolution)


def _followed(
    scene: Scene, blocks: list[Part], mean: Float32, volumes: list[Float32]
) -> tuple[Float64, Float64]:
    """Positions (A, 3) of all atoms at both ends of a path, of blocks that follow its volumes there."""
    bodies, ties = scene.bodies(blocks), Ties(*contacts(scene.atoms, blocks), _BLOCK_TIE)
    start, _ = fit(mean, bodies, Poses.at_rest(len(bodies)), ties, _FIRST_ITERATIONS)
    middle, ends = len(volumes) // 2, []
    for way in (volumes[middle::-1], volumes[middle:]):
        poses = start
        for volume in way:
            poses, _ = fit(volume, bodies, poses, ties, _ITERATIONS)
        moved = np.empty_like(scene.atoms.positions)
        for part, body, turn, shift in zip(
            blocks, bodies, poses.rotation, poses.shift, strict=True
        ):
            moved[part.atoms] = body.moved(turn, shift)
        ends.append(moved)
    return ends[0], ends[1]


def _largest(parts: list[Part], before: Float64, after: Float64) -> float:
    """The largest displacement of a part, root mean square over its atoms, Å."""
    square = ((after - before) ** 2).sum(axis=1)
    return float(np.sqrt(max(square[part.atoms].mean() for part in parts)))


def _at_both_ends(
    scene: Scene,
    parts: list[Part],
    starts: tuple[Float64, Float64],
    volumes: tuple[Float32, Float32],
) -> Ends:
    """Bodies fitted to the volumes at both ends, from where their blocks are, (A, 3) each."""
    bodies, ties = scene.bodies(parts), Ties(*contacts(scene.atoms, parts), _BODY_TIE)
    poses, shown, curvature = [], [], []
    for volume, moved in zip(volumes, starts, strict=True):
        start = _superposed(scene.atoms.weights, parts, bodies, moved)
        found, curved = fit(volume, bodies, start, ties, _FIRST_ITERATIONS)
        poses.append(found)
        shown.append(density(bodies, found, len(volume)))
        curvature.append(curved)
    change, made = volumes[1] - volumes[0], shown[1] - shown[0]
    return Ends(bodies, poses, change, made, curvature, scene.resolution)


def _superposed(weights: Float64, parts: list[Part], bodies: list[Body], moved: Float64) -> Poses:
    """Poses that bring bodies to where their atoms are to be, (A, 3), as well as rigid ones can."""
    turn, shift = [], []
    for part, body in zip(parts, bodies, strict=True):
        sums = Moments.of(weights[part.atoms], body.around, moved[part.atoms])
        turn.append(sums.rotation())
        shift.append(sums.after / sums.weight - body.centre)
    return Poses(np.stack(turn), np.stack(shift), np.ones(len(parts)))
