"""Exports of a run on particles of tomograms: a row a particle, in the frame and the words of the file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import starfile

from export.runs import make_run
from particles.tomo_files import COLUMNS, without, write_particles, write_set
from solvar.errors import InputError
from solvar.export import ExportOptions, Selection, export
from solvar.particles import ParticleSet, Poses, read_particles
from solvar.report.html.tables import facts

BOX_ANGLES = {"rlnTomoSubtomogramRot": [20.0] * 3, "rlnTomoSubtomogramTilt": [50.0] * 3,
              "rlnTomoSubtomogramPsi": [-70.0] * 3}  # fmt: skip


def _same(found: ParticleSet, wanted: ParticleSet) -> None:
    np.testing.assert_array_equal(found.uid, wanted.uid)
    np.testing.assert_array_equal(found.exposures.frame, wanted.exposures.frame)
    np.testing.assert_allclose(found.exposures.tilt, wanted.exposures.tilt)
    np.testing.assert_allclose(found.poses.rotation, wanted.poses.rotation, atol=1e-6)
    ours, theirs = (each.poses.shift_angstrom for each in (found, wanted))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("boxes", [{}, BOX_ANGLES], ids=["plain", "subtomograms"])
def test_relion_gets_every_column_latents_and_refined_poses(tmp_path, boxes):
    path = write_set(tmp_path)
    write_particles(tmp_path, {**COLUMNS, **boxes})
    particles = read_particles(path)
    run = make_run(tmp_path / "job", particles, refined=True)
    assert run.is_of_tilts and run.record["particles"]["images"] == 8
    assert ("images", "8") in facts(run)
    found = run.particles
    assert found["shift_angstrom"].shape == (3, 3)
    refined = replace(particles, poses=Poses(found["rotation"], found["shift_angstrom"]))
    _same(read_particles(run.folder / "particles.star"), refined)
    options = ExportOptions(latents=True, refined_poses=True)
    done = export(run, "relion", tmp_path / "elsewhere" / "out.star", options)
    assert done.particles == 3
    _same(read_particles(done.files[0]), refined)
    blocks = starfile.read(done.files[0])
    assert list(blocks) == ["general", "optics", "particles"]
    table = blocks["particles"]
    assert set(table.columns) >= {*COLUMNS, *boxes, "solvarZ1", "solvarContrast"}
    assert table["userColumn"].tolist() == [0.5, 1.5, 2.5]
    np.testing.assert_allclose(table["solvarZ1"], run.posterior.z[:, 0], atol=1e-5)


def test_shifts_of_tilts_have_no_place_in_the_file_and_that_is_said(tmp_path, caplog):
    particles = read_particles(write_set(tmp_path))
    moved = np.random.default_rng(0).normal(0, 1, (8, 2))
    run = make_run(tmp_path / "job", particles, refined=True, tilts_moved=moved)
    np.testing.assert_allclose(
        run.with_own_tilts(particles, np.arange(3)).exposures.shift_angstrom, moved
    )
    done = export(run, "relion", tmp_path / "out.star", ExportOptions(refined_poses=True))
    assert "no place for the shifts of tilt images" in caplog.text
    assert read_particles(done.files[0]).exposures.shift_angstrom is None


def test_input_poses_stay_as_they_are_spelled(tmp_path):
    particles = read_particles(write_set(tmp_path))
    run = make_run(tmp_path / "job", particles, refined=True)
    chosen = ExportOptions(refined_poses=False, selection=Selection(ind=[2, 0]))
    done = export(run, "relion", tmp_path / "out.star", chosen)
    _same(read_particles(done.files[0]), particles.select(np.array([0, 2])))
    table = starfile.read(done.files[0], parse_as_string=["rlnAngleRot"])["particles"]
    assert table["rlnAngleRot"].tolist() == [str(COLUMNS["rlnAngleRot"][row]) for row in (0, 2)]


def test_particles_are_known_by_name_and_place_after_another_extraction(tmp_path):
    particles = read_particles(write_set(tmp_path))
    run = make_run(tmp_path / "job", particles)
    assert run.picks is not None and run.picks.coordinate_pixel.shape == (3, 3)
    again = tmp_path / "again"
    again.mkdir()
    other = write_set(again)
    # without names, in another order, a little elsewhere
    moved = {name: np.asarray(values)[[2, 0, 1]] for name, values in COLUMNS.items()}
    moved["rlnImageName"] = [f"stacks/{name}.mrcs" for name in "abc"]
    moved["rlnCenteredCoordinateZAngst"] = moved["rlnCenteredCoordinateZAngst"] + 0.5
    write_particles(again, without(moved, "rlnTomoParticleName"), depth=(3, 3, 2))
    done = export(
        run, "relion", tmp_path / "out.star", ExportOptions(particles=other, latents=True)
    )
    table = starfile.read(done.files[0])["particles"]
    np.testing.assert_allclose(table["solvarZ1"], run.posterior.z[[2, 0, 1], 0], atol=1e-5)


@pytest.mark.parametrize("target", ["cryosparc", "cryodrgn"])
def test_programs_with_one_image_a_particle_refuse(tmp_path, target):
    run = make_run(tmp_path / "job", read_particles(write_set(tmp_path)))
    with pytest.raises(InputError, match="knows one image a particle, these have up to 3"):
        export(run, target, tmp_path / "out", ExportOptions())
