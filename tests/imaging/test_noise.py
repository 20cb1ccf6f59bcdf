"""Noise spectra from image corners."""

import numpy as np
import pytest

from solvar.imaging.noise import (
    background_powers,
    corner_window,
    deconvolved,
    ring_means,
    smearing,
    whole_plane,
)

BOX = 64


def coloured_noise(rng, count, spectrum):
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(BOX, 1 / BOX), np.fft.fftfreq(BOX, 1 / BOX)))
    white = np.fft.fft2(rng.normal(size=(count, BOX, BOX)))
    return np.fft.ifft2(white * np.sqrt(spectrum(k) / BOX**2)).real.astype(np.float32)


def measured_power(images, window, shells):
    measured = ring_means(whole_plane(background_powers(images, window).mean(axis=0)))
    return deconvolved(measured, smearing(window), shells)


@pytest.mark.parametrize("box", [12, 13])
def test_half_of_the_plane_says_what_all_of_it_does(box):
    image = np.random.default_rng(2).normal(size=(box, box))
    power = np.abs(np.fft.fft2(image)) ** 2
    np.testing.assert_allclose(whole_plane(power[:, : box // 2 + 1]), power)


def test_window_is_zero_within_the_particle_and_one_beyond():
    window = corner_window(BOX, 26)
    distance = np.hypot(*np.indices((BOX, BOX)) - BOX // 2)
    assert np.all(window[distance <= 26] == 0)
    assert np.all(window[distance >= 29] == 1)


@pytest.mark.parametrize(
    "spectrum",
    [
        lambda k: 100 + 0 * k,
        lambda k: 100 * (0.3 + np.exp(-0.5 * (k / 12) ** 2)),
        lambda k: 40 + 100 / (1 + (k / 6) ** 2),
    ],
    ids=["white", "gaussian", "steep"],
)
def test_corners_give_the_spectrum_back(spectrum):
    images = coloured_noise(np.random.default_rng(1), 800, spectrum)
    found = measured_power(images, corner_window(BOX, 26), BOX // 2 + 1)
    shells = np.arange(3, BOX // 2 + 1)
    assert found.shape == (BOX // 2 + 1,)
    np.testing.assert_allclose(found[shells], spectrum(shells), rtol=0.05)
    # the first two shells, which the subtracted mean empties, are continued from the next ones
    np.testing.assert_allclose(found[:2], found[2], rtol=0.1)


def test_a_particle_in_the_middle_and_an_offset_do_not_matter():
    rng = np.random.default_rng(2)
    images = coloured_noise(rng, 50, lambda k: 100 + 0 * k)
    distance = np.hypot(*np.indices((BOX, BOX)) - BOX // 2)
    spoiled = images + np.float32(7.0) + (distance < 25).astype(np.float32) * 30
    window = corner_window(BOX, 26)
    np.testing.assert_allclose(
        measured_power(spoiled, window, 33), measured_power(images, window, 33), rtol=1e-3
    )
