"""Constants that a file lacks can be given, and never contradict the file."""

import json
import pickle
from dataclasses import asdict

import numpy as np
import pytest

from particles import particle_files as files
from particles.particle_files import COLUMNS_30, OPTICS_31, changed
from solvar.errors import InputError
from solvar.particles import Reading, read_particles

GIVEN = {"pixel_size": 2.0, "voltage": 300.0, "cs": 2.7, "amplitude_contrast": 0.1}
CS_COLUMNS = ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast", "blob/psize_A")


def star_without_optics(folder, whole):
    return {"path": files.write_star31(folder, **({} if whole else {"optics": ""}))}


def old_star(folder, whole):
    lost = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnMagnification")
    columns = COLUMNS_30 if whole else changed(COLUMNS_30, lost)
    return {"path": files.write_star30(folder, columns)}


def star_without_values(folder, whole):
    text = OPTICS_31 if whole else OPTICS_31.replace("300.0 2.7 0.1 2.0", "nan nan nan nan")
    return {"path": files.write_star31(folder, optics=text)}


def cryosparc(folder, whole):
    drop = () if whole else (*CS_COLUMNS, "alignments3D/psize_A")
    return {"path": files.write_cs(folder, files.cs_table(drop, alignment_apix=files.APIX))}


def cryodrgn(folder, whole):
    return files.write_cryodrgn(folder)


FORMATS = [star_without_optics, old_star, star_without_values, cryosparc, cryodrgn]


@pytest.mark.parametrize("make", FORMATS)
def test_given_constants_take_the_place_of_missing_ones(make, tmp_path):
    wanted = read_particles(**make(tmp_path, True))
    found = read_particles(**make(tmp_path, False), **GIVEN)
    for field in ("voltage_kv", "spherical_aberration_mm", "amplitude_contrast"):
        np.testing.assert_array_equal(getattr(found.optics, field), getattr(wanted.optics, field))
    np.testing.assert_allclose(
        found.optics.pixel_size_angstrom, wanted.optics.pixel_size_angstrom, rtol=1e-12
    )
    np.testing.assert_allclose(
        found.poses.shift_angstrom, wanted.poses.shift_angstrom, rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("make", FORMATS)
def test_a_constant_that_contradicts_the_file_is_refused_with_both_values(make, name, tmp_path):
    arguments = make(tmp_path, True)
    assert len(read_particles(**arguments, **GIVEN)) == files.COUNT
    other = {name: GIVEN[name] * 1.01}
    with pytest.raises(InputError) as caught:
        read_particles(**arguments, **other)
    option = "--" + name.replace("_", "-")
    said = f"has {GIVEN[name]:g}, but {option} says {other[name]:g}"
    assert said in str(caught.value) and str(tmp_path) in str(caught.value)
    assert caught.value.column is not None


def test_pixel_size_scales_origins_in_pixels_beside_a_ctf_pickle(tmp_path):
    path = files.write_star30(tmp_path, changed(COLUMNS_30, ("rlnMagnification",)))
    with (tmp_path / "ctf.pkl").open("wb") as file:
        pickle.dump(files.ctf_rows(), file)
    found = read_particles(path, ctf=tmp_path / "ctf.pkl", pixel_size=files.APIX)
    np.testing.assert_allclose(found.poses.shift_angstrom, files.SHIFT)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"voltage": 300000}, "--voltage 300000 is outside .*volts"),
        ({"pixel_size": 0}, "--pixel-size 0 is outside"),
        ({"cs": float("nan")}, "--cs nan is outside"),
        ({"amplitude_contrast": 10}, "--amplitude-contrast 10 is outside .*fraction"),
    ],
)
def test_an_absurd_constant_is_refused(given, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        read_particles(files.write_star31(tmp_path), **given)


def test_the_digest_of_particles_follows_given_constants(tmp_path):
    path = files.write_star31(tmp_path, optics="")
    one = read_particles(path, **GIVEN)
    assert one.digest() == read_particles(path, **GIVEN).digest()
    for name, value in GIVEN.items():
        other = read_particles(path, **{**GIVEN, name: 1.1 * value})
        assert other.digest() != one.digest()


def test_a_record_of_given_constants_reads_the_same(tmp_path):
    reading = Reading(voltage=np.float32(300), cs=0, working_folder=tmp_path)
    record = json.loads(json.dumps(asdict(reading), default=str))
    assert Reading.of_record(record) == reading
    assert reading.updated({"voltage": None, "cs": 2.7}).constants == {
        "voltage_kv": 300.0,
        "spherical_aberration_mm": 2.7,
    }
