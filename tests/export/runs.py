"""Run folders on hand-written particle files, with made-up numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import starfile

from particles.particle_files import write_cryodrgn, write_cs, write_star30, write_star31
from solvar.estimation.posterior import TiltRefinement
from solvar.export import TARGETS
from solvar.fitting.result import Fit
from solvar.particles import ParticleSet, Poses, read_particles
from solvar.results.run import Run
from synthetic import make_fit
from written import written

# the challenge asks for 80 maps, of more particles than the files of these runs hold
TARGETS_OF_FEW = tuple(target for target in TARGETS if target.name != "challenge")

OPTICS_COLUMNS = {
    "rlnOpticsGroup": True,
    "rlnOpticsGroupName": False,
    "rlnVoltage": True,
    "rlnSphericalAberration": True,
    "rlnAmplitudeContrast": True,
    "rlnImagePixelSize": True,
    "rlnImageSize": True,
    "rlnImageDimensionality": True,
}
PARTICLE_COLUMNS = {
    "rlnImageName": False,
    **dict.fromkeys(("rlnOpticsGroup", "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle"), True),
    **dict.fromkeys(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), True),
    **dict.fromkeys(("rlnOriginXAngst", "rlnOriginYAngst"), True),
}
OLD_COLUMNS = {"rlnOriginX", "rlnOriginY", "rlnMagnification", "rlnDetectorPixelSize"}


def source(kind: str, folder: Path) -> dict:
    """Keyword arguments of `read_particles` for a file of each dialect."""
    if kind == "cryodrgn":
        return write_cryodrgn(folder)
    write = {"relion31": write_star31, "relion30": write_star30, "cryosparc": write_cs}[kind]
    return {"path": write(folder)}


def make_run(
    folder: Path,
    particles: ParticleSet,
    refined: bool = False,
    seed: int = 0,
    tilts_moved: np.ndarray | None = None,
) -> Run:
    """A finished run on `particles`; with `refined`, its poses are not theirs, nor images where they were."""
    elsewhere = folder / "synthetic"
    elsewhere.mkdir(parents=True)
    fit = make_fit(elsewhere, rank=3, count=len(particles), refined=refined, seed=seed)
    poses = fit.particles.poses if refined else particles.poses
    # made-up shifts must stay within the small boxes of the test files
    poses = Poses(poses.rotation, np.clip(poses.shift_angstrom, -7, 7))
    axes = particles.exposures.shift_axes
    if axes == 3 and refined:
        poses, fit = _along_the_beam(poses, fit)
    fit = replace(fit, particles=replace(particles, poses=poses))
    if tilts_moved is not None:
        fit = _with_tilts_moved(fit, tilts_moved)
    written(folder / "run", fit)
    return Run(folder / "run")


def run_on(kind: str, folder: Path, ind=None, refined: bool = False) -> tuple[Run, dict]:
    """A run on a file of one dialect, and how to read that file."""
    reading = source(kind, folder)
    particles = read_particles(**reading, ind=ind)
    reading.pop("path")
    return make_run(folder / "job", particles, refined), reading


def write_clusters(run: Run, labels) -> None:
    """What `solvar analyze` leaves, as far as an export reads it."""
    (run.folder / "analysis").mkdir()
    with h5py.File(run.folder / "analysis" / "particles.h5", "w") as file:
        file.attrs["run_id"] = run.run_id
        file["cluster"] = np.asarray(labels)


def check_relion31(path: Path) -> dict:
    """Assert that a star file has what RELION 3.1 expects; returns its blocks."""
    blocks = starfile.read(path, always_dict=True)
    assert list(blocks)[:2] == ["optics", "particles"]
    optics, particles = blocks["optics"], blocks["particles"]
    for table, columns in ((optics, OPTICS_COLUMNS), (particles, PARTICLE_COLUMNS)):
        for name, numeric in columns.items():
            assert name in table.columns, name
            assert not table[name].isna().any(), name
            assert not numeric or np.issubdtype(table[name].dtype, np.number), name
    assert not OLD_COLUMNS & set(particles.columns)
    assert optics["rlnOpticsGroup"].is_unique and optics["rlnOpticsGroupName"].is_unique
    assert set(particles["rlnOpticsGroup"]) <= set(optics["rlnOpticsGroup"])
    assert particles["rlnImageName"].str.match(r"^\d+@.+").all()
    return blocks


def assert_same_particles(found: ParticleSet, expected: ParticleSet, uid: bool = True) -> None:
    """Poses to 1e-5, CTF, optics, images and, unless names were made new, identity."""
    if uid:
        np.testing.assert_array_equal(found.uid, expected.uid)
    np.testing.assert_allclose(found.poses.rotation, expected.poses.rotation, atol=1e-5)
    np.testing.assert_allclose(found.poses.shift_angstrom, expected.poses.shift_angstrom, atol=1e-5)
    for name in expected.exposures.ctf.columns:
        ours, theirs = getattr(found.exposures.ctf, name), getattr(expected.exposures.ctf, name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=name)
    for name in ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast", "box_size"):
        ours = getattr(found.optics, name)[found.exposures.optics_group]
        np.testing.assert_allclose(
            ours, getattr(expected.optics, name)[expected.exposures.optics_group]
        )
    np.testing.assert_allclose(found.pixel_size_angstrom, expected.pixel_size_angstrom, rtol=1e-6)
    ours = [str(found.stacks[s]) for s in found.exposures.stack_index]
    assert ours == [str(expected.stacks[s]) for s in expected.exposures.stack_index]
    np.testing.assert_array_equal(found.exposures.frame, expected.exposures.frame)
    np.testing.assert_array_equal(found.halfset, expected.halfset)


def _along_the_beam(poses: Poses, fit: Fit) -> tuple[Poses, Fit]:
    """Shifts and what is known of them along a third axis."""

    def deeper(given: Poses) -> Poses:
        return Poses(
            given.rotation, np.pad(given.shift_angstrom, ((0, 0), (0, 1)), constant_values=1.5)
        )

    found = fit.pose_refinement
    assert found is not None
    covariance = np.tile(np.eye(6), (len(poses.rotation), 1, 1))
    refinement = replace(found, start=deeper(found.start), covariance=covariance)
    return deeper(poses), replace(fit, pose_refinement=refinement)


def _with_tilts_moved(fit: Fit, moved: np.ndarray) -> Fit:
    """Tilt images moved by (M, 2) Å."""
    images = fit.particles.exposures
    own = 0.0 if images.shift_angstrom is None else images.shift_angstrom
    images = replace(images, shift_angstrom=own + moved)
    return replace(
        fit,
        particles=replace(fit.particles, exposures=images),
        settings=fit.settings.model_copy(update={"refine_tilts": True}),
        tilt_refinement=TiltRefinement(moved, 1.0),
    )
