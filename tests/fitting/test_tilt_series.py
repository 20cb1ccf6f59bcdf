"""Tilt series: one tilt is a single particle, and two states of another program are told apart."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from solvar.evaluation.clustering import cluster_agreement, kmeans_labels
from solvar.fitting.fit import fit
from solvar.fitting.settings import FitSettings
from solvar.imaging.fsc import fourier_shell_correlation
from solvar.particles import ParticleSet, read_particles
from solvar.particles.tilts import tilted
from solvar.simulation import SimulationSettings, simulate
from solvar.volume_file import read_volume


def _as_tilts(particles: ParticleSet) -> ParticleSet:
    poses, exposures = tilted(particles.poses, particles.exposures)
    return replace(particles, poses=poses, exposures=exposures)


def test_a_series_of_one_tilt_is_a_single_particle_to_the_last_bit(tiny_stack) -> None:
    particles = read_particles(tiny_stack / "particles.star")
    alone, series = particles.select(np.arange(150)), _as_tilts(particles.select(np.arange(150)))
    assert not series.exposures.are_single and not series.poses.shift_angstrom.any()
    single, tilt = (fit(each, FitSettings(rank=1)) for each in (alone, series))
    np.testing.assert_array_equal(tilt.model.mean, single.model.mean)
    np.testing.assert_array_equal(tilt.model.eigenvolumes, single.model.eigenvolumes)
    for name in ("z", "precision", "contrast", "log_likelihood"):
        ours, theirs = (getattr(each.posterior, name) for each in (tilt, single))
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture
def two_states(shared_data):
    folder = shared_data / "tomo" / "two_states"
    if not folder.is_dir():
        pytest.skip(f"tilt series of two states are not at {folder}")
    return folder


def _read(folder, name: str) -> ParticleSet:
    return read_particles(folder / f"10076_{name}_32_sim.star", strip_prefix="data")


@pytest.mark.parametrize("name", ["classD", "classE"])
def test_the_mean_of_a_state_is_its_volume(two_states, name: str) -> None:
    """As noise allows: images drawn of the volume at these poses reach 0.84 to 0.88 at half Nyquist."""
    found = fit(_read(two_states, name), FitSettings(rank=1))
    assert found.inverted
    truth, _ = read_volume(two_states / f"10076_{name}_32.mrc")
    mean = found.model.mean
    fsc = fourier_shell_correlation(mean, truth * found.model.mask, 9)[1:]
    assert (fsc[:6] >= 0.9).all() and (fsc >= 0.75).all(), fsc
    mirrored = fourier_shell_correlation(mean, (truth * found.model.mask)[::-1].copy(), 9)[1:]
    assert mirrored[2:].max() < 0.75


def test_states_of_tilted_particles_are_told_apart(two_states) -> None:
    found = fit(_read(two_states, "both"), FitSettings(rank=2))
    with (two_states / "labels_D-0_E-1.pkl").open("rb") as file:
        state = np.asarray(pickle.load(file))
    z = found.posterior.z
    first, second = (z[state == s, 0] for s in (0, 1))
    auc = mannwhitneyu(first, second).statistic / (len(first) * len(second))
    assert max(auc, 1 - auc) >= 0.98
    assert cluster_agreement(kmeans_labels(z, 2), state)["ari"] >= 0.9
    assert found.validation is not None and found.validation.reliable[0]


def test_a_row_a_tilt_says_what_particles_of_tomograms_say(tmp_path) -> None:
    """The same images, described by the files of RELION 5 and of Warp 1."""
    found = {}
    for name in ("relion5", "warp1"):
        settings = SimulationSettings(
            particles=120, tilts=7, box_size=16, pixel_size=8, snr=1, tilt_format=name
        )
        star = simulate(settings).write(tmp_path / name)
        found[name] = fit(read_particles(star), FitSettings(rank=1))
    ours, theirs = found.values()
    correlation = np.corrcoef(ours.posterior.z[:, 0], theirs.posterior.z[:, 0])[0, 1]
    assert abs(correlation) > 0.999
    difference = np.linalg.norm(ours.model.mean - theirs.model.mean)
    assert difference < 1e-3 * np.linalg.norm(ours.model.mean)
