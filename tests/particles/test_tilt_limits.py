"""`--tilts` and `--dose`: which images of tilt series are used, and what is said of the others."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from particles.particle_files import write_star31
from particles.tilt_files import DOSE, write_tilts
from solvar.cli.main import app
from solvar.errors import InputError
from solvar.particles import Reading, read_as, read_particles


def test_the_first_exposures_are_those_of_the_least_dose(tmp_path):
    path = write_tilts(tmp_path)
    whole, two = read_particles(path), read_particles(path, tilts=2)
    assert two.exposures.ctf.dose_per_angstrom2.tolist() == [2, 4, 2, 4]
    assert two.image_row.tolist() == [3, 4, 1, 2] and two.exposures.particle.tolist() == [
        0,
        0,
        1,
        1,
    ]
    np.testing.assert_array_equal(two.uid, whole.uid)
    np.testing.assert_array_equal(two.poses.rotation, whole.poses.rotation)
    np.testing.assert_array_equal(
        two.image_poses.rotation, whole.image_poses.rotation[[1, 2, 3, 4]]
    )
    assert read_particles(path, tilts=3).image_row.tolist() == whole.image_row.tolist()


def test_a_dose_is_what_the_specimen_had_received(tmp_path):
    path = write_tilts(tmp_path)
    found = read_particles(path, dose=4)
    assert sorted(found.image_row) == [row for row, dose in enumerate(DOSE) if dose <= 4]
    both = read_particles(path, dose=4, tilts=1)
    assert both.exposures.ctf.dose_per_angstrom2.tolist() == [2, 2]
    again = read_as(path, Reading.of_record({"dose": 4.0, "tilts": 1}))
    assert again.digest() == both.digest()


def test_exposures_that_a_particle_has_no_image_of_count(tmp_path):
    # of particle a the first exposure of their tomogram is hidden, and row 1 is one of its own
    named = {"rlnMicrographName": [f"{dose:g}.mrc" for dose in [6.0, 8.0, 4.0, 2.0, 4.0, 6.0]]}
    doses = {"rlnCtfBfactor": [-4 * dose for dose in [6.0, 8.0, 4.0, 2.0, 4.0, 6.0]]}
    path = write_tilts(tmp_path, **named, **doses)
    assert read_particles(path, tilts=2).image_row.tolist() == [3, 4, 2]


def test_particles_without_an_image_are_left_out_and_counted(tmp_path):
    doses = {"rlnCtfBfactor": [-4 * dose for dose in [6.0, 4.0, 8.0, 2.0, 4.0, 6.0]]}
    found = read_particles(write_tilts(tmp_path, **doses), dose=3)
    assert found.row.tolist() == [0] and found.image_row.tolist() == [3]
    assert "Particles without an image within --dose 3 were left out: 1." in found.remarks()
    with pytest.raises(InputError, match="--dose 1 leaves no image of any particle"):
        read_particles(write_tilts(tmp_path, **doses), dose=1)


@pytest.mark.parametrize(
    ("given", "name"), [({"tilts": 2}, "--tilts 2"), ({"dose": 9}, "--dose 9")]
)
def test_limits_need_tilts_and_doses(tmp_path, given, name):
    with pytest.raises(InputError, match=f"one image a particle, and {name} is for tilt series"):
        read_particles(write_star31(tmp_path), **given)
    micrographs = {"rlnMicrographName": [f"tilt{dose:g}.mrc" for dose in DOSE]}
    path = write_tilts(tmp_path, ("rlnCtfBfactor",), **micrographs)
    # the scale would tell an order, a wrong one
    with pytest.raises(InputError, match=f"has no doses, .* which tilts {name} means"):
        read_particles(path, **given)
    with pytest.raises(InputError, match="--tilts 0 leaves no image"):
        read_particles(path, tilts=0)


def test_check_takes_limits(tmp_path):
    path = write_tilts(tmp_path)
    told = CliRunner().invoke(app, ["check", str(path), "--tilts", "2"])
    assert "4 images" in told.output, told.output
