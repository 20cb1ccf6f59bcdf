"""Runs of molecules with a symmetry: the mean has it, copies count once, and doubt is told."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from solvar.errors import InputError
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.imaging.masks import soft_sphere
from solvar.imaging.point_groups import PointGroup
from solvar.imaging.rotations import angles_between
from solvar.imaging.symmetry import symmetry_fsc
from solvar.job import run_job
from solvar.particles import read_particles, write_star
from solvar.particles.expansion import expanded
from solvar.preflight.check import check_particles
from solvar.results.run import Run
from solvar.simulation import SimulationSettings, simulate

GROUP, BOX = PointGroup.named("C3"), 24


@pytest.fixture(scope="module")
def ring(tmp_path_factory) -> Path:
    """A ring of three, each open or closed."""
    folder = tmp_path_factory.mktemp("ring")
    settings = SimulationSettings(
        symmetry="C3",
        heterogeneity="subunits",
        particles=300,
        box_size=BOX,
        pixel_size=8.0,
        snr=1.0,
    )
    simulate(settings).write(folder)
    return folder


@pytest.fixture(scope="module")
def run(ring, tmp_path_factory) -> Run:
    settings = FitSettings(rank=2, symmetry="c3", mask_diameter=170.0, threads=1)
    folder = tmp_path_factory.mktemp("runs") / "run"
    return run_job(read_particles(ring / "particles.star"), settings, folder)


def test_the_mean_has_the_symmetry_and_poses_are_equivalent_ones(ring, run):
    assert run.settings.symmetry == "C3"
    alike = symmetry_fsc(run.model.mean, run.model.mean, GROUP, 9)
    assert alike[1:].min() > 0.99
    given = read_particles(ring / "particles.star").poses.rotation
    away = angles_between(GROUP.operations @ given[:, None], run.particles["rotation"][:, None])
    assert away.min(axis=1).max() < 1e-4
    assert np.bincount(away.argmin(axis=1)).min() > 50
    assert run.has_own_poses and not any("symmetry" in each for each in run.warnings)
    assert (run.folder / "poses.pkl").exists()


def test_a_symmetry_that_is_not_there_is_told_by_check_and_by_the_run(ring):
    particles = read_particles(ring / "particles.star")
    settings = FitSettings(rank=1, symmetry="C5", mask_diameter=170.0, threads=1)
    told = {each.topic: each for each in check_particles(particles, settings).findings}
    assert (
        told["symmetry"].level == "error" and "is it the right point group" in told["symmetry"].text
    )
    right = settings.model_copy(update={"symmetry": "C3"})
    told = {each.topic: each for each in check_particles(particles, right).findings}
    assert told["symmetry"].level == "ok"
    found = fit(particles, settings)
    assert found.symmetry_loss > 0.3
    assert any("does not have the symmetry C5" in each for each in found.warnings)


def test_copies_share_pixels_halves_and_chance(ring, tmp_path):
    write_star(tmp_path / "all.star", expanded(read_particles(ring / "particles.star"), GROUP))
    with mrcfile.new(tmp_path / "focus.mrc", np.roll(soft_sphere(BOX, 8), 5, axis=2)) as file:
        file.voxel_size = 8.0
    settings = FitSettings(
        rank=2, focus_mask=[tmp_path / "focus.mrc"], mask_diameter=170.0, threads=1
    )
    whole = read_particles(tmp_path / "all.star")
    run = run_job(whole, settings, tmp_path / "run")
    assert run.particle_count == 900 and np.array_equal(run.copy_of, whole.copy_of)
    halfset = run.particles["halfset"]
    assert np.array_equal(halfset, halfset[run.copy_of])
    # of all copies the mean is symmetric without being told
    mean = run.model.mean
    assert fourier_shell_correlation(mean, mean, 9).min() > 0
    assert symmetry_fsc(mean, mean, GROUP, 6)[1:].min() > 0.95
    with pytest.raises(InputError, match="refine the poses before the expansion"):
        fit(whole, settings.model_copy(update={"refine_pose": True}))
