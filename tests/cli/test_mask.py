"""`solvar mask`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from imaging.test_density_mask import CENTRES, blobs
from solvar.cli.main import app
from solvar.volume_file import read_volume, write_volume


def ended(*arguments):
    return CliRunner().invoke(app, ["mask", *map(str, arguments)])


@pytest.fixture
def map_(tmp_path) -> Path:
    path = tmp_path / "map.mrc"
    write_volume(path, blobs(32, CENTRES), 3.0)
    return path


def test_a_mask_and_its_picture_are_written_and_kept(map_, tmp_path):
    mask = tmp_path / "mask.mrc"
    assert ended(map_, "-o", mask).exit_code == 0
    volume, pixel_size = read_volume(mask)
    assert volume.max() == 1 and pixel_size == pytest.approx(3.0)
    assert mask.with_suffix(".png").stat().st_size > 5000
    again = ended(map_, "-o", mask, "--extend", 9)
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    assert ended(map_, "-o", mask, "--extend", 9, "--overwrite").exit_code == 0
    assert read_volume(mask)[0].sum() > volume.sum()


@pytest.mark.parametrize(
    ("output", "words"), [("map.mrc", "is an input"), ("mask.txt", "end it with .mrc")]
)
def test_outputs_that_cannot_be_are_refused(map_, tmp_path, output, words):
    before = map_.read_bytes()
    done = ended(map_, "-o", tmp_path / output)
    assert done.exit_code == 2 and words in done.stderr
    assert map_.read_bytes() == before
