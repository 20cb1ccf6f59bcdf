"""Bands of some of their particles."""

from __future__ import annotations

import numpy as np

from solvar.estimation.band import Band
from toy_band import make_band


def test_some_particles_stand_for_all_by_their_share_of_the_information() -> None:
    band = make_band()
    some = np.arange(0, len(band.index), 4)
    thinned, counted = band.thinned(some), band.restricted(some)
    np.testing.assert_allclose(thinned.information, band.information / 4, rtol=1e-5)
    # they were not looked at: what they say themselves is close to it
    difference = thinned.shell_information / counted.shell_information - 1
    assert 0 < np.abs(difference[2:]).max() < 0.1
    assert thinned.count == len(some)


def test_all_particles_are_the_band_itself() -> None:
    band: Band = make_band()
    assert band.thinned(band.index) is band
