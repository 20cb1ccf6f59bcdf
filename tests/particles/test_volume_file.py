"""Volumes on disk."""

from __future__ import annotations

import mrcfile
import numpy as np
import pytest

from solvar.errors import InputError
from solvar.volume_file import read_volume, write_volume

VOLUME = np.random.default_rng(0).standard_normal((6, 6, 6)).astype(np.float32)


def test_volume_and_pixel_size_make_the_round_trip(tmp_path):
    write_volume(tmp_path / "v.mrc", VOLUME, 1.25)
    volume, pixel_size = read_volume(tmp_path / "v.mrc")
    np.testing.assert_array_equal(volume, VOLUME)
    assert pixel_size == pytest.approx(1.25)
    assert mrcfile.validate(tmp_path / "v.mrc")
    with mrcfile.open(tmp_path / "v.mrc") as file:
        assert file.header.origin.item() == (0.0, 0.0, 0.0)
        assert file.is_volume()
    assert [p.name for p in tmp_path.iterdir()] == ["v.mrc"]


@pytest.mark.parametrize(
    ("volume", "pixel_size", "problem"),
    [
        (VOLUME[:4], 1.0, "not cubic"),
        (np.where(VOLUME > 1, np.nan, VOLUME), 1.0, "NaN"),
        (VOLUME, 0.0, "pixel size"),
    ],
)
def test_nonsense_is_not_written(tmp_path, volume, pixel_size, problem):
    with pytest.raises(InputError, match=problem):
        write_volume(tmp_path / "v.mrc", volume, pixel_size)
    assert not list(tmp_path.iterdir())


def _write(path, data):
    with mrcfile.new(path) as file:
        file.set_data(data)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda p: None, "no such file"),
        (lambda p: p.write_bytes(b"nonsense" * 300), "is not an MRC file"),
        (lambda p: _write(p, VOLUME[:4]), "not a cubic volume .4 × 6 × 6 voxels"),
        (lambda p: _write(p, VOLUME[0]), "not a cubic volume"),
        (lambda p: _write(p, np.where(VOLUME > 1, np.inf, VOLUME)), "NaN or infinite"),
        (lambda p: _write(p, VOLUME.astype(np.complex64)), "has MRC mode 4"),
    ],
)
def test_unusable_volume_is_explained(tmp_path, make, problem):
    path = tmp_path / "v.mrc"
    make(path)
    with pytest.raises(InputError, match=problem):
        read_volume(path)


def test_truncated_volume_is_refused(tmp_path):
    write_volume(tmp_path / "v.mrc", VOLUME, 1.0)
    (tmp_path / "v.mrc").write_bytes((tmp_path / "v.mrc").read_bytes()[:-8])
    with pytest.raises(InputError, match="is truncated"):
        read_volume(tmp_path / "v.mrc")
