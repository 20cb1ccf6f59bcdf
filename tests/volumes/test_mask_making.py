"""Masks made of maps on disk."""

import numpy as np
import pytest

from imaging.test_density_mask import CENTRES, blobs, halves
from solvar.errors import InputError
from solvar.volume_file import write_volume
from solvar.volumes.mask_making import MaskSettings, make_mask

PIXEL = 3.0


@pytest.fixture
def maps(tmp_path):
    paths = [tmp_path / f"half{number}.mrc" for number in (1, 2)]
    for path, half in zip(paths, halves(blobs(48, CENTRES), 0.02), strict=True):
        write_volume(path, half, PIXEL)
    return paths


@pytest.mark.parametrize("count", [1, 2])
def test_a_map_and_two_half_maps_give_nearly_the_same_mask(maps, count):
    made = make_mask(maps[:count])
    assert made.pixel_size_angstrom == pytest.approx(PIXEL)
    volume = blobs(48, CENTRES)
    assert np.sum(made.mask * volume) > 0.98 * np.sum(volume)
    assert made.mask.mean() < 0.1


def test_settings_are_in_angstrom(maps):
    narrow = make_mask(maps, MaskSettings(extend=3.0, soft_edge=6.0)).mask
    wide = make_mask(maps, MaskSettings(extend=15.0, soft_edge=6.0)).mask
    assert (wide >= narrow).all()
    # along a line from the centre: four voxels further out
    out = [int(np.flatnonzero(mask[24, 24, 24:] > 0.5).max()) for mask in (narrow, wide)]
    assert out[1] - out[0] == pytest.approx(4, abs=1)
    hard = make_mask(maps, MaskSettings(soft_edge=0.0)).mask
    assert np.mean((hard > 0.01) & (hard < 0.99)) < 0.01


def test_a_threshold_is_taken_and_the_complement_is_the_rest(maps):
    low, high = (make_mask(maps[:1], MaskSettings(threshold=t)).mask.sum() for t in (0.1, 0.6))
    assert low > high
    mask = make_mask(maps).mask
    rest = make_mask(maps, MaskSettings(complement=True)).mask
    assert rest[24, 24, 24] == 0 and mask[24, 24, 24] == 1
    assert (mask + rest)[24, 24, 4:44] == pytest.approx(1)


def test_what_makes_no_mask_is_told(maps, tmp_path):
    other, blank = tmp_path / "other.mrc", tmp_path / "blank.mrc"
    write_volume(other, np.zeros((32,) * 3), PIXEL)
    write_volume(blank, np.zeros((48,) * 3), 2 * PIXEL)
    refused = {
        "a box of 32 voxels": ([maps[0], other], {}),
        "voxels of 6 Å": ([maps[0], blank], {}),
        "above the threshold": (maps[:1], {"threshold": 9.0}),
        "stands out": ([blank, blank], {}),
        "for one map": (maps, {"threshold": 0.1}),
        "3 maps": ([*maps, other], {}),
    }
    for words, (given, settings) in refused.items():
        with pytest.raises(InputError, match=words):
            make_mask(given, MaskSettings(**settings))
