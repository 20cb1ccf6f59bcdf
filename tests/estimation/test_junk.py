"""Weights of particles, the mixture that gives them, and images that stand out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.estimation.band import Band
from solvar.estimation.column_model import ColumnModel
from solvar.estimation.e_step import BandModel
from solvar.estimation.information import sampling_information
from solvar.estimation.junk import Mixture, holds_junk, range_products
from solvar.estimation.likelihood import image_posterior
from solvar.estimation.log_likelihood import log_likelihood
from solvar.estimation.mean import MeanProblem
from solvar.estimation.outliers import PowerRanges, monstrous
from solvar.estimation.prior import Prior
from solvar.estimation.solvers.em import IncrementalEm
from solvar.estimation.statistics import SufficientStatistics
from solvar.imaging.fourier import HalfDisc, images_to_disc
from solvar.imaging.projector import Projection
from solvar.progress import SilentProgress
from toy_band import COUNT, K_C, make_band, true_columns


def evidence_of(rng: np.random.Generator, size: np.ndarray, shows: np.ndarray) -> np.ndarray:
    """Log-likelihoods (N, 1) of images of a slice of these squared norms (N,), or of noise."""
    root = np.sqrt(size)
    score = np.where(shows, size, 0) + root * rng.standard_normal(len(size))
    return (score - size / 2)[:, None]


def weighted_band(weight: np.ndarray) -> Band:
    band = make_band()
    return band.seeing(band.images.weighted(weight))


def band_of(index: np.ndarray) -> Band:
    band = make_band()
    band.index = index
    return band


def test_particles_of_weight_zero_are_as_if_they_were_not_there() -> None:
    weight = np.where(np.arange(COUNT) % 3 == 0, 0.0, 1.0)
    some, alone = weighted_band(weight), band_of(np.flatnonzero(weight))
    means = [MeanProblem(band).solve(np.full(K_C + 1, 1.0), 2) for band in (some, alone)]
    np.testing.assert_allclose(means[0], means[1], atol=1e-5 * np.abs(means[1]).max())
    grids = [
        sampling_information(band.images, band.index, K_C, band.team).grid for band in (some, alone)
    ]
    np.testing.assert_allclose(grids[0], grids[1], rtol=1e-5, atol=1e-5 * grids[1].max())
    likelihood = log_likelihood(some, ColumnModel(true_columns(some), 0.1))
    # the quadrature over contrasts is exact to the fourth digit
    assert np.abs(likelihood[weight == 0]).max() < 1e-3 < np.abs(likelihood[weight == 1]).mean()


def test_weights_that_are_all_one_change_no_bit() -> None:
    plain, same = make_band(), weighted_band(np.ones(COUNT))
    assert same.images.weight is None
    np.testing.assert_array_equal(same.images.believed(plain.index), plain.index)
    assert same.count == len(plain.index)


def test_weight_is_the_inverse_of_the_noise_power() -> None:
    half = weighted_band(np.full(COUNT, 0.25)).images.batch(np.arange(5), HalfDisc.of_radius(K_C))
    full = make_band().images.batch(np.arange(5), HalfDisc.of_radius(K_C))
    np.testing.assert_allclose(half.data, full.data / 2, rtol=1e-6)
    np.testing.assert_allclose(half.ctf, full.ctf / 2, rtol=1e-6)
    np.testing.assert_allclose(half.ctf_power, full.ctf_power / 4, rtol=1e-6)


def test_moments_are_those_of_the_particles_that_count() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((40, 4, 6))
    found = image_posterior(root @ root.swapaxes(1, 2), 0.1)
    chosen = np.arange(40) < 25
    some, weighted = SufficientStatistics(2), SufficientStatistics(2)
    some.add(image_posterior((root @ root.swapaxes(1, 2))[chosen], 0.1))
    weighted.add(found, chosen.astype(float))
    np.testing.assert_allclose(weighted.second, some.second)
    for ours, theirs in zip(
        vars(weighted.means()).values(), vars(some.means()).values(), strict=True
    ):
        if np.ndim(ours):  # of particles of weight 0 the log-likelihood is 0 in a fit, but not here
            np.testing.assert_allclose(ours, theirs)


def test_em_on_half_of_the_particles_does_not_see_the_others() -> None:
    weight = np.where(np.arange(COUNT) % 2 == 0, 0.0, 1.0)
    some, alone = weighted_band(weight), band_of(np.flatnonzero(weight))
    flat, fitted = np.full(K_C + 2, 1.0), []
    for band in (some, alone):
        model = ColumnModel(true_columns(band) * np.float32(0.5), 0.1)
        solver = IncrementalEm(band, model, Prior(flat, flat), [band.index])
        with SilentProgress().step("", 1) as step:
            told = [solver.sweep(np.array([0]), step) for _ in range(3)][-1]
        fitted.append((solver.columns, told))
    scale = np.abs(fitted[1][0]).max()
    np.testing.assert_allclose(fitted[0][0], fitted[1][0], atol=1e-4 * scale)
    np.testing.assert_allclose(fitted[0][1].latent_moment, fitted[1][1].latent_moment, rtol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_the_mixture_finds_the_share_of_images_without_a_particle(share: float) -> None:
    rng = np.random.default_rng(1)
    shows = rng.random(4000) >= share
    evidence = evidence_of(rng, rng.uniform(3, 12, 4000), shows)
    found = Mixture.of(evidence)
    assert found.nothing == pytest.approx(share, abs=0.02)
    assert found.nothing + found.ways.sum() == pytest.approx(1)
    probability = found.probability(evidence)
    # calibrated: as many as they say
    for low, high in ((0.2, 0.5), (0.5, 0.8)):
        chosen = (probability > low) & (probability < high)
        if share and chosen.sum() > 100:
            assert shows[chosen].mean() == pytest.approx(probability[chosen].mean(), abs=0.12)
    assert holds_junk(evidence, found) == (share > 0)


def test_a_few_strange_images_are_no_class_of_junk() -> None:
    rng = np.random.default_rng(2)
    evidence = evidence_of(rng, np.full(2000, 10.0), np.ones(2000, bool))
    evidence[:5] = -300.0
    assert not holds_junk(evidence, Mixture.of(evidence))
    evidence[:40] = -300.0
    assert holds_junk(evidence, Mixture.of(evidence))


def test_particles_seen_only_at_coarse_shells_are_not_taken_for_junk() -> None:
    rng = np.random.default_rng(3)
    coarse = evidence_of(rng, np.full(2000, 12.0), np.ones(2000, bool))
    fine = coarse + evidence_of(rng, np.full(2000, 30.0), np.arange(2000) % 4 > 0)
    assert holds_junk(fine, Mixture.of(fine))
    both = np.concatenate([coarse, fine], axis=1)
    found = Mixture.of(both)
    assert found.nothing < 0.01 and not holds_junk(both, found)
    np.testing.assert_allclose(found.ways, [0.25, 0.75], atol=0.03)


def test_evidence_adds_up_over_ranges_and_residuals_are_noise() -> None:
    band = make_band()
    model = ColumnModel(true_columns(band), 0.0)
    products = range_products(BandModel(band, model), band.index, [3, 5, K_C])
    np.testing.assert_allclose(products.residual_power(), 1, atol=0.05)
    evidence = products.evidence(np.ones(3))
    assert evidence.shape == (COUNT, 6)
    np.testing.assert_allclose(evidence[:, 4], log_likelihood(band, model), rtol=1e-5, atol=1e-4)
    coarse = log_likelihood(make_band_to(band, 3), model)
    np.testing.assert_allclose(evidence[:, 0], coarse, rtol=1e-4, atol=1e-3)


def make_band_to(band: Band, k_c: int) -> Band:
    """The same particles and volumes, with the pixels of coarser shells alone."""
    coarse = make_band()
    coarse.disc = band.images.disc.prefix(k_c)
    coarse.projector = Projection("kaiser").projector(band.box, coarse.disc, band.team, 1.0)
    return coarse


@pytest.mark.parametrize("strange", ["hot pixel", "strong", "blob", "edge"])
def test_monstrous_images_are_found_and_no_others(strange: str) -> None:
    rng = np.random.default_rng(4)
    images = rng.standard_normal((1500, 32, 32)).astype(np.float32)
    y, x = np.mgrid[:32, :32] - 16
    if strange == "hot pixel":
        images[7, 3, 5] = 1e6
    elif strange == "strong":
        images[7] *= 1000
    elif strange == "blob":
        images[7] += 8 * np.exp(-(x**2 + (y - 3) ** 2) / 12.5)
    else:
        images[7] += 3 * (x > y)
    disc = HalfDisc.of_radius(15)
    whitened = images_to_disc(images, disc) * np.sqrt(disc.weight / 1024)
    power = PowerRanges(disc).power(whitened.astype(np.complex64))
    np.testing.assert_allclose(np.median(power, axis=0), 1, atol=0.25)
    for group in (np.zeros(1500, np.int64), np.arange(1500) // 2):
        assert np.flatnonzero(monstrous(power, group)).tolist() == [7]


def test_images_of_two_strengths_are_not_monstrous() -> None:
    rng = np.random.default_rng(5)
    power = rng.chisquare(50, (1000, 3)).astype(np.float32) / 50
    power[::2] *= 25
    assert not monstrous(power, np.zeros(1000, np.int64)).any()
    assert not monstrous(power, np.arange(1000) % 2).any()


def test_believed_particles_are_those_more_likely_than_not() -> None:
    images = make_band().images
    weight = np.linspace(0, 1, COUNT)
    some = images.weighted(weight).believed(np.arange(COUNT))
    np.testing.assert_array_equal(some, np.flatnonzero(weight >= 0.5))
    nobody = replace(images, weight=np.full(COUNT, 0.1)).believed(np.arange(9))
    assert len(nobody) == 9
