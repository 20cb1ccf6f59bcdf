"""What files of tilt series most often get wrong loses, visibly: the hand, the order of doses, the height."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.fitting.settings import FitSettings
from solvar.imaging.masks import default_mask
from solvar.particles import ParticleSet, read_particles
from solvar.preflight.check import check_particles
from solvar.preflight.quick_mean import QuickMean, is_beyond_chance, quick_mean
from solvar.preflight.trials import trial_findings
from solvar.progress import SilentProgress
from solvar.simulation import SimulationSettings, simulate
from solvar.threads import ThreadTeam

BOX, PIXEL, SHELLS = 40, 3.0, 16


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> ParticleSet:
    settings = SimulationSettings(
        particles=120, box_size=BOX, pixel_size=PIXEL, snr=0.2, tilts=15, hand=-1, seed=5,
        dose_per_tilt=8.0, heterogeneity="rigid",
    )  # fmt: skip
    return read_particles(simulate(settings).write(tmp_path_factory.mktemp("series")))


def _mean(particles: ParticleSet) -> QuickMean:
    with ThreadTeam(1) as team:
        return quick_mean(particles, default_mask(BOX, PIXEL), SHELLS, FitSettings(), team)


@pytest.fixture(scope="module")
def right(series) -> QuickMean:
    found = _mean(series)
    assert found.explains
    return found


def _loses(particles: ParticleSet, right: QuickMean, share: float) -> None:
    wrong = _mean(particles)
    assert is_beyond_chance(right.gain - wrong.gain)
    assert wrong.gain.mean() < (1 - share) * right.gain.mean()


def test_the_other_hand_loses(series, right) -> None:
    images = series.exposures
    ctf = images.ctf.defocused(-2 * images.defocus_offset_angstrom)
    _loses(replace(series, exposures=replace(images, ctf=ctf)), right, 0.05)


def test_heights_that_are_ignored_lose(series, right) -> None:
    images = series.exposures
    ctf = images.ctf.defocused(-images.defocus_offset_angstrom)
    _loses(replace(series, exposures=replace(images, ctf=ctf)), right, 0.015)


def test_doses_that_are_ranked_by_the_scale_lose(series, right) -> None:
    """As who takes the largest scale for the first exposure, which a dose-symmetric scheme is not."""
    images = series.exposures
    ranked = np.empty(len(images))
    for particle in range(len(series)):
        own = images.particle == particle
        # a file in which high tilts come first
        order = np.argsort(np.argsort(images.ctf.scale[own], kind="stable"))
        ranked[own] = 8.0 * order
    ctf = replace(images.ctf, dose_per_angstrom2=ranked)
    _loses(replace(series, exposures=replace(images, ctf=ctf)), right, 0.15)


def test_check_names_the_other_hand(series) -> None:
    images = series.exposures
    offset = images.defocus_offset_angstrom
    turned = replace(images, ctf=images.ctf.defocused(-2 * offset), defocus_offset_angstrom=-offset)
    wrong = replace(series, exposures=turned)
    told = {each.topic: each for each in check_particles(wrong, FitSettings()).findings}
    assert told["poses"].level == "error"
    assert "the other hand (rlnTomoHand)" in told["poses"].text


def test_a_look_takes_particles_for_their_images(series) -> None:
    told = [
        {each.topic: each.text for each in trial_findings(
            series, default_mask(BOX, PIXEL), FitSettings(), looks, SilentProgress()
        )}["mean"]
        for looks in (((900, SHELLS), (1800, SHELLS)), ((1, SHELLS), (1800, SHELLS)))
    ]  # fmt: skip
    assert "60 particles" in told[0]
    # standard errors need some particles, however many images these have
    assert "50 particles" in told[1]
