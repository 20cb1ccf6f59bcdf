"""What differs between the particles: where the blobs of each one are and how much they weigh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging.point_groups import PointGroup
from solvar.simulation.assembly import Assembly, all_states
from solvar.simulation.molecule import FlexibleMolecule, atoms_from_file, flexible_molecule
from solvar.simulation.settings import SimulationSettings
from solvar.simulation.volumes import blob_volume

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Place = Callable[[Float64], tuple[Float64, Float64]]

_QUADRATURE = 12  # nodes per continuous coordinate: exact for polynomials of degree 23
_EXAMPLES = 12


@dataclass(frozen=True, eq=False)
class Modes:
    """A linear ensemble: blob weights = mean + Σ_j z_j mode_j with independent Gaussian z_j.

    Attributes
    ----------
    weights : (r, A) float64
        Each mode's volume has unit Euclidean norm over the voxels; modes are orthogonal to each
        other and to the mean volume.
    variance : (r,) float64
        Var z_j, descending.
    """

    weights: Float64
    variance: Float64


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The conformations of N particles.

    Attributes
    ----------
    sigma_angstrom : float
        Width of every blob.
    place : callable
        (n, d) coordinates -> positions (n, A, 3) in Å and weights (n, A).
    coordinate : (N, d) float64
        State coordinates of the particles; d = 0 without heterogeneity.
    state : (N,) int64 or None
        Discrete state of the particles.
    nodes, node_weight : (K, d), (K,) float64
        Conformations whose weighted mean and covariance are those of the population.
    examples : (M, d) float64
        A few conformations worth writing as volumes.
    example_name : tuple of M str
        Their file names; the number of the state where states are discrete.
    modes : Modes or None
        Set for linear ensembles, whose covariance is that of the modes.
    """

    sigma_angstrom: float
    place: Place
    coordinate: Float64
    state: Int64 | None
    nodes: Float64
    node_weight: Float64
    examples: Float64
    example_name: tuple[str, ...]
    modes: Modes | None = None


def build_ensemble(settings: SimulationSettings) -> Ensemble:
    """Draw the conformations of all particles as `settings` ask."""
    rng = np.random.default_rng([settings.seed, 3])
    if settings.heterogeneity == "gaussian":
        return _gaussian(settings, rng)
    if settings.atoms is not None:
        return _file_states(settings, rng)
    if settings.symmetry != "C1":
        return _assembly(settings, rng)
    molecule = _fitted_molecule(settings)
    sigma = molecule.sigma_angstrom if settings.blob_sigma is None else settings.blob_sigma

    def place(coordinate: Float64) -> tuple[Float64, Float64]:
        ends = np.full((len(coordinate), 2), 0.5)
        # the hinge rests where the loop alone swings
        ends[:, 2 - coordinate.shape[1] :] = coordinate
        positions = molecule.conformation(*(0.5 + settings.motion * (ends.T - 0.5)))
        return positions, np.broadcast_to(molecule.weights, positions.shape[:2])

    if settings.heterogeneity == "hinge-loop":
        return _continuous(sigma, place, settings.particles, rng)
    if settings.heterogeneity == "loop":
        return _local(sigma, place, settings.particles, rng)
    if settings.heterogeneity == "discrete":
        return _discrete(sigma, place, _spread_out(settings.states), settings.particles, rng)
    return _rigid(sigma, place, settings.particles)


def _fitted_molecule(settings: SimulationSettings) -> FlexibleMolecule:
    """The built-in molecule, scaled to the wanted diameter."""
    molecule = flexible_molecule(settings.seed)
    return molecule.scaled(settings.wanted_diameter / molecule.diameter())


def _assembly(settings: SimulationSettings, rng: np.random.Generator) -> Ensemble:
    """Subunits about symmetry axes, all alike or each open or closed for itself."""
    group = PointGroup.named(settings.symmetry)
    assembly = Assembly.of(flexible_molecule(settings.seed), group, settings.wanted_diameter)
    sigma, count = assembly.subunit.sigma_angstrom, settings.particles
    sigma = sigma if settings.blob_sigma is None else settings.blob_sigma

    def place(coordinate: Float64) -> tuple[Float64, Float64]:
        states = coordinate if coordinate.shape[1] else np.full((len(coordinate), len(group)), 0.5)
        positions = assembly.positions(states)
        return positions, np.broadcast_to(assembly.weights, positions.shape[:2])

    if settings.heterogeneity == "rigid":
        return _rigid(sigma, place, count)
    nodes, weight = all_states(len(group), settings.occupancy)
    shown = np.unique(np.rint(np.linspace(0, len(nodes) - 1, _EXAMPLES)).astype(np.int64))
    return Ensemble(
        sigma_angstrom=sigma,
        place=place,
        coordinate=(rng.random((count, len(group))) < settings.occupancy).astype(np.float64),
        state=None,
        nodes=nodes,
        node_weight=weight,
        examples=nodes[shown],
        example_name=tuple(f"{number:03d}" for number in shown),
    )


def _continuous(sigma: float, place: Place, count: int, rng: np.random.Generator) -> Ensemble:
    """Hinge and loop, uniform on the unit square."""
    node, weight = np.polynomial.legendre.leggauss(_QUADRATURE)
    hinge, loop = np.meshgrid((node + 1) / 2, (node + 1) / 2, indexing="ij")
    examples = [(h, u) for h in (0.0, 1 / 3, 2 / 3, 1.0) for u in (0.0, 0.5, 1.0)]
    return Ensemble(
        sigma_angstrom=sigma,
        place=place,
        coordinate=rng.random((count, 2)),
        state=None,
        nodes=np.column_stack([hinge.ravel(), loop.ravel()]),
        node_weight=np.outer(weight, weight).ravel() / 4,
        examples=np.array(examples),
        example_name=tuple(f"{number:03d}" for number in range(len(examples))),
    )


def _local(sigma: float, place: Place, count: int, rng: np.random.Generator) -> Ensemble:
    """The loop alone, a tenth of the molecule, uniform along its swing."""
    node, weight = np.polynomial.legendre.leggauss(_QUADRATURE)
    return Ensemble(
        sigma_angstrom=sigma,
        place=place,
        coordinate=rng.random((count, 1)),
        state=None,
        nodes=(node[:, None] + 1) / 2,
        node_weight=weight / 2,
        examples=np.linspace(0, 1, _EXAMPLES)[:, None],
        example_name=tuple(f"{number:03d}" for number in range(_EXAMPLES)),
    )


def _discrete(
    sigma: float, place: Place, states: Float64, count: int, rng: np.random.Generator
) -> Ensemble:
    """States (K, d), equally likely; the truth weighs them as they were drawn."""
    state = rng.integers(len(states), size=count)
    population = np.bincount(state, minlength=len(states)) / count
    shown = np.unique(np.rint(np.linspace(0, len(states) - 1, _EXAMPLES)).astype(np.int64))
    return Ensemble(
        sigma_angstrom=sigma,
        place=place,
        coordinate=states[state],
        state=state,
        nodes=states,
        node_weight=population,
        examples=states[shown],
        example_name=tuple(f"{number:03d}" for number in shown),
    )


def _rigid(sigma: float, place: Place, count: int) -> Ensemble:
    return Ensemble(
        sigma_angstrom=sigma,
        place=place,
        coordinate=np.empty((count, 0)),
        state=None,
        nodes=np.empty((1, 0)),
        node_weight=np.ones(1),
        examples=np.empty((1, 0)),
        example_name=("000",),
    )


def _spread_out(count: int) -> Float64:
    """`count` well separated points of the unit square (the plastic number's sequence)."""
    number = np.arange(count)[:, None]
    return (0.5 + number * np.array([0.7548776662466927, 0.5698402909980532])) % 1.0


def _file_atoms(settings: SimulationSettings) -> tuple[Float64, Float64, float]:
    """Positions (K, A, 3), weights and blob width of an atom file, at the wanted diameter."""
    assert settings.atoms is not None
    atoms = atoms_from_file(settings.atoms)
    diameter = 2 * float(np.linalg.norm(atoms.positions, axis=-1).max())
    factor = 1.0 if settings.diameter is None else settings.diameter / diameter
    if factor * diameter > settings.box_size * settings.pixel_size:
        raise InputError(
            f"the molecule is {factor * diameter:.0f} Å across and the box "
            f"{settings.box_size * settings.pixel_size:.0f} Å",
            file=settings.atoms,
            remedy="choose a larger box, larger pixels or a smaller diameter",
        )
    sigma = 1.0 if settings.blob_sigma is None else settings.blob_sigma
    return atoms.positions * factor, atoms.weights, sigma


def _file_states(settings: SimulationSettings, rng: np.random.Generator) -> Ensemble:
    """The models of a file as discrete states along a path, coordinate 0 to 1 in file order."""
    models, weights, sigma = _file_atoms(settings)

    def place(coordinate: Float64) -> tuple[Float64, Float64]:
        if not coordinate.shape[1]:
            number = np.zeros(len(coordinate), np.int64)
        else:
            number = np.rint(coordinate[:, 0] * (len(models) - 1)).astype(np.int64)
        return models[number], np.broadcast_to(weights, (len(number), len(weights)))

    if settings.heterogeneity == "rigid" or len(models) == 1:
        return _rigid(sigma, place, settings.particles)
    path = np.linspace(0, 1, len(models))[:, None]
    return _discrete(sigma, place, path, settings.particles, rng)


def _gaussian(settings: SimulationSettings, rng: np.random.Generator) -> Ensemble:
    """Blobs that stay where they are and change their weights along a few smooth modes."""
    if settings.atoms is not None:
        models, weights, sigma = _file_atoms(settings)
        positions = models[0]
    else:
        molecule = _fitted_molecule(settings)
        positions, weights = molecule.conformation(0.5, 0.5), molecule.weights
        sigma = molecule.sigma_angstrom if settings.blob_sigma is None else settings.blob_sigma
    modes = _smooth_modes(positions, weights, sigma, settings, rng)
    count, rank = settings.particles, settings.rank

    def place(latent: Float64) -> tuple[Float64, Float64]:
        here = np.broadcast_to(positions, (len(latent), *positions.shape))
        return here, weights + latent @ modes.weights

    spread = np.sqrt(modes.variance)
    ends = np.concatenate([np.zeros((1, rank)), np.diag(spread), -np.diag(spread)])[:_EXAMPLES]
    return Ensemble(
        sigma_angstrom=sigma,
        place=place,
        coordinate=rng.standard_normal((count, rank)) * spread,
        state=None,
        nodes=np.zeros((1, rank)),
        node_weight=np.ones(1),
        examples=ends,
        example_name=tuple(f"{number:03d}" for number in range(len(ends))),
        modes=modes,
    )


def _smooth_modes(
    positions: Float64,
    weights: Float64,
    sigma: float,
    settings: SimulationSettings,
    rng: np.random.Generator,
) -> Modes:
    """Slow waves of weight over the molecule, orthonormal as volumes and orthogonal to the mean."""
    rank = settings.rank
    radius = np.linalg.norm(positions, axis=1).max()
    wave = rng.standard_normal((rank, 3)) * (1.5 / radius)
    pattern = weights * np.cos(wave @ positions.T + rng.uniform(0, 2 * np.pi, (rank, 1)))
    basis = np.concatenate([weights[None], pattern])
    volumes = np.stack(
        [
            blob_volume(positions, row, sigma, settings.box_size, settings.pixel_size).ravel()
            for row in basis
        ]
    )
    gram = (volumes @ volumes.T).astype(np.float64)
    # Gram-Schmidt with the mean first: rows of the inverse Cholesky factor are the coefficients
    coefficients = np.linalg.inv(np.linalg.cholesky(gram))
    share = 1 / np.arange(1, rank + 1)
    variance = settings.heterogeneity_fraction * gram[0, 0] * share / share.sum()
    return Modes((coefficients @ basis)[1:], variance)
