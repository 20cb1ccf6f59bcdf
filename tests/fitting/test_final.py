"""From the merged halves to the final model."""

from __future__ import annotations

import numpy as np

from solvar.estimation.latents import combined
from solvar.fitting.final import with_finer_shells
from solvar.imaging.fourier import crop_volume


def test_columns_that_others_explain_take_their_finer_shells() -> None:
    rng = np.random.default_rng(0)
    finer = rng.standard_normal((5, 16, 16, 16)).astype(np.float32)
    wanted = combined(finer, rng.standard_normal((5, 3)))
    one = np.zeros(3, np.int64)
    found = with_finer_shells(crop_volume(wanted, 8), one, finer, np.zeros(5, np.int64))
    # the shells of the coarse grid's Nyquist frequency belong to neither
    within = [crop_volume(crop_volume(each, 14), 16) for each in (found, wanted)]
    np.testing.assert_allclose(within[0], within[1], atol=2e-3)


def test_coarse_shells_stay_what_they_are_and_blocks_apart() -> None:
    rng = np.random.default_rng(1)
    finer = rng.standard_normal((4, 16, 16, 16)).astype(np.float32)
    columns = rng.standard_normal((2, 8, 8, 8)).astype(np.float32)
    columns = crop_volume(crop_volume(columns, 7), 8)
    onto = np.array([0, 0, 1, 1])
    found = with_finer_shells(columns, np.array([0, 1]), finer, onto)
    np.testing.assert_allclose(crop_volume(found, 8), columns, atol=1e-3)
    beyond = found - crop_volume(crop_volume(found, 8), 16)
    finest = finer - crop_volume(crop_volume(finer, 8), 16)
    for number, own in enumerate((slice(0, 2), slice(2, 4))):
        basis = finest[own].reshape(2, -1).T
        left = np.linalg.lstsq(basis, beyond[number].ravel(), rcond=None)[1]
        assert left < 1e-4 * np.vdot(beyond[number], beyond[number])
