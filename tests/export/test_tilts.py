"""Exports of a run on a tilt series: all rows of a particle, or a refusal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import starfile

from export.runs import check_relion31, make_run
from particles.particle_files import write_star31
from particles.tilt_files import write_tilts
from solvar.errors import InputError
from solvar.export import ExportOptions, Selection, export
from solvar.imaging.rotations import from_rotation_vector
from solvar.particles import ParticleSet, Poses, read_particles
from solvar.report.html.explorer import read_defocus
from solvar.volumes.source import particles_of


def _refined(particles: ParticleSet) -> ParticleSet:
    turn = from_rotation_vector(np.array([[0.02, 0.01, -0.03], [-0.01, 0.05, 0.02]]))
    poses = Poses(turn @ particles.poses.rotation, np.array([[0.5, -1.0, 0.3], [0.25, 0.75, -2.0]]))
    return replace(particles, poses=poses)


def _same(found: ParticleSet, wanted: ParticleSet) -> None:
    np.testing.assert_array_equal(found.exposures.particle, wanted.exposures.particle)
    np.testing.assert_array_equal(found.exposures.frame, wanted.exposures.frame)
    ours, theirs = found.image_poses, wanted.image_poses
    np.testing.assert_allclose(ours.rotation, theirs.rotation, atol=1e-6)
    np.testing.assert_allclose(ours.shift_angstrom, theirs.shift_angstrom, atol=1e-5)


def test_relion_gets_all_rows_of_a_particle_with_its_latents(tmp_path):
    particles = read_particles(write_tilts(tmp_path))
    run = make_run(tmp_path / "job", particles)
    assert run.is_of_tilts and run.record["particles"]["images"] == 6
    done = export(run, "relion", tmp_path / "out.star", ExportOptions(latents=True))
    assert done.particles == 2
    table, shown = check_relion31(done.files[0])["particles"], particles.exposures.particle
    assert table["rlnGroupName"].tolist() == ["b", "b", "b", "a", "a", "a"]
    assert table["userColumn"].tolist() == [float(f"0{r}.50") for r in particles.image_row]
    np.testing.assert_allclose(table["solvarZ1"], run.posterior.z[shown, 0], atol=1e-5)
    _same(read_particles(done.files[0]), particles)
    star = starfile.read(run.folder / "particles.star")
    np.testing.assert_allclose(star["solvarZ1"], run.posterior.z[shown, 0], atol=1e-5)
    np.testing.assert_allclose(read_defocus(run) * 1e4, [9850, 11850])


def test_a_selection_takes_whole_particles(tmp_path):
    particles = read_particles(write_tilts(tmp_path))
    run = make_run(tmp_path / "job", particles)
    chosen = ExportOptions(selection=Selection(ind=[1]))
    done = export(run, "relion", tmp_path / "out.star", chosen)
    _same(read_particles(done.files[0]), particles.select(np.array([1])))


def test_refined_poses_are_composed_with_the_tilts(tmp_path):
    particles = read_particles(write_tilts(tmp_path))
    fitted = _refined(particles)
    run = make_run(tmp_path / "job", particles, refined=True)
    _same(read_particles(run.folder / "particles.star"), _with_poses_of(run, particles))
    done = export(run, "relion", tmp_path / "out.star", ExportOptions(refined_poses=True))
    _same(read_particles(done.files[0]), _with_poses_of(run, particles))
    pickled = read_particles(run.folder / "particles.star", poses=run.folder / "poses.pkl")
    _same(pickled, _with_poses_of(run, particles))
    # the particle's shift is seen along the axes of each image
    seen = np.einsum(
        "mji,mj->mi",
        fitted.exposures.tilt[:, :, :2],
        fitted.poses.shift_angstrom[[0] * 3 + [1] * 3],
    )
    moved = fitted.image_poses.shift_angstrom - particles.image_poses.shift_angstrom
    np.testing.assert_allclose(moved, seen, atol=1e-12)


def test_refined_shifts_of_tilt_images_are_composed_with_the_poses(tmp_path):
    particles = read_particles(write_tilts(tmp_path))
    moved = np.random.default_rng(0).normal(0, 1, (6, 2))
    run = make_run(tmp_path / "job", particles, refined=True, tilts_moved=moved)
    assert run.record["result"]["tilts"]["shift_rms_angstrom"] == pytest.approx(
        np.sqrt(np.mean(moved**2))
    )
    assert run.particles["shift_angstrom"].shape == (2, 3)
    wanted = _with_poses_of(run, particles)
    own = particles.exposures.shift_angstrom + moved
    wanted = replace(wanted, exposures=replace(particles.exposures, shift_angstrom=own))
    _same(read_particles(run.folder / "particles.star"), wanted)
    _same(particles_of(run), wanted)
    refined = ExportOptions(refined_poses=True)
    _same(read_particles(export(run, "relion", tmp_path / "out.star", refined).files[0]), wanted)
    one = replace(refined, selection=Selection(ind=[1]))
    done = export(run, "relion", tmp_path / "one.star", one)
    _same(read_particles(done.files[0]), wanted.select(np.array([1])))
    # poses of the input go with shifts of the input
    done = export(run, "relion", tmp_path / "as_it_was.star", ExportOptions(refined_poses=False))
    _same(read_particles(done.files[0]), particles)


def test_images_that_the_run_left_out_are_not_moved(tmp_path):
    path = write_tilts(tmp_path)
    whole, used = read_particles(path), read_particles(path, tilts=2)
    moved = np.random.default_rng(0).normal(0, 1, (4, 2))
    run = make_run(tmp_path / "job", used, refined=True, tilts_moved=moved)
    found = run.with_own_tilts(whole, np.arange(2)).exposures.shift_angstrom
    kept = np.isin(whole.image_row, used.image_row)
    np.testing.assert_allclose(found[kept], used.exposures.shift_angstrom + moved)
    np.testing.assert_array_equal(found[~kept], whole.exposures.shift_angstrom[~kept])


def _with_poses_of(run, particles: ParticleSet) -> ParticleSet:
    found = run.particles
    return replace(particles, poses=Poses(found["rotation"], found["shift_angstrom"]))


@pytest.mark.parametrize("target", ["cryosparc", "cryodrgn"])
def test_programs_with_one_image_a_particle_refuse(tmp_path, target):
    run = make_run(tmp_path / "job", read_particles(write_tilts(tmp_path)))
    with pytest.raises(
        InputError, match="knows one image a particle, these have up to 3; export to"
    ):
        export(run, target, tmp_path / "out", ExportOptions())


def test_a_file_of_the_other_kind_is_refused(tmp_path):
    tilts = write_tilts(tmp_path)
    (tmp_path / "plain").mkdir()
    plain = write_star31(tmp_path / "plain")
    for source, other, pattern in (
        (tilts, plain, "has one image a particle, but .* is of a tilt series"),
        (plain, tilts, "is a tilt series, but .* is of single particles"),
    ):
        run = make_run(tmp_path / source.parent.name / "job", read_particles(source))
        with pytest.raises(InputError, match=pattern):
            export(run, "relion", tmp_path / "out.star", ExportOptions(particles=other))


def test_images_left_out_of_the_run_are_written_with_the_others(tmp_path):
    path = write_tilts(tmp_path)
    whole, used = read_particles(path), read_particles(path, tilts=2)
    run = make_run(tmp_path / "job", used, refined=True)
    assert run.record["particles"]["images"] == 4
    assert run.read_input().image_row.tolist() == used.image_row.tolist()
    for name, particles in (("input", None), ("named", path)):
        plain = ExportOptions(latents=True, refined_poses=False, particles=particles)
        done = export(run, "relion", tmp_path / f"{name}.star", plain)
        _same(read_particles(done.files[0]), whole)
        table = starfile.read(done.files[0])["particles"]
        assert table["userColumn"].tolist() == [float(f"0{r}.50") for r in whole.image_row]
    done = export(run, "relion", tmp_path / "refined.star", ExportOptions(refined_poses=True))
    _same(read_particles(done.files[0]), _with_poses_of(run, whole))
    _same(read_particles(run.folder / "particles.star"), _with_poses_of(run, used))
