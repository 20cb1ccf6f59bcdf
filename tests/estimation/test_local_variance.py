"""Where density changes: two halves crossed are free of the noise of either, and their error is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from solvar.estimation.local_variance import local_variance

BOX, WAVE, NOISE = 24, 4.0, 0.3


def halves(rng: np.random.Generator, component: np.ndarray, noise: float = NOISE):
    """A component as two halves see it, with smooth noise of a standard deviation."""
    for _ in range(2):
        white = gaussian_filter(rng.standard_normal((BOX,) * 3), WAVE / 4)
        yield (component + noise * white / white.std()).astype(np.float32)


def blob() -> np.ndarray:
    grid = np.indices((BOX,) * 3) - BOX // 2
    return np.exp(-0.5 * ((grid / 4.0) ** 2).sum(axis=0))


def test_variance_is_that_of_the_components_on_average_and_so_is_its_error() -> None:
    rng, component = np.random.default_rng(0), blob()
    found = [local_variance([tuple(halves(rng, component))], WAVE) for _ in range(60)]
    variance = np.stack([each.variance for each in found])
    strong = component > 0.5
    np.testing.assert_allclose(variance.mean(axis=0)[strong], component[strong] ** 2, atol=0.15)
    assert abs(variance.mean(axis=0)[~strong].mean() - (component**2)[~strong].mean()) < 0.005
    told = np.mean([each.error**2 for each in found], axis=0)
    ratio = variance.var(axis=0)[strong].mean() / told[strong].mean()
    assert ratio == pytest.approx(1, abs=0.25)


def test_noise_alone_changes_nowhere() -> None:
    rng = np.random.default_rng(1)
    pairs = [tuple(halves(rng, np.zeros((BOX,) * 3))) for _ in range(3)]
    found = local_variance(pairs, WAVE)
    assert (found.spread > 0).mean() < 0.02
    # each half alone would have the square of its noise everywhere
    assert abs(found.variance.mean()) < 0.1 * 3 * NOISE**2


def test_what_halves_agree_on_is_certain() -> None:
    pair = tuple(halves(np.random.default_rng(2), 2 * blob(), noise=0.05))
    spread = local_variance([pair], WAVE).spread
    centre = BOX // 2
    assert spread[centre, centre, centre] == pytest.approx(2, rel=0.1)
