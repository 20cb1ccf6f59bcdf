"""Stored images under another noise model, another sign, other poses; sums of very many of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from solvar.estimation import back_projection
from solvar.estimation.back_projection import BackProjection
from solvar.estimation.image_batch import frames_of
from solvar.estimation.images import WhitenedImages
from solvar.estimation.information import sampling_information
from solvar.estimation.noise import NoiseModel
from solvar.estimation.pixels import in_memory
from solvar.estimation.whitening import whiten
from solvar.fitting.images import read_images
from solvar.imaging import rotations
from solvar.particles import ImageStack, ParticleSet, read_particles
from solvar.progress import SilentProgress
from toy_band import COUNT, K_C, make_band, true_columns


@pytest.fixture(scope="module")
def particles(tiny_stack) -> ParticleSet:
    return read_particles(tiny_stack / "particles.star", ind=np.arange(60))


@pytest.fixture(scope="module")
def images(particles: ParticleSet) -> WhitenedImages:
    return read_images(particles)


def test_stored_images_under_another_noise_are_those_whitened_by_it(
    particles: ParticleSet, images: WhitenedImages
) -> None:
    shells = images.noise.power.shape[1]
    other = NoiseModel(images.noise.power * np.linspace(0.5, 3, shells))
    band = make_band()
    direct = whiten(
        particles, ImageStack(particles), other, images.disc, SilentProgress(), band.team, in_memory
    )
    index = np.array([5, 2, 50])
    pair = [each.batch(index, images.disc) for each in (replace(images, noise=other), direct)]
    for name in ("data", "ctf", "ctf_power"):
        found, expected = (getattr(batch, name) for batch in pair)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    before = images.batch(index, images.disc).data
    assert np.abs(before - pair[0].data).max() > 0.1 * np.abs(before).max()


def test_the_same_noise_and_poses_change_no_bit(images: WhitenedImages) -> None:
    index = np.arange(7)
    plain = images.batch(index, images.disc)
    again = images.posed(images.rotation, images.shift).batch(index, images.disc)
    np.testing.assert_array_equal(plain.data, again.data)
    turned = replace(images, inverted=True).batch(index, images.disc)
    np.testing.assert_array_equal(turned.data, -plain.data)
    np.testing.assert_array_equal(turned.ctf, plain.ctf)


def test_sums_in_pieces_are_the_sum(monkeypatch) -> None:
    band = make_band()
    whole = sampling_information(band.images, band.index, K_C, band.team)
    prepared = band.projector.prepare(true_columns(band)[:1])
    frame = frames_of(band.images.rotation)
    ones = np.ones((COUNT, len(band.disc)), np.float32)
    slices = band.projector.project(prepared, frame, ones)

    def summed() -> np.ndarray:
        total = BackProjection(band.projector, 1)
        for part in np.array_split(np.arange(COUNT), 7):
            total.add(slices[part], frame[part], ones[part])
        return total.sum()

    at_once = summed()
    monkeypatch.setattr(back_projection, "_FOLD", 100)
    np.testing.assert_allclose(summed(), at_once, atol=1e-5 * np.abs(at_once).max())
    pieces = sampling_information(band.images, band.index, K_C, band.team)
    np.testing.assert_allclose(pieces.grid, whole.grid, atol=1e-5 * whole.grid.max())


def test_small_terms_are_not_lost_beside_a_large_sum(monkeypatch) -> None:
    band = make_band()
    monkeypatch.setattr(back_projection, "_FOLD", 1)
    frame = frames_of(rotations.random(1, np.random.default_rng(0)))
    image, ones = np.ones((1, 1, len(band.disc)), np.complex64), np.ones((1, len(band.disc)))
    single = BackProjection(band.projector, 1)
    single.add(image, frame, ones)
    total = BackProjection(band.projector, 1)
    for size in (3e8, *[1.0] * 50, -3e8):
        total.add(np.complex64(size) * image, frame, ones)
    expected = 50 * single.sum()
    # float32 alone would end at 0: 1 is lost beside 3e8
    np.testing.assert_allclose(total.sum(), expected, atol=0.01 * np.abs(expected).max())
