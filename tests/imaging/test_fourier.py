"""Fourier conventions: half disc, centred transforms, Fourier crop."""

import numpy as np
import pytest

from solvar.imaging.fourier import (
    HalfDisc,
    crop_volume,
    disc_to_images,
    hermitian_weight,
    images_to_disc,
    volume_shells,
)

BOXES = [16, 15]


def bandlimited_images(rng, count, box, k_c):
    disc = HalfDisc.of_radius(k_c)
    values = rng.normal(size=(count, len(disc))) + 1j * rng.normal(size=(count, len(disc)))
    values[:, 0] = values[:, 0].real
    return disc_to_images(values.astype(np.complex64), disc, box), disc, values


def centred_coefficient(image, kx, ky):
    """Σ_n v(n) exp(-2πi k·n/L), n from index L // 2, as the convention reads."""
    box = len(image)
    n = np.arange(box) - box // 2
    return np.sum(image * np.exp(-2j * np.pi * (kx * n[None, :] + ky * n[:, None]) / box))


@pytest.mark.parametrize("k_c", [1, 5, 8, 13])
def test_half_disc_holds_every_pixel_or_its_opposite_once(k_c):
    disc = HalfDisc.of_radius(k_c)
    held = list(zip(disc.kx.tolist(), disc.ky.tolist(), strict=True))
    opposite = [(-x, -y) for x, y in held if (x, y) != (0, 0)]
    everything = {
        (x, y)
        for x in range(-k_c, k_c + 1)
        for y in range(-k_c, k_c + 1)
        if x * x + y * y <= k_c * k_c
    }
    assert len(held) + len(opposite) == len(everything)
    assert {*held, *opposite} == everything


@pytest.mark.parametrize("k_c", [1, 2, 5, 12, 13])
def test_a_smaller_disc_is_a_prefix_of_a_larger_one(k_c):
    large, small = HalfDisc.of_radius(13), HalfDisc.of_radius(k_c)
    prefix = large.prefix(k_c)
    for disc in (small, prefix):
        assert disc.k_c == k_c
        np.testing.assert_array_equal(disc.kx, large.kx[: len(small)])
        np.testing.assert_array_equal(disc.ky, large.ky[: len(small)])


@pytest.mark.parametrize("box", BOXES)
def test_disc_values_are_the_centred_unnormalised_transform(box):
    rng = np.random.default_rng(1)
    image = rng.normal(size=(1, box, box)).astype(np.float32)
    disc = HalfDisc.of_radius((box - 1) // 2)
    values = images_to_disc(image, disc)[0]
    for p in (0, 1, 7, len(disc) // 2, len(disc) - 1):
        expected = centred_coefficient(image[0], disc.kx[p], disc.ky[p])
        assert values[p] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("box", BOXES)
def test_images_survive_the_way_to_the_disc_and_back(box):
    image, disc, values = bandlimited_images(np.random.default_rng(2), 3, box, (box - 1) // 2)
    np.testing.assert_allclose(images_to_disc(image, disc), values, atol=1e-5)
    np.testing.assert_allclose(
        disc_to_images(images_to_disc(image, disc), disc, box), image, atol=1e-6
    )


@pytest.mark.parametrize("box", BOXES)
def test_a_bright_pixel_at_plus_p_has_phase_minus_k_p(box):
    image = np.zeros((1, box, box), dtype=np.float32)
    image[0, box // 2 - 3, box // 2 + 2] = 1  # x = 2, y = -3
    disc = HalfDisc.of_radius(6)
    expected = np.exp(-2j * np.pi * (2 * disc.kx - 3 * disc.ky) / box)
    np.testing.assert_allclose(images_to_disc(image, disc)[0], expected, atol=1e-6)


@pytest.mark.parametrize("box", BOXES)
def test_shift_phase_moves_the_particle_to_the_centre(box):
    """A particle at +p has the shift t = -p and is centred by exp(-2πi k·t/L)."""
    image, disc, _ = bandlimited_images(np.random.default_rng(3), 1, box, 6)
    moved = np.roll(image, (-3, 2), axis=(1, 2))  # now at x = 2, y = -3
    phase = np.exp(-2j * np.pi * (-2 * disc.kx + 3 * disc.ky) / box)
    np.testing.assert_allclose(
        images_to_disc(moved, disc) * phase, images_to_disc(image, disc), atol=1e-5
    )


@pytest.mark.parametrize("box", BOXES)
def test_half_plane_inner_product_equals_full_plane_and_real_space(box):
    a, disc, _ = bandlimited_images(np.random.default_rng(4), 1, box, 6)
    b, _, _ = bandlimited_images(np.random.default_rng(5), 1, box, 6)
    half = np.sum(disc.weight * (np.conj(images_to_disc(a, disc)) * images_to_disc(b, disc)).real)
    full = np.vdot(np.fft.fft2(a), np.fft.fft2(b)).real
    assert half == pytest.approx(full, rel=1e-5)
    assert half == pytest.approx(box**2 * np.sum(a * b), rel=1e-5)


@pytest.mark.parametrize("box", BOXES)
def test_hermitian_weight_completes_sums_over_rfftn(box):
    volume = np.random.default_rng(6).normal(size=(box, box, box))
    power = np.abs(np.fft.rfftn(volume)) ** 2
    full = np.abs(np.fft.fftn(volume)) ** 2
    assert np.sum(hermitian_weight(box) * power) == pytest.approx(full.sum())
    assert volume_shells(box).shape == power.shape
    assert volume_shells(box)[2, -1, 2] == 3  # |k| = √(4 + 1 + 4)


@pytest.mark.parametrize("to", [8, 9, 15, 16, 20, 21])
@pytest.mark.parametrize("box", BOXES)
def test_fourier_crop_and_pad_keep_coefficients(box, to):
    rng = np.random.default_rng(7)
    volume = rng.normal(size=(2, box, box, box)).astype(np.float32)
    other = crop_volume(volume, to)
    assert other.shape == (2, to, to, to) and other.dtype == np.float32
    reach = (min(box, to) - 1) // 2
    axes = (1, 2, 3)

    def coefficients(v):
        centred = np.fft.fftn(np.fft.ifftshift(v, axes=axes), axes=axes)
        index = np.arange(-reach, reach + 1) % v.shape[-1]
        return centred[:, index[:, None, None], index[:, None], index]

    np.testing.assert_allclose(coefficients(other), coefficients(volume), atol=1e-3)
    if to == box:
        np.testing.assert_array_equal(other, volume)
        return
    # nothing at or beyond the smaller Nyquist
    total = np.sum(np.abs(coefficients(other)) ** 2)
    assert np.sum(np.abs(np.fft.fftn(other, axes=axes)) ** 2) == pytest.approx(total, rel=1e-4)
