"""Masks that half-maps make of themselves."""

import numpy as np
import pytest

from solvar.imaging.density_mask import density_mask
from solvar.imaging.masks import soft_sphere

PIXEL = 3.0


def blobs(box, centres, sigma=2.0):
    axis = np.arange(box) - box // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return sum(
        np.exp(-((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2) / (2 * sigma**2))
        for c in centres
    ).astype(np.float32)


def halves(volume, noise, seed=0):
    rng = np.random.default_rng(seed)
    return [
        (volume + noise * rng.standard_normal(volume.shape)).astype(np.float32) for _ in range(2)
    ]


CENTRES = [(0, 0, 0), (3, 2, -3), (-5, 4, 1), (-8, 6, 3)]


@pytest.mark.parametrize("box", [48, 49])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_it_holds_the_density_and_little_else(box, noise, scale):
    volume, sphere = blobs(box, CENTRES), soft_sphere(box, 0.85 * box)
    first, second = (scale * half for half in halves(volume, noise))
    mask = density_mask(first, second, PIXEL, sphere)
    assert mask.dtype == np.float32 and mask.min() >= 0 and mask.max() <= 1
    assert np.sum(mask * volume) > 0.98 * np.sum(volume)
    assert np.sum(mask) < 0.35 * np.sum(sphere)
    # and it ends softly
    assert np.mean((mask > 0.1) & (mask < 0.9)) > 0.01


def test_what_is_faint_is_kept_where_noise_allows():
    """A domain that is there in a tenth of the particles."""
    volume = blobs(48, CENTRES) + 0.1 * blobs(48, [(12, -6, 4)])
    mask = density_mask(*halves(volume, 0.02), PIXEL, soft_sphere(48, 0.85 * 48))
    assert mask[24 + 12, 24 - 6, 24 + 4] == pytest.approx(1)


def test_dust_is_not():
    volume = blobs(48, CENTRES) + 0.9 * blobs(48, [(15, -6, 4)], sigma=0.6)
    mask = density_mask(*halves(volume, 0.0), PIXEL, soft_sphere(48, 0.85 * 48))
    assert mask[24 + 15, 24 - 6, 24 + 4] == 0


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_none(seed):
    sphere = soft_sphere(48, 0.85 * 48)
    first, second = halves(np.zeros((48,) * 3), 1.0, seed)
    assert density_mask(sphere * first, sphere * second, PIXEL, sphere) is None


def test_nothing_at_all_has_none():
    sphere, empty = soft_sphere(32, 28), np.zeros((32,) * 3, np.float32)
    assert density_mask(empty, empty, PIXEL, sphere) is None


def test_it_stays_within():
    volume, sphere = blobs(48, CENTRES), soft_sphere(48, 16)
    mask = density_mask(volume, volume, PIXEL, sphere)
    assert (mask <= sphere).all()
