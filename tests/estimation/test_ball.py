"""The coefficients up to k_c: there and back, and the order of the full grid."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from solvar.estimation.ball import Ball
from solvar.imaging.fourier import volume_shells


@pytest.mark.parametrize(("box", "k_c"), [(12, 5), (13, 6), (16, 4)])
def test_coefficients_are_those_of_the_grid_up_to_k_c(box: int, k_c: int) -> None:
    volumes = np.random.default_rng(0).standard_normal((2, box, box, box)).astype(np.float32)
    ball, inside = Ball(box, k_c), volume_shells(box) <= k_c
    grid = scipy.fft.rfftn(volumes, axes=(1, 2, 3))
    found = ball.spectrum(volumes)
    np.testing.assert_array_equal(found, grid[:, inside])
    wanted = scipy.fft.irfftn(grid * inside, s=(box,) * 3, axes=(1, 2, 3))
    np.testing.assert_allclose(ball.volumes(found), wanted, atol=1e-6)
    flat = np.arange(k_c + 1.0)
    full = ball.on_grid(ball.expand(flat), np.inf).reshape(inside.shape)
    assert np.all(np.isinf(full) == ~inside) and np.all(full[inside] == volume_shells(box)[inside])
