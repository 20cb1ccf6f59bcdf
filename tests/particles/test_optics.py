"""Magnification and aberrations of optics groups, as particle files tell of them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import starfile

from export.runs import make_run
from particles import particle_files as files
from particles.particle_files import COLUMNS_30, COLUMNS_31, OPTICS_31, changed
from solvar.errors import InputError
from solvar.export import export
from solvar.particles import ParticleSet, read_particles
from solvar.particles.cryodrgn_write import refuse_what_cryodrgn_lacks
from solvar.particles.relion_write import write_star

ABERRATIONS = {
    "rlnMagMat00": "1.01",
    "rlnMagMat01": "0.002",
    "rlnMagMat10": "0.003",
    "rlnMagMat11": "0.99",
    "rlnBeamTiltX": "0.3",
    "rlnBeamTiltY": "-0.2",
    "rlnOddZernike": "[0.1,-0.2,30.5,0,0,1e-3]",
    "rlnEvenZernike": "[1,2,3,4,5,6,7,8,9]",
}
PERFECT = {
    **dict.fromkeys(ABERRATIONS, "0.0"),
    "rlnMagMat00": "1.000000",
    "rlnMagMat11": "1.0",
    "rlnOddZernike": "[0,0,0]",
    "rlnEvenZernike": "[0.0,0]",
}
FIELDS = ("magnification", "beam_tilt_mrad", "odd_zernike", "even_zernike")


def _star(folder, aberrations: dict[str, str]):
    labels = "".join(f"_{name} #{i}\n" for i, name in enumerate(aberrations, 9))
    optics = OPTICS_31.replace("\n1 krios", f"\n{labels}1 krios").rstrip()
    return files.write_star31(folder, optics=f"{optics} {' '.join(aberrations.values())}\n")


def _told(particles: ParticleSet) -> list:
    return [getattr(particles.optics, field) for field in FIELDS]


def test_a_star_file_tells_of_its_optics(tmp_path):
    magnification, tilt, odd, even = _told(read_particles(_star(tmp_path, ABERRATIONS)))
    np.testing.assert_array_equal(magnification, [[[1.01, 0.002], [0.003, 0.99]]])
    np.testing.assert_array_equal(tilt, [[0.3, -0.2]])
    np.testing.assert_array_equal(odd, [[0.1, -0.2, 30.5, 0, 0, 1e-3]])
    np.testing.assert_array_equal(even, [np.arange(1.0, 10)])


def test_a_perfect_microscope_is_nothing_at_all(tmp_path, caplog):
    plain = tmp_path / "plain"
    plain.mkdir()
    expected = read_particles(files.write_star31(plain))
    with caplog.at_level(logging.INFO):
        found = read_particles(_star(tmp_path, PERFECT))
    assert _told(found) == [None] * 4 and found.grid.stretch is None
    assert found.digest() == expected.digest() and not caplog.records


def test_a_beam_tilt_stands_in_for_the_coma_of_a_list(tmp_path):
    both = {**PERFECT, "rlnBeamTiltX": "0.3", "rlnOddZernike": "[0.1,0,2,-5,6,3]"}
    np.testing.assert_array_equal(
        read_particles(_star(tmp_path, both)).optics.odd_zernike, [[0.1, 0, 2, 0, 0, 3]]
    )


def test_an_old_star_file_tells_of_tilt_beside_each_particle(tmp_path):
    tilt = ["0.1"] * 4 + ["0.4"] * 2
    columns = changed(COLUMNS_30, rlnBeamTiltX=tilt, rlnBeamTiltY=["0"] * 6)
    particles = read_particles(files.write_star30(tmp_path, columns))
    assert particles.exposures.optics_group.tolist() == [0, 0, 0, 0, 1, 1]
    np.testing.assert_array_equal(particles.optics.beam_tilt_mrad, [[0.1, 0], [0.4, 0]])
    chosen = read_particles(tmp_path / "particles.star", ind=[5])
    np.testing.assert_array_equal(chosen.optics.beam_tilt_mrad, [[0.4, 0]])


def _cs(folder, **fields):
    table = files.cs_table()
    values = {name: table[name] for name in table.dtype.names}
    return files.write_cs(folder, files.structured({**values, **fields}))


def test_cryosparc_stores_its_magnification_without_the_identity(tmp_path):
    excess = np.zeros((files.COUNT, 4), np.float32)
    assert read_particles(_cs(tmp_path, **{"ctf/anisomag": excess})).optics.magnification is None
    excess[2:] = [0.01, 0.002, 0.003, -0.01]
    particles = read_particles(_cs(tmp_path, **{"ctf/anisomag": excess}))
    assert particles.exposures.optics_group.tolist() == [0, 0, 1, 1, 1, 1]
    expected = [np.eye(2), [[1.01, 0.002], [0.003, 0.99]]]
    np.testing.assert_allclose(particles.optics.magnification, expected, atol=1e-7)


def test_aberrations_of_cryosparc_are_mentioned(tmp_path, caplog):
    nothing = np.zeros((files.COUNT, 2), np.float32)
    read_particles(_cs(tmp_path, **{"ctf/tilt_A": nothing, "ctf/trefoil_A": nothing}))
    assert not caplog.records
    read_particles(_cs(tmp_path, **{"ctf/tilt_A": nothing + 10, "ctf/trefoil_A": nothing}))
    assert "ctf/tilt_A not corrected for" in caplog.text and "trefoil" not in caplog.text


@pytest.mark.parametrize(("name", "value"), [("tilt", 3e4), ("trefoil", np.nan), ("shift", 1.0)])
def test_aberrations_of_cryosparc_that_images_show_are_refused(tmp_path, name, value):
    values = np.zeros((files.COUNT, 2), np.float32)
    values[2] = value
    words = f"row 3, column ctf/{name}_A: is a phase of .*pass a star file with rlnBeamTiltX"
    with pytest.raises(InputError, match=words):
        read_particles(_cs(tmp_path, **{f"ctf/{name}_A": values}))


def test_factors_of_the_ctf_that_differ_are_refused(tmp_path):
    scale = np.full(files.COUNT, 0.5, np.float32)
    read_particles(_cs(tmp_path, **{"ctf/scale": scale}))
    scale[4] = 0.6
    with pytest.raises(InputError, match=r"row 5, column ctf/scale: is 0.6 here and 0.5 in row 1"):
        read_particles(_cs(tmp_path, **{"ctf/scale": scale}))


def test_exports_to_relion_keep_what_the_optics_tell(tmp_path):
    particles = read_particles(_star(tmp_path, ABERRATIONS))
    write_star(tmp_path / "out.star", particles)
    (path,) = export(make_run(tmp_path, particles), "relion", tmp_path / "exported").files
    for found in (read_particles(tmp_path / "out.star"), read_particles(path)):
        for ours, theirs in zip(_told(found), _told(particles), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    optics = starfile.read(path)["optics"]
    assert optics["rlnOddZernike"].tolist() == [ABERRATIONS["rlnOddZernike"]]


def test_magnification_goes_to_and_fro_between_relion_and_cryosparc(tmp_path):
    star = tmp_path / "star"
    star.mkdir()
    only = {name: v for name, v in ABERRATIONS.items() if "Mag" in name}
    particles = read_particles(_star(star, only))
    (path,) = export(make_run(star, particles), "cryosparc", tmp_path / "cs").files
    there = read_particles(path)
    np.testing.assert_allclose(
        there.optics.magnification, particles.optics.magnification, atol=1e-7
    )
    (tmp_path / "back").mkdir()
    (path,) = export(make_run(tmp_path / "back", there), "relion", tmp_path / "star2").files
    back = read_particles(path).optics.magnification
    np.testing.assert_allclose(back, particles.optics.magnification, atol=1e-6)


def test_an_old_star_file_with_tilts_is_exported_with_an_optics_table(tmp_path):
    columns = changed(COLUMNS_30, rlnBeamTiltX=["0.1"] * 6, rlnBeamTiltY=["0.2"] * 6)
    particles = read_particles(files.write_star30(tmp_path, columns))
    (path,) = export(make_run(tmp_path, particles), "relion", tmp_path / "exported").files
    written = starfile.read(path)
    assert "rlnBeamTiltX" not in written["particles"].columns
    np.testing.assert_array_equal(read_particles(path).optics.beam_tilt_mrad, [[0.1, 0.2]])


def test_what_a_format_cannot_express_is_refused(tmp_path):
    particles = read_particles(_star(tmp_path, ABERRATIONS))
    run = make_run(tmp_path, particles)
    for target, words in (("cryodrgn", "cryoDRGN's files have no place"), ("cryosparc", "tilt")):
        with pytest.raises(InputError, match=words):
            export(run, target, tmp_path / target)
        assert not (tmp_path / target).exists()


def test_cryodrgn_takes_images_of_one_size(tmp_path):
    files.write_stack(tmp_path / "fine.mrcs", np.ones((3, 16, 16), np.float32))
    names = [f"{i % 3 + 1}@{'fine' if i > 2 else 'stack'}.mrcs" for i in range(6)]
    columns = changed(COLUMNS_31, rlnOpticsGroup=["1"] * 3 + ["2"] * 3, rlnImageName=names)
    optics = OPTICS_31 + "2 talos 300.0 2.7 0.1 1.0 16 2\n"
    particles = read_particles(files.write_star31(tmp_path, columns, optics=optics))
    with pytest.raises(InputError, match="images of several sizes"):
        refuse_what_cryodrgn_lacks(particles)
    refuse_what_cryodrgn_lacks(read_particles(tmp_path / "particles.star", ind=[0, 1]))


FLIPPED, MULTIPLIED = "rlnCtfDataArePhaseFlipped", "rlnCtfDataAreCtfPremultiplied"


def _recorded(particles: ParticleSet) -> list:
    return [
        None if flags is None else flags[particles.exposures.optics_group].tolist()
        for flags in (particles.optics.phase_flipped, particles.optics.premultiplied)
    ]


@pytest.mark.parametrize("old", [False, True])
def test_what_pixels_are_may_stand_beside_each_particle_and_is_exported(tmp_path, old):
    write, columns = (files.write_star30, COLUMNS_30) if old else (files.write_star31, COLUMNS_31)
    flags = {FLIPPED: ["0"] * 2 + ["1"] * 4, MULTIPLIED: ["0"] * 4 + ["1"] * 2}
    particles = read_particles(write(tmp_path, changed(columns, **flags)))
    expected = [[False] * 2 + [True] * 4, [False] * 4 + [True] * 2]
    assert _recorded(particles) == expected
    some = read_particles(tmp_path / "particles.star", ind=[0, 1])
    assert _recorded(some) == [None, None]
    write_star(tmp_path / "out.star", particles)
    (path,) = export(make_run(tmp_path, particles), "relion", tmp_path / "exported").files
    for found in (tmp_path / "out.star", path):
        assert _recorded(read_particles(found)) == expected


def test_images_as_they_were_recorded_need_no_column(tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir()
    expected = read_particles(files.write_star31(plain))
    found = read_particles(_star(tmp_path, {FLIPPED: "0", MULTIPLIED: "0"}))
    assert _recorded(found) == [None, None] and found.digest() == expected.digest()


@pytest.mark.parametrize("column", [FLIPPED, MULTIPLIED])
def test_what_pixels_are_is_not_lost_on_the_way(tmp_path, column):
    path = _star(tmp_path, {column: "1"})
    (tmp_path / "pickled").mkdir()
    ctf = files.write_cryodrgn(tmp_path / "pickled")["ctf"]
    with pytest.raises(InputError, match=f"{column}: is 1, but with --ctf .*leave --ctf out"):
        read_particles(path, ctf=ctf)
    run = make_run(tmp_path, read_particles(path))
    for target in ("cryodrgn", "cryosparc"):
        with pytest.raises(InputError, match=r"flipped|multiplied by their CTF"):
            export(run, target, tmp_path / target)
