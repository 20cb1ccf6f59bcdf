"""Atoms in a run: which bodies move how far, where they do not fit, and what is said of it."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from solvar.analysis.bodies.atoms import read_atoms
from solvar.analysis.bodies.motion import COMES_AND_GOES, MOVES, NOT_RIGID, STILL
from solvar.analysis.bodies.rigid_bodies import model_of_run, rigid_bodies
from solvar.analysis.words import motion_sentence
from solvar.cli.analyze import app
from solvar.errors import InputError
from solvar.estimation.low_rank import LowRankModel
from solvar.imaging.rotations import from_rotation_vector
from solvar.simulation import blob_volume, flexible_molecule
from synthetic import make_fit
from written import written

BOX, PIXEL, SIGMA = 32, 5.0, 2.0
COUNT = 300
MOLECULE = flexible_molecule()
CHAIN = np.where(MOLECULE.arm, "B", "A")
SWING = 10 / 50  # of the 50° that the hinge can do


def conformation(swing):
    return MOLECULE.conformation(0.5 + swing, 0.5)


def volume_of(positions, weights=MOLECULE.weights):
    return blob_volume(positions, weights, SIGMA, BOX, PIXEL)


def low_rank_fit(folder, volumes, coordinate, rank=2):
    """A fit of components of volumes (K, …), whose particles are at places (N,) among them, 0 to 1."""
    flat = np.stack(volumes).reshape(len(volumes), -1).astype(np.float64)
    mean = flat.mean(axis=0)
    left, size, right = np.linalg.svd(flat - mean, full_matrices=False)
    known = np.linspace(0, 1, len(volumes))
    along = (left * size)[:, :rank]
    z = np.stack([np.interp(coordinate, known, column) for column in along.T], axis=1)
    fit = make_fit(folder, rank=rank, count=len(coordinate), box=BOX)
    eigenvolumes = right[:rank].reshape(rank, BOX, BOX, BOX).astype(np.float32)
    variance = z.var(axis=0) + 1e-12
    model = LowRankModel(
        mean.reshape((BOX,) * 3).astype(np.float32), eigenvolumes, variance, fit.model.mask, PIXEL
    )
    precision = np.tile(np.diag(1e3 / variance), (len(z), 1, 1))
    validation = replace(
        fit.validation,
        reliable=np.ones(rank, bool),
        component_resolution=np.full(rank, 12.0),
    )
    posterior = replace(fit.posterior, z=z, precision=precision)
    return replace(fit, model=model, posterior=posterior, validation=validation)


def hinge_run(folder, swing=SWING, rank=2):
    places = np.linspace(-0.5, 0.5, 9)
    volumes = [volume_of(conformation(swing * place)) for place in places]
    coordinate = np.random.default_rng(0).uniform(0, 1, COUNT)
    return written(folder / "run", low_rank_fit(folder, volumes, coordinate, rank))


def write_pdb(path, positions, chain=CHAIN):
    """Each blob a residue of one atom, numbered along its chain."""
    number = dict.fromkeys(chain, 0)
    lines = []
    for k, (name, (x, y, z)) in enumerate(zip(chain, positions, strict=True), 1):
        number[name] += 1
        lines.append(
            f"ATOM  {k:5d}  CA  ALA {name}{number[name]:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
            "  1.00  0.00           C"
        )
    path.write_text("\n".join([*sorted(lines, key=lambda line: line[21]), "END", ""]))
    return path


def in_map(positions):
    """Where a map with its first voxel at 0 has them."""
    return positions + PIXEL * (BOX // 2)


@pytest.fixture(scope="module")
def hinge(tmp_path_factory):
    """A run of a molecule whose arm turns by 10° on a hinge, and its atoms in two chains."""
    folder = tmp_path_factory.mktemp("hinge")
    return hinge_run(folder), write_pdb(folder / "model.pdb", in_map(conformation(0.0)))


def moving(run, path, component=1):
    return rigid_bodies(run, model_of_run(run, path, [component]))[0]


def true_displacement(part, swing, share=0.9):
    """Å of some blobs between the 5th and 95th percentile of the particles."""
    away = conformation(swing * share / 2) - conformation(-swing * share / 2)
    return np.sqrt((away[part] ** 2).sum(axis=1).mean())


def test_a_turning_chain_is_told_from_a_still_one(hinge):
    still, turning = moving(*hinge).bodies
    assert (still.body, turning.body) == ("A", "B")
    expected = true_displacement(MOLECULE.arm, SWING)
    assert turning.displacement_angstrom == pytest.approx(expected, rel=0.15)
    assert turning.verdict == MOVES and turning.explained > 0.8
    assert turning.rotation_degree == pytest.approx(0.9 * 10, rel=0.15)
    assert abs(np.dot(turning.axis, MOLECULE.hinge_axis)) > 0.95
    assert still.displacement_angstrom < 0.1 * turning.displacement_angstrom
    assert still.verdict == STILL


def test_atoms_that_were_only_moved_say_the_same_and_that_they_were_moved(hinge, tmp_path):
    run, path = hinge
    away = write_pdb(tmp_path / "centred.pdb", conformation(0.0))
    assert model_of_run(run, path, []).messages == []
    assert "139 Å" in model_of_run(run, away, []).messages[0]
    there, here = moving(run, path).bodies[1], moving(run, away).bodies[1]
    assert here.displacement_angstrom == pytest.approx(there.displacement_angstrom, rel=0.01)


def test_a_chain_that_bends_is_cut_where_it_does(tmp_path):
    """Body, arm and loop are one chain; only the arm, residues 211 to 284, turns."""
    path = write_pdb(tmp_path / "one.pdb", in_map(conformation(0.0)), np.full(len(CHAIN), "A"))
    run = hinge_run(tmp_path, swing=2 * SWING, rank=3)
    bodies = moving(run, path).bodies
    assert [body.verdict for body in bodies] == [STILL, MOVES]
    chain, numbers = bodies[1].body.split(":")
    first, last = (int(number) for number in numbers.split("-"))
    assert chain == "A" and abs(first - 211) <= 10 and abs(last - 284) <= 10
    expected = true_displacement(MOLECULE.arm, 2 * SWING)
    assert bodies[1].displacement_angstrom == pytest.approx(expected, rel=0.2)


def changed_weights_run(folder, change):
    """A run along which the weights of blobs change by a share, from none of it to all."""
    volumes = [
        volume_of(conformation(0.0), MOLECULE.weights * (1 + part * change))
        for part in np.linspace(0, 1, 5)
    ]
    coordinate = np.random.default_rng(0).uniform(0, 1, COUNT)
    return written(folder / "run", low_rank_fit(folder, volumes, coordinate, rank=1))


def test_a_chain_that_is_not_always_there_comes_and_goes(hinge, tmp_path):
    run = changed_weights_run(tmp_path, np.where(MOLECULE.arm, -0.9, 0.0))
    still, fading = moving(run, hinge[1]).bodies
    assert (still.verdict, fading.verdict) == (STILL, COMES_AND_GOES)
    share = np.array(fading.occupancy) / np.max(still.occupancy)
    # the 5th and 95th percentile of what is there
    np.testing.assert_allclose(np.sort(share), [1 - 0.9 * 0.95, 1 - 0.9 * 0.05], atol=0.1)


def test_density_that_changes_within_a_chain_is_no_rigid_motion(hinge, tmp_path):
    pattern = np.cos(MOLECULE.positions @ np.array([0.25, 0.2, 0.15]))
    run = changed_weights_run(tmp_path, np.where(MOLECULE.arm, 0.0, 0.9 * pattern))
    loose, other = moving(run, hinge[1]).bodies
    assert loose.verdict == NOT_RIGID and loose.explained < 0.5
    assert other.verdict == STILL


def analyzed(run, path, *more):
    arguments = [str(run.folder), "--atoms", str(path), *more]
    return CliRunner().invoke(app, arguments)


def test_the_command_tells_and_writes_what_moves(hinge):
    run, path = hinge
    result = analyzed(run, path, "--component", "1", "--clusters", "2")
    assert result.exit_code == 0, result.output
    assert "Component 1 at 18 Å: B (" in " ".join(result.stdout.split())
    with (run.folder / "analysis" / "rigid_bodies.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["component"], row["body"], row["verdict"]) for row in rows] == [
        ("1", "A", STILL), ("1", "B", MOVES),
    ]  # fmt: skip
    told = json.loads((run.folder / "analysis" / "analysis.json").read_text())["rigid_bodies"]
    assert float(rows[1]["displacement_angstrom"]) == pytest.approx(
        told[0]["bodies"][1]["displacement_angstrom"], rel=1e-5
    )
    assert "Rigid bodies of the atomic model" in (run.folder / "report.html").read_text()


def turned(positions):
    return positions @ from_rotation_vector(np.array([1.0, 0.6, -0.4])).T


def test_atoms_that_fit_nowhere_are_refused_and_nothing_is_written(tmp_path):
    run = hinge_run(tmp_path)
    files = {
        "turned.pdb": "turned at random",
        "large.pdb": "Å across",
        "empty.pdb": "holds no atoms",
        "text.pdb": "cannot be read as PDB or mmCIF",
        "missing.pdb": "no such file",
        "far.pdb": "nowhere",
    }
    write_pdb(tmp_path / "turned.pdb", in_map(turned(conformation(0.0))))
    write_pdb(tmp_path / "large.pdb", 3 * conformation(0.0))
    (tmp_path / "empty.pdb").write_text("HEADER    NOTHING\nEND\n")
    (tmp_path / "text.pdb").write_text("atoms\n")
    atom = (tmp_path / "turned.pdb").read_text().splitlines()[0]
    (tmp_path / "far.pdb").write_text(atom[:30] + "     nan" * 3 + atom[54:] + "\nEND\n")
    for name, words in files.items():
        result = analyzed(run, tmp_path / name)
        assert result.exit_code == 2, (name, result.output)
        assert words in result.stderr and name in result.stderr
    assert not (run.folder / "analysis").exists()


def test_a_run_without_resolved_components_is_refused(hinge, tmp_path):
    fit = make_fit(tmp_path, box=16)
    nothing = replace(fit.validation, component_resolution=np.full(3, np.inf))
    run = written(tmp_path / "run", replace(fit, validation=nothing))
    with pytest.raises(InputError, match="no component is resolved"):
        model_of_run(run, hinge[1], [])
    (tmp_path / "b").mkdir()
    run = written(tmp_path / "b" / "run", make_fit(tmp_path / "b", halfsets=False))
    with pytest.raises(InputError, match="no half-sets"):
        model_of_run(run, hinge[1], [])


def test_short_chains_are_read_with_the_one_beside_them(tmp_path):
    chain = CHAIN.copy()
    near = np.argsort(
        np.linalg.norm(MOLECULE.positions - MOLECULE.positions[MOLECULE.arm][-1], axis=1)
    )[:6]
    chain[near] = "C"
    atoms = read_atoms(write_pdb(tmp_path / "short.pdb", conformation(0.0), chain))
    assert atoms.names == ("A", "B", "C")
    assert set(atoms.chain) == {0, 1}


def test_the_sentence_names_what_moves_most_first():
    def body(name, far, verdict, occupancy=(1.0, 1.02)):
        return {
            "body": name,
            "displacement_angstrom": far,
            "error_angstrom": 0.2,
            "rotation_degree": 10 * far,
            "occupancy": occupancy,
            "verdict": verdict,
        }

    bodies = [
        body("A", 0.3, STILL), body("B", 1.0, MOVES), body("C", 4.0, MOVES), body("D", 2.0, NOT_RIGID),
        body("E", 9.0, COMES_AND_GOES, (0.2, 1.1)),
    ]  # fmt: skip
    motion = {"component": 2, "resolution_angstrom": 12.3, "bodies": bodies}
    assert motion_sentence(motion) == (
        "Component 2 at 12 Å: C (4.0 ± 0.2 Å, 40°), B (1.0 ± 0.2 Å, 10°) move; "
        "D changes, but not as one body; E (20 % there at one end, 100 % at the other) comes and goes; "
        "the rest stays within 0.3 Å."
    )
    assert "everything stays within 0.3 Å" in motion_sentence({**motion, "bodies": bodies[:1]})
