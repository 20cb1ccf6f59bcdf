"""Atoms of a coordinate file as residues and chains, and where they lie in the mean of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from solvar.errors import InputError
from solvar.imaging import rotations
from solvar.imaging.fourier import volume_shells
from solvar.structure_file import read_structure

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Å; where coordinate files end
_FAR = 1e5
# a shorter chain, as of a peptide or a primer, is read with the one beside it
_FEWEST_RESIDUES = 20
# orientations that show what chance does, and how many standard deviations beyond it a fit must be
_ORIENTATIONS, _BEYOND_CHANCE = 24, 4.0


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms, residue by residue in the order of their file.

    Attributes
    ----------
    positions : (A, 3) float64
        Å, xyz.
    weights : (A,) float64
        Electrons times occupancy.
    residue : (A,) int64
        The residue of each atom, rising from 0.
    number : (R,) int64
        Number of each residue in the file.
    chain : (R,) int64
        The chain of each residue, a place in `names`.
    names : tuple of str
    """

    positions: Float64
    weights: Float64
    residue: Int64
    number: Int64
    chain: Int64
    names: tuple[str, ...]

    @property
    def centre(self) -> Float64:
        """Centre of mass (3,), Å."""
        centre: Float64 = self.weights @ self.positions / self.weights.sum()
        return centre

    def moved(self, shift: Float64) -> Atoms:
        """All of them elsewhere by `shift` (3,), Å."""
        return replace(self, positions=self.positions + shift)

    def residue_centres(self) -> Float64:
        """Mean position (R, 3) of the atoms of each residue, Å."""
        sums = [np.bincount(self.residue, axis) for axis in self.positions.T]
        return np.stack(sums, axis=1) / np.bincount(self.residue)[:, None]


def read_atoms(path: Path) -> Atoms:
    """Atoms of the first model of a PDB or mmCIF file; ligands are left out where there are polymers.

    Chains of fewer than 20 residues become part of the longer one that is nearest.

    Raises
    ------
    InputError
        If the file cannot be read, or has no atoms, or one that is nowhere.
    """
    structure = read_structure(path)
    structure.setup_entities()
    model, polymers = structure[0], structure[0].clone()
    polymers.remove_ligands_and_waters()
    if polymers.count_atom_sites():
        model = polymers
    rows: list[tuple[float, ...]] = []
    number: list[int] = []
    chain: list[int] = []
    for k, one in enumerate(model):
        for residue in one:
            for atom in residue:
                electrons = atom.element.atomic_number * atom.occ
                rows.append((*atom.pos.tolist(), electrons, len(number)))
            number.append(residue.seqid.num or 0)
            chain.append(k)
    table = np.array(rows, np.float64)
    if not np.isfinite(table).all() or not (np.abs(table[:, :3]) < _FAR).all():
        raise InputError("has an atom that is nowhere", file=path)
    table = table[table[:, 3] > 0]
    if not len(table):
        raise InputError("all atoms have occupancy 0", file=path)
    kept, residues = np.unique(table[:, 4].astype(np.int64), return_inverse=True)
    atoms = Atoms(
        table[:, :3], table[:, 3], residues.astype(np.int64),
        np.array(number, np.int64)[kept], np.array(chain, np.int64)[kept],
        tuple(one.name for one in model),
    )  # fmt: skip
    return _short_chains_joined(atoms)


def _short_chains_joined(atoms: Atoms) -> Atoms:
    """Chains too short to be read alone as part of the longer one beside them."""
    from scipy.spatial import cKDTree

    length = np.bincount(atoms.chain, minlength=len(atoms.names))
    is_long = (length >= _FEWEST_RESIDUES)[atoms.chain]
    if is_long.all() or not is_long.any():
        return atoms
    centres, chain = atoms.residue_centres(), atoms.chain.copy()
    longer = cKDTree(centres[is_long])
    for k in np.flatnonzero((length > 0) & (length < _FEWEST_RESIDUES)):
        distance, nearest = longer.query(centres[atoms.chain == k])
        chain[atoms.chain == k] = atoms.chain[is_long][nearest[np.argmin(distance)]]
    return replace(atoms, chain=chain)


def spread(
    positions: Float64, weights: Float64, shape: tuple[int, int, int], pixel_size: float, origin: Float64
) -> Float64:  # fmt: skip
    """Points on a grid, each shared by the eight voxels around it; what is outside is lost.

    Parameters
    ----------
    positions : (A, 3)
        Å, xyz.
    weights : (A,)
    shape : (nz, ny, nx)
    pixel_size : float
        Å.
    origin : (3,)
        Voxel (z, y, x) of the point 0.

    Returns
    -------
    (nz, ny, nx) float64
    """
    place = positions[:, ::-1] / pixel_size + origin
    first = np.floor(place).astype(np.int64)
    beyond = place - first
    grid = np.zeros(int(np.prod(shape)))
    for corner in np.ndindex(2, 2, 2):
        voxel = first + corner
        share = weights * np.where(corner, beyond, 1 - beyond).prod(axis=1)
        inside = ((voxel >= 0) & (voxel < shape)).all(axis=1)
        index = np.ravel_multi_index(tuple(voxel[inside].T), shape)
        grid += np.bincount(index, share[inside], minlength=len(grid))
    return grid.reshape(shape)


def placed(atoms: Atoms, mean: Float32, pixel_size: float, path: Path) -> Atoms:
    """The atoms where they fit a map best, by translation alone; their positions are from its centre.

    Parameters
    ----------
    atoms : Atoms
    mean : (n, n, n) float32
        [z, y, x], low-passed to what it is compared at.
    pixel_size : float
        Å.
    path : Path
        Where the atoms come from.

    Raises
    ------
    InputError
        If they are larger than the map, or do not fit it better than in orientations drawn at random.
    """
    around = atoms.positions - atoms.centre
    if np.ptp(around, axis=0).max() > len(mean) * pixel_size:
        raise InputError(
            f"is {np.ptp(around, axis=0).max():.0f} Å across and the box of the run "
            f"{len(mean) * pixel_size:.0f} Å",
            file=path,
            remedy="give the model of the molecule that the run shows",
        )
    found, shift = _best_shift(around, atoms.weights, mean, pixel_size)
    drawn = rotations.random(_ORIENTATIONS, np.random.default_rng(0))
    chance = [_best_shift(around @ turn.T, atoms.weights, mean, pixel_size)[0] for turn in drawn]
    if found < max(max(chance), float(np.mean(chance) + _BEYOND_CHANCE * np.std(chance))):
        raise InputError(
            f"fits mean.mrc no better than turned at random (correlation {found:.2f}, "
            f"by chance {np.mean(chance):.2f})",
            file=path,
            remedy="fit it to mean.mrc first (fitmap in ChimeraX), and see whether the map has its hand",
        )
    return atoms.moved(shift - atoms.centre)


def _best_shift(
    positions: Float64, weights: Float64, mean: Float32, pixel_size: float
) -> tuple[float, Float64]:
    """Correlation of atoms with a map at the best translation, and that translation (3,) from its centre, Å.

    The atoms get the map's mean amplitude in each shell, which does not depend on their orientation.
    """
    import scipy.fft

    n = len(mean)
    grid = spread(positions, weights, (n, n, n), pixel_size, np.full(3, n // 2))
    atoms, target = scipy.fft.rfftn(grid), scipy.fft.rfftn(mean)
    shell = volume_shells(n).ravel()
    power = [np.bincount(shell, np.abs(each.ravel()) ** 2) for each in (atoms, target)]
    ratio = np.sqrt(power[1] / np.maximum(power[0], 1e-30))
    ratio[0] = 0
    atoms *= ratio[shell].reshape(atoms.shape)
    target.flat[0] = 0
    norms = [np.linalg.norm(scipy.fft.irfftn(each, mean.shape)) for each in (atoms, target)]
    product = scipy.fft.irfftn(target * atoms.conj(), mean.shape)
    best = np.array(np.unravel_index(np.argmax(product), product.shape))
    away = (best + n // 2) % n - n // 2
    shift: Float64 = pixel_size * away[::-1].astype(np.float64)
    return float(product.max() / (norms[0] * norms[1])), shift
