"""The built-in molecule and atoms from files."""

import numpy as np
import pytest

from solvar.errors import InputError
from solvar.simulation import atoms_from_file, flexible_molecule

PDB = """\
MODEL        1
ATOM      1  CA  ALA A   1    {0:8.3f}   0.000   0.000  1.00  0.00           C
ATOM      2  N   ALA A   1       0.000   4.000   0.000  0.50  0.00           N
HETATM    3  O   HOH A   2       9.000   9.000   9.000  1.00  0.00           O
ENDMDL
MODEL        2
ATOM      1  CA  ALA A   1    {1:8.3f}   0.000   0.000  1.00  0.00           C
ATOM      2  N   ALA A   1       0.000   4.000   0.000  0.50  0.00           N
ENDMDL
END
"""


def test_hinge_moves_the_arm_alone_and_loop_the_loop_alone():
    molecule = flexible_molecule()
    rest = molecule.conformation(0.5, 0.5)
    for moving, ends in ((molecule.arm, (0.9, 0.5)), (molecule.loop, (0.5, 0.9))):
        displacement = np.linalg.norm(molecule.conformation(*ends) - rest, axis=1)
        np.testing.assert_allclose(displacement[~moving], 0, atol=1e-9)
        assert displacement[moving].max() > 8


def test_motions_are_rigid_within_each_part():
    molecule = flexible_molecule()
    first, second = molecule.conformation([0.0, 1.0], [0.2, 0.7])
    for part in (molecule.arm, molecule.loop):
        distances = [
            np.linalg.norm(x[part][:, None] - x[part][None], axis=-1) for x in (first, second)
        ]
        np.testing.assert_allclose(*distances, atol=1e-9)


def test_molecule_is_compact_connected_and_self_avoiding():
    molecule = flexible_molecule(seed=3)
    assert 200 <= len(molecule.weights) <= 400
    chain = molecule.positions[~molecule.loop]
    distance = np.linalg.norm(chain[:, None] - chain[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 4.5 and distance.min(axis=1).max() < 6
    np.testing.assert_allclose(molecule.weights @ molecule.positions, 0, atol=1e-6)


def test_molecule_has_three_different_principal_extents_and_a_hand():
    molecule = flexible_molecule()
    _, extents, axes = np.linalg.svd(molecule.positions - molecule.positions.mean(0))
    assert extents[0] > 1.2 * extents[1] > 1.2 * extents[2]
    skewness = ((molecule.positions @ axes.T) ** 3).mean(axis=0)
    assert (np.abs(skewness) > 50).all()


def test_the_same_seed_gives_the_same_molecule_and_another_seed_another():
    first, again, other = (flexible_molecule(seed).positions for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first[:200], other[:200])


def test_models_of_a_file_become_conformations_weighted_by_electrons(tmp_path):
    path = tmp_path / "two.pdb"
    path.write_text(PDB.format(2.0, 5.0))
    atoms = atoms_from_file(path)
    assert atoms.positions.shape == (2, 2, 3)
    np.testing.assert_allclose(atoms.weights, [6.0, 3.5])
    np.testing.assert_allclose(atoms.positions[1, 0] - atoms.positions[0, 0], [3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(atoms.weights @ atoms.positions.mean(0), 0, atol=1e-6)


def test_an_mmcif_file_gives_the_same_atoms_as_the_pdb_file(tmp_path):
    gemmi = pytest.importorskip("gemmi")
    path = tmp_path / "two.pdb"
    path.write_text(PDB.format(2.0, 5.0))
    gemmi.read_structure(str(path)).make_mmcif_document().write_file(str(tmp_path / "two.cif"))
    expected, found = atoms_from_file(path), atoms_from_file(tmp_path / "two.cif")
    np.testing.assert_allclose(found.positions, expected.positions, atol=1e-3)
    np.testing.assert_allclose(found.weights, expected.weights)


UNEQUAL_MODELS = "\n".join(PDB.format(1, 2).splitlines()[:-3])


@pytest.mark.parametrize("content", [None, "", "END\n", UNEQUAL_MODELS])
def test_a_useless_atom_file_is_refused_with_its_name(tmp_path, content):
    path = tmp_path / "bad.pdb"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"bad\.pdb"):
        atoms_from_file(path)
