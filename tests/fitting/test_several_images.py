"""Fits of particles that were exposed three times each, beside the same images as particles of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.evaluation import Truth
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.particles import ParticleSet, Poses, read_particles

EACH = 3


def _together(particles: ParticleSet, state: np.ndarray) -> tuple[ParticleSet, np.ndarray]:
    """Images of one state, three at a time, as those of one particle that was tilted; their states."""
    threes = [np.flatnonzero(state == s) for s in np.unique(state)]
    order = np.concatenate([each[: len(each) // EACH * EACH] for each in threes])
    first = order[::EACH]
    rotation = particles.poses.rotation
    tilt = np.repeat(rotation[first], EACH, axis=0).transpose(0, 2, 1) @ rotation[order]
    images = particles.exposures.rows(order)
    owner = np.repeat(np.arange(len(first)), EACH)
    exposures = replace(images, particle=owner, tilt=tilt)
    assert not particles.poses.shift_angstrom.any()
    poses = Poses(rotation[first], np.zeros((len(first), 3)))
    return replace(particles.select(first), exposures=exposures, poses=poses), state[first]


def _separation(z: np.ndarray, state: np.ndarray) -> float:
    """Variance of the states' means over the variance within states, along the first latent."""
    means = np.array([z[state == s, 0].mean() for s in np.unique(state)])
    within = np.mean([z[state == s, 0].var() for s in np.unique(state)])
    return float(means.var() / within)


@pytest.fixture(scope="module")
def images(simulated) -> tuple[ParticleSet, np.ndarray]:
    folder = simulated(
        heterogeneity="discrete", states=2, snr=0.05, contrast_sd=0.0, shift_sd=0.0, seed=4
    )
    state = Truth.load(folder).state
    return read_particles(folder / "particles.star"), state


def test_images_that_belong_together_tell_states_apart_better(images) -> None:
    single, state = images
    tilted, own_state = _together(single, state)
    settings = FitSettings(rank=1, refine_contrast=False)
    alone, joint = fit(single, settings), fit(tilted, settings)
    assert len(joint.posterior.z) == len(own_state) == len(tilted)
    # three images know three times as much
    known = [np.median(each.posterior.precision[:, 0, 0]) for each in (alone, joint)]
    prior = [1 / each.model.eigenvalues[0] for each in (alone, joint)]
    assert known[1] - prior[1] > 2 * (known[0] - prior[0])
    assert _separation(joint.posterior.z, own_state) > 1.5 * _separation(alone.posterior.z, state)


@pytest.mark.slow
def test_poses_of_tilted_particles_are_refined(images) -> None:
    from solvar.imaging.rotations import from_rotation_vector, to_rotation_vector

    tilted, _ = _together(*images)
    rng = np.random.default_rng(0)
    true = tilted.poses.rotation
    off = from_rotation_vector(rng.normal(0, np.deg2rad(4), (len(tilted), 3))) @ true
    rough = replace(tilted, poses=replace(tilted.poses, rotation=off))
    found = fit(rough, FitSettings(rank=1, refine_contrast=False, refine_pose=True)).particles

    def error(rotation: np.ndarray) -> float:
        turn = rotation @ true.transpose(0, 2, 1)
        # without the turn that all share
        left, _, right = np.linalg.svd(turn.mean(axis=0))
        return float(np.linalg.norm(to_rotation_vector((left @ right).T @ turn), axis=1).mean())

    # one image a particle would leave 0.95 of the errors
    assert error(found.poses.rotation) < 0.85 * error(off)
