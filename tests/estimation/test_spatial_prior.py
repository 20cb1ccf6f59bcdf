"""Where columns may vary how much, by what two halves agree on."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from solvar.estimation.latents import along, combined
from solvar.estimation.spatial_prior import LEAST, spatial_weight

BOX, K_C = 24, 8


def _halves(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Two columns of a blob off the centre, with noise of each half's own."""
    rng, grid = np.random.default_rng(0), np.indices((BOX,) * 3) - BOX // 2
    blob = np.exp(-0.5 * (((grid.T - [4, 0, 0]) / 2.5) ** 2).sum(axis=-1)).T
    truth = np.stack([blob, blob * np.sin(grid[1] / 2)])
    white = gaussian_filter(rng.standard_normal((2, 2, *blob.shape)), (0, 0, 1, 1, 1))
    seen = truth + noise * white / white.std()
    return seen[0].astype(np.float32), seen[1].astype(np.float32)


def test_it_is_large_where_the_molecule_changes_and_small_where_halves_have_noise() -> None:
    first, second = _halves(0.15)
    weight = spatial_weight(first, second, K_C)
    assert weight.max() == 1 and weight.min() >= LEAST
    place = np.unravel_index(weight.argmax(), weight.shape)
    assert np.linalg.norm(np.array(place) - [16, 12, 12]) < 2.5
    grid = np.indices((BOX,) * 3) - BOX // 2
    far = (((grid.T - [4, 0, 0]) ** 2).sum(axis=-1) > 10**2).T
    assert weight[far].mean() < 0.2
    # one half alone, noise and all, would say that all of the box varies
    assert spatial_weight(first, first, K_C)[far].mean() > 2 * weight[far].mean()


def test_it_does_not_depend_on_the_axes_of_either_half() -> None:
    first, second = _halves(0.1)
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = combined(first, turn)
    plain = spatial_weight(along(first, second), second, K_C)
    assert np.allclose(spatial_weight(along(turned, second), second, K_C), plain, atol=1e-4)


def test_halves_that_have_nothing_in_common_say_nothing() -> None:
    first, _ = _halves(0.0)
    assert np.all(spatial_weight(first, -first, K_C) == 1)
