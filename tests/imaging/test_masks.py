"""Masks: shape, resampling, and what is refused."""

import mrcfile
import numpy as np
import pytest

from solvar.errors import InputError
from solvar.imaging.masks import default_mask, read_mask, resample_mask, soft_sphere


def write(path, volume, pixel_size):
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.asarray(volume, dtype=np.float32))
        file.voxel_size = pixel_size
    return path


@pytest.mark.parametrize("box", [32, 33])
def test_sphere_is_one_inside_zero_outside_and_centred(box):
    sphere = soft_sphere(box, 24)
    centre = box // 2
    assert sphere.dtype == np.float32
    assert sphere[centre, centre, centre] == 1
    assert sphere[centre, centre, centre + 12] == 0  # the edge ends at the diameter
    assert sphere[centre, centre, centre + 9] == 1  # and is two voxels wide
    assert 0 < sphere[centre, centre, centre + 11] < 1
    for axis in range(3):
        low, high = centre - 12, centre + 13
        inner = sphere[low:high, low:high, low:high]
        np.testing.assert_array_equal(inner, np.flip(inner, axis))


def test_default_mask_takes_85_percent_of_the_box():
    assert np.array_equal(default_mask(32, 3.0, None), soft_sphere(32, 0.85 * 32))
    assert np.array_equal(default_mask(32, 3.0, 60.0), soft_sphere(32, 20))


@pytest.mark.parametrize("diameter", [5.0, 97.0])
def test_a_diameter_that_does_not_fit_is_refused(diameter):
    with pytest.raises(InputError, match="does not fit a box of 96 Å"):
        default_mask(32, 3.0, diameter)


@pytest.mark.parametrize("box", [24, 32, 48])
def test_resampling_keeps_the_mask_and_its_soft_edge(box):
    """The same physical sphere, with the same edge width, on another grid."""
    original = soft_sphere(48, 36)
    resampled = resample_mask(original, box)
    axis = (np.arange(box) - box // 2) * 48 / box
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    edge = np.clip((18 - radius) / 2.88, 0, 1)
    expected = 0.5 - 0.5 * np.cos(np.pi * edge)
    assert resampled.min() >= 0 and resampled.max() <= 1
    # a band limit of half the samples leaves ripples of a few percent at the edge
    assert np.abs(resampled - expected).max() < 0.12
    assert np.sqrt(np.mean((resampled - expected) ** 2)) < 0.02


def test_mask_file_of_the_same_extent_is_resampled(tmp_path):
    path = write(tmp_path / "mask.mrc", soft_sphere(48, 36), 2.0)
    mask = read_mask(path, 32, 3.0)
    assert mask.shape == (32, 32, 32)
    np.testing.assert_allclose(mask, resample_mask(soft_sphere(48, 36), 32), atol=1e-6)


def test_mask_of_another_extent_is_refused(tmp_path):
    path = write(tmp_path / "mask.mrc", soft_sphere(32, 20), 2.0)
    with pytest.raises(InputError, match=r"mask\.mrc: the mask spans 64\.0 Å .* 96\.0 Å"):
        read_mask(path, 32, 3.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [((-0.5, 1), "between 0 and 1"), ((0, 7), "between 0 and 1"), ((0, 0.2), "empty")],
)
def test_values_that_are_no_mask_are_refused(tmp_path, values, message):
    low, high = values
    path = write(tmp_path / "mask.mrc", low + (high - low) * soft_sphere(16, 12), 3.0)
    with pytest.raises(InputError, match=message):
        read_mask(path, 16, 3.0)
